"""What a manifest's machines have to give at most, for `ray up` and KubeRay alike; wrong values count as none."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sweeps.clusters.amounts import amount
from sweeps.clusters.manifest import LAUNCHER, Document, at, list_at, mapping_at, number_at, text_at
from sweeps.source.marked import KeyPath

# Minutes from asking for a machine to work on it: the machine (1-2), the GPU driver (0-2), an image of 6 GB (2-4), Ray.
MACHINE_MINUTES, POD_MINUTES = 6.0, 8.0  # Kubernetes finds the node first, and installs the driver on it
NOTE = "robust-sweeps/node-start-minutes"  # an annotation


@dataclass(frozen=True)
class Group:
    """Machines of one kind."""

    name: str
    keys: KeyPath
    cpus: float
    gpus: float
    least: int = 0
    most: int = 1
    idle_seconds: float | None = None
    idle_keys: KeyPath = ()


@dataclass(frozen=True)
class Pool:
    """A head, and workers that come and go."""

    document: Document
    keys: KeyPath  # where the cluster begins in the document
    head: Group
    workers: tuple[Group, ...]
    most_workers: float  # of all kinds together
    start_minutes: float
    start_keys: KeyPath  # where the file says so; () where it does not, and we reckon
    idle_seconds: float | None = None  # of groups that do not say it themselves
    idle_keys: KeyPath = ()

    def counts(self) -> list[int]:
        """How many machines of each kind of worker there can be."""
        return [int(min(group.most, self.most_workers)) for group in self.workers]


def pools(document: Document) -> list[Pool]:
    """The clusters that a document starts."""
    if document.kind == LAUNCHER:
        return [_launcher_pool(document)]
    return [_kuberay_pool(document, keys) for keys in cluster_keys(document)]


def cluster_keys(document: Document) -> list[KeyPath]:
    """Where the RayClusterSpec is in a RayCluster or RayJob."""
    keys: dict[str, KeyPath] = {"RayCluster": ("spec",), "RayJob": ("spec", "rayClusterSpec")}
    found = keys.get(document.kind)
    return [found] if found is not None and mapping_at(document.value, *found) else []


def templates(document: Document, keys: KeyPath) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    """The pod specs of a KubeRay cluster, head first, with their places."""
    cluster = mapping_at(document.value, *keys)
    groups: list[KeyPath] = [("headGroupSpec",)]
    groups += [("workerGroupSpecs", position) for position in range(len(list_at(cluster, "workerGroupSpecs")))]
    for group in groups:
        yield (*keys, *group, "template", "spec"), mapping_at(cluster, *group, "template", "spec")


def pod_templates(document: Document) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    """The pod templates of any document, with their places: Ray's own, the submitter's of a job, other workloads'."""
    places = [place[:-1] for keys in cluster_keys(document) for place, _ in templates(document, keys)]
    others: list[KeyPath] = [("spec", "template")] if document.kind in ("Deployment", "StatefulSet", "Job") else []
    for place in (*places, *others, ("spec", "submitterPodTemplate")):
        if found := mapping_at(document.value, *place):
            yield place, found


def quantity(value: Any) -> float:
    """Of CPUs or devices: 4, "4" or "500m"; 0 where it is neither."""
    return amount(value) or 0.0


def _launcher_pool(document: Document) -> Pool:
    value = document.value
    default = number_at(value, "idle_timeout_minutes")
    head, groups = text_at(value, "head_node_type"), []
    for name, kind in mapping_at(value, "available_node_types").items():
        own = number_at(kind, "idle_timeout_s")
        keys: KeyPath = ("available_node_types", name)
        groups.append(
            Group(
                name,
                keys,
                number_at(kind, "resources", "CPU") or 0,
                number_at(kind, "resources", "GPU") or 0,
                int(number_at(kind, "min_workers") or 0),
                int(_first(number_at(kind, "max_workers"), 0 if name == head else number_at(value, "max_workers"), 0)),
                own if own is not None else default * 60 if default is not None else None,
                (*keys, "idle_timeout_s") if own is not None else ("idle_timeout_minutes",),
            )
        )
    found = next((group for group in groups if group.name == head), Group(head, ("head_node_type",), 0, 0))
    stated = number_at(value, "metadata", "node_start_minutes")
    return Pool(
        document,
        (),
        found,
        tuple(group for group in groups if group is not found),
        _first(number_at(value, "max_workers"), math.inf),
        _first(stated, MACHINE_MINUTES),
        ("metadata", "node_start_minutes") if stated is not None else (),
        default * 60 if default is not None else None,
        ("idle_timeout_minutes",),
    )


def _kuberay_pool(document: Document, keys: KeyPath) -> Pool:
    cluster = mapping_at(document.value, *keys)
    default = number_at(cluster, "autoscalerOptions", "idleTimeoutSeconds")
    workers = []
    for position, group in enumerate(list_at(cluster, "workerGroupSpecs")):
        place: KeyPath = (*keys, "workerGroupSpecs", position)
        own = number_at(group, "idleTimeoutSeconds")
        idle: KeyPath = (*place, "idleTimeoutSeconds")
        workers.append(
            Group(
                text_at(group, "groupName"),
                place,
                *_pod(group),
                int(number_at(group, "minReplicas") or 0),
                int(number_at(group, "maxReplicas") or 0),
                own if own is not None else _first(default, 60.0),  # KubeRay's own default
                idle if own is not None else (*keys, "autoscalerOptions", "idleTimeoutSeconds"),
            )
        )
    stated = quantity(text_at(document.value, "metadata", "annotations", NOTE))
    return Pool(
        document,
        keys,
        Group("head", (*keys, "headGroupSpec"), *_pod(mapping_at(cluster, "headGroupSpec"))),
        tuple(workers),
        math.inf,
        stated or POD_MINUTES,
        ("metadata", "annotations", NOTE) if stated else (),
        default,
        (*keys, "autoscalerOptions", "idleTimeoutSeconds"),
    )


def _pod(group: Any) -> tuple[float, float]:
    """CPUs and GPUs as Ray counts them: what `ray start` is told, else the first container's limits, else requests."""
    container = at(group, "template", "spec", "containers", 0)
    limits, requests = (mapping_at(container, "resources", name) for name in ("limits", "requests"))
    told = mapping_at(group, "rayStartParams")
    cpus = told.get("num-cpus", limits.get("cpu", requests.get("cpu", 0)))
    gpus = told.get("num-gpus", limits.get("nvidia.com/gpu", 0))
    return math.ceil(quantity(cpus)), quantity(gpus)


def _first(*numbers: float | None) -> float:
    return next((number for number in numbers if number is not None), 0.0)
