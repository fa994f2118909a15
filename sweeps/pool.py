"""What an autoscaling cluster may grow to, from its autoscaler's own configuration, which lies with the cluster's head.

Ray tells no driver of it: a head that was started with a configuration (`ray up`) has it in a file, KubeRay in the
cluster's resource. This reaches into internals of Ray, which is why the package is held to one minor release.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trainables.resources import HEAD, Demand, Node, capacity

# How long Ray's autoscaler itself waits for a machine: until it is granted, has started, and has Ray on it.
_STARTING = {
    "RAY_AUTOSCALER_RECONCILE_REQUEST_STATUS_TIMEOUT_S": 600,
    "RAY_AUTOSCALER_RECONCILE_ALLOCATE_STATUS_TIMEOUT_S": 3600,
    "RAY_AUTOSCALER_RECONCILE_RAY_INSTALL_STATUS_TIMEOUT_S": 1800,
}
_PATIENCE = 60.0  # seconds
_KUBERNETES = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Kind:
    """Machines that are alike, and how many of them there may be."""

    name: str
    node: Node
    at_most: int

    def __str__(self) -> str:
        return f"{self.at_most} x {self.name} ({self.node.cpus:g} CPUs, {self.node.gpus:g} GPUs)"


@dataclass(frozen=True)
class Pool:
    """The kinds that the autoscaler may start, and how many machines of all kinds together, the head not counted."""

    kinds: tuple[Kind, ...]
    at_most: int

    def __str__(self) -> str:
        words = " and ".join(str(kind) for kind in self.kinds) or "no machine"
        return words if sum(kind.at_most for kind in self.kinds) <= self.at_most else f"{self.at_most} of {words}"

    def machines(self, demand: Demand) -> list[Node]:
        """The pool at its largest: where not all may be there at once, those that hold the most of such workers."""
        worker = Demand(1, demand.cpus, demand.gpus)
        best = sorted(self.kinds, key=lambda kind: capacity(worker, [kind.node]), reverse=True)
        return [kind.node for kind in best for _ in range(kind.at_most)][: self.at_most]


def pool_of(configuration: Mapping[str, Any]) -> Pool:
    """Of an autoscaler's configuration, the file that `ray up` takes, with the resources of each kind filled in."""
    head = configuration.get("head_node_type")
    kinds = [
        Kind(name, _node(kind.get("resources") or {}), int(kind.get("max_workers", 0)))
        for name, kind in configuration["available_node_types"].items()
        if name != head or kind.get("max_workers", 0) > 0
    ]
    most = sum(kind.at_most for kind in kinds)
    return Pool(tuple(kinds), min(most, int(configuration.get("max_workers", most))))


def joined_pool() -> Pool | None:
    """Of the cluster that this process is connected to; None where nothing says that it grows."""
    import ray

    port = int(ray.get_runtime_context().gcs_address.rpartition(":")[2])
    if _is_head(ray.get_runtime_context().get_node_id()):
        found = configuration(port)
    else:
        task = ray.remote(num_cpus=0, resources={HEAD: 0.001})(configuration)
        try:
            found = ray.get(task.remote(port), timeout=_PATIENCE)
        except ray.exceptions.RayError:  # the package is not there, or the head has no time
            return None
    return pool_of(found) if found else None


def node_patience() -> float:
    """Seconds for which a cluster may try to start one machine before it gives up on that."""
    return sum(float(os.environ.get(name, seconds)) for name, seconds in _STARTING.items())


def configuration(port: int) -> dict[str, Any] | None:
    """Of the autoscaler that serves the head on this machine that listens on ``port``; None where there is none."""
    for words in _commands():
        known = dict(word.removeprefix("--").split("=", 1) for word in words if word.startswith("--") and "=" in word)
        if known.get("gcs-address", "").endswith(f":{port}") and "autoscaling-config" in known:
            found: dict[str, Any] = yaml.safe_load(Path(known["autoscaling-config"]).expanduser().read_text())
            return found
    return _of_kubernetes()


def _commands() -> Iterator[list[str]]:
    """Of the autoscalers that run on this machine."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it ended meanwhile
            continue
        if any(word.endswith("monitor.py") and "autoscaler" in word for word in words):
            yield words


def _of_kubernetes() -> dict[str, Any] | None:
    """KubeRay lets the head's pod read the resource that describes its cluster; the autoscaler lives on it, too."""
    cluster = os.environ.get("RAY_CLUSTER_NAME")
    if not cluster or not _KUBERNETES.exists():
        return None
    from ray.autoscaler._private.kuberay.node_provider import KubernetesHttpApiClient

    try:
        resource = KubernetesHttpApiClient(_KUBERNETES.read_text().strip()).get(f"rayclusters/{cluster}")
    except OSError:  # not allowed, or nobody there: the nodes that are there have to do
        return None
    return of_raycluster(resource)


def of_raycluster(resource: Mapping[str, Any]) -> dict[str, Any] | None:
    """An autoscaler's configuration from KubeRay's resource; None where the cluster does not grow."""
    from ray.autoscaler._private.kuberay import autoscaling_config

    spec = resource["spec"]
    if not spec.get("enableInTreeAutoscaling"):
        return None
    kinds = autoscaling_config._generate_available_node_types_from_ray_cr_spec(spec)
    return {"head_node_type": autoscaling_config._HEAD_GROUP_NAME, "available_node_types": kinds}


def _node(resources: Mapping[str, Any]) -> Node:
    return Node(float(resources.get("CPU", 0)), float(resources.get("GPU", 0)))


def _is_head(node: str) -> bool:
    import ray

    return any(each["NodeID"] == node and HEAD in each["Resources"] for each in ray.nodes())
