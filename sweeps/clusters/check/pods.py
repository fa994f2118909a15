"""Pods that Kubernetes would refuse or never place, and pods with more rights than a sweep needs."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from sweeps.clusters.amounts import amount
from sweeps.clusters.manifest import Document, Fault, at, list_at, mapping_at, text_at
from sweeps.clusters.pools import cluster_keys, pod_templates
from sweeps.source import did_you_mean
from sweeps.source.marked import KeyPath

_RESOURCES = ("cpu", "memory", "ephemeral-storage", "nvidia.com/gpu", "nvidia.com/gpu.shared", "amd.com/gpu")
_FAMILIES = ("hugepages-", "nvidia.com/mig-")
_POWERS = ("ALL", "SYS_ADMIN", "SYS_MODULE", "SYS_PTRACE", "NET_ADMIN")
_LEAST_GRACE = 10  # seconds: a checkpoint takes a few
_ACCELERATORS = (  # labels of nodes that say which GPUs they have
    "cloud.google.com/gke-accelerator",
    "k8s.amazonaws.com/accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
    "nvidia.com/gpu.product",
)
_MADE = ("ray-logs",)  # volumes that KubeRay adds
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_SPOT = {
    "cloud.google.com/gke-spot": "true",
    "cloud.google.com/gke-provisioning": "spot",
    "eks.amazonaws.com/capacityType": "SPOT",
    "karpenter.sh/capacity-type": "spot",
    "kubernetes.azure.com/scalesetpriority": "spot",
}


def pod_faults(document: Document) -> Iterator[Fault]:
    """Of every pod that the document describes."""
    for keys, template in pod_templates(document):
        claims = [
            text_at(claim, "metadata", "name") for claim in list_at(document.value, "spec", "volumeClaimTemplates")
        ]
        yield from _pod(mapping_at(template, "spec"), (*keys, "spec"), claims)
        if text_at(template, "spec", "restartPolicy") == "Always" and (
            document.kind == "Job" or "submitterPodTemplate" in keys
        ):
            yield (*keys, "spec", "restartPolicy"), "Kubernetes refuses it of a job; expected Never, got Always"
    for keys in cluster_keys(document):
        options = mapping_at(document.value, *keys, "autoscalerOptions")
        yield from _container(options, (*keys, "autoscalerOptions"))
        yield from _groups(document, keys)
    if document.kind in ("RayCluster", "RayJob"):
        name = text_at(document.value, "metadata", "name")
        if name and not _NAME.fullmatch(name):
            yield ("metadata", "name"), _bad_name(name)


def _pod(pod: dict[str, Any], keys: KeyPath, claims: list[str]) -> Iterator[Fault]:
    for name in ("hostPID", "hostIPC"):
        if pod.get(name) is True:
            yield (*keys, name), "shares with the node what others run there; expected false"
    yield from _rights(pod, keys)
    grace = pod.get("terminationGracePeriodSeconds")
    if isinstance(grace, int) and grace < _LEAST_GRACE and "workerGroupSpecs" in keys:
        sentence = f"no time for a checkpoint when the node goes: expected at least {_LEAST_GRACE}, got {grace}"
        yield (*keys, "terminationGracePeriodSeconds"), sentence
    asked = {name for container in list_at(pod, "containers") for name in mapping_at(container, "resources", "limits")}
    for label in mapping_at(pod, "nodeSelector"):
        if label in _ACCELERATORS and not any("/" in name for name in asked):
            yield (*keys, "nodeSelector", label), "selects nodes with GPUs, and no container's limits ask for one"
    volumes = [text_at(volume, "name") for volume in list_at(pod, "volumes")]
    for kind in ("containers", "initContainers"):
        for position, container in enumerate(list_at(pod, kind)):
            place = (*keys, kind, position)
            yield from _container(container, place)
            if (called := text_at(container, "name")) and not _NAME.fullmatch(called):
                yield (*place, "name"), _bad_name(called)
            for number, mount in enumerate(list_at(container, "volumeMounts")):
                name = text_at(mount, "name")
                if name and name not in (*volumes, *claims, *_MADE):
                    near = did_you_mean(name, [*volumes, *claims])
                    yield (*place, "volumeMounts", number, "name"), f"no volume of this pod has the name '{name}'{near}"
            yield from _twice(container, place, "volumeMounts", "mountPath")
        yield from _twice(pod, keys, kind, "name")
    yield from _twice(pod, keys, "volumes", "name")


def _container(container: Any, keys: KeyPath) -> Iterator[Fault]:
    yield from _rights(container, keys)
    yield from _amounts(mapping_at(container, "resources"), (*keys, "resources"))
    yield from _twice(container, keys, "env", "name")
    for position, entry in enumerate(list_at(container, "env")):
        if at(entry, "name") == "RAY_AUTH_MODE" and "value" in mapping_at(entry) and at(entry, "value") != "token":
            got = text_at(entry, "value")
            place = (*keys, "env", position, "value")
            yield place, f"whoever reaches this pod may run code on it: no authentication; expected token, got '{got}'"


def _rights(owner: Any, keys: KeyPath) -> Iterator[Fault]:
    context, place = mapping_at(owner, "securityContext"), (*keys, "securityContext")
    if context.get("privileged") is True:
        yield (*place, "privileged"), "whoever gets in owns the node; expected false"
    if context.get("allowPrivilegeEscalation") is True:
        yield (*place, "allowPrivilegeEscalation"), "a process may gain more rights than it began with; expected false"
    if context.get("runAsNonRoot") is False:
        yield (*place, "runAsNonRoot"), "lets it run as root; expected true"
    if context.get("runAsUser") == 0:
        yield (*place, "runAsUser"), "0 is root; expected another user, such as 1000"
    if text_at(context, "seccompProfile", "type") == "Unconfined":
        yield (*place, "seccompProfile", "type"), "leaves open every call of the system; expected RuntimeDefault"
    for position, name in enumerate(list_at(context, "capabilities", "add")):
        if isinstance(name, str) and name.upper().removeprefix("CAP_") in _POWERS:
            yield (*place, "capabilities", "add", position), f"{name} is as good as root; expected it left out"


def _amounts(resources: dict[str, Any], keys: KeyPath) -> Iterator[Fault]:
    limits, requests = mapping_at(resources, "limits"), mapping_at(resources, "requests")
    for section, given in (("limits", limits), ("requests", requests)):
        for name in given:
            near = did_you_mean(name, list(_RESOURCES))
            is_known = name in _RESOURCES or name.startswith(_FAMILIES)
            if not is_known and (near or "/" not in name):
                yield (*keys, section, name), f"Kubernetes has no resource of this name{near}"
    for name, wanted in requests.items():
        least, most = amount(wanted), amount(limits.get(name))
        place = (*keys, "requests", name)
        if least is None:
            continue
        if "/" in name and least != most:
            got = "none" if most is None else str(limits[name])
            yield place, f"a device is given whole: expected as many in limits, {wanted}, got {got} there"
        elif most is not None and least > most:
            yield place, f"Kubernetes refuses a pod that asks for more than its limit, {limits[name]}; got {wanted}"


def _groups(document: Document, keys: KeyPath) -> Iterator[Fault]:
    cluster = mapping_at(document.value, *keys)
    yield from _twice(cluster, keys, "workerGroupSpecs", "groupName")
    for position, group in enumerate(list_at(cluster, "workerGroupSpecs")):
        name = text_at(group, "groupName")
        if name and not _NAME.fullmatch(name):
            yield (*keys, "workerGroupSpecs", position, "groupName"), _bad_name(name)
    selector: KeyPath = ("headGroupSpec", "template", "spec", "nodeSelector")
    for label, value in mapping_at(cluster, *selector).items():
        if _SPOT.get(label) == value:
            sentence = "when the head goes, every sweep stops: expected a node on demand, got a spot node"
            yield (*keys, *selector, label), sentence


def _twice(owner: Any, keys: KeyPath, section: str, name: str) -> Iterator[Fault]:
    names = [text_at(entry, name) for entry in list_at(owner, section)]
    for position, each in enumerate(names):
        if each and Counter(names[:position])[each]:
            yield (*keys, section, position, name), f"'{each}' stands twice in {section}; expected one of each name"


def _bad_name(name: str) -> str:
    return f"expected a name of small letters, digits and -, that begins with a letter, got '{name}'"
