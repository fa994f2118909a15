"""Who is let in by a NetworkPolicy, and whether labels select what they are meant for, over all documents."""

from collections.abc import Iterator, Sequence
from typing import Any

from sweeps.clusters.check.exposure import EVERYBODY
from sweeps.clusters.check.references import port_faults
from sweeps.clusters.check.shape import shapes
from sweeps.clusters.manifest import Document, Fault, at, list_at, mapping_at, text_at
from sweeps.clusters.pools import pod_templates
from sweeps.source.marked import KeyPath

Pod = tuple[Document, KeyPath, dict[str, str]]  # whose, where, and its labels
_SELECTS_NONE = "selects no pod of this file, so that it does nothing for any"


def policy_faults(document: Document, documents: Sequence[Document]) -> Iterator[Fault]:
    """Of one of the documents."""
    pods = [(each, keys, _labels(each, keys, pod)) for each in documents for keys, pod in pod_templates(each)]
    if any(each.kind not in shapes("kubernetes") for each in documents):
        pods = []  # who knows what pods are theirs
    if document.kind == "NetworkPolicy":
        selector = at(document.value, "spec", "podSelector")
        if pods and isinstance(selector, dict) and not any(_selects(selector, labels) for _, _, labels in pods):
            yield ("spec", "podSelector"), _SELECTS_NONE
        yield from _policy(document)
    elif document.kind == "Service" and (labels := mapping_at(document.value, "spec", "selector")):
        chosen = [(each, keys) for each, keys, own in pods if _selects({"matchLabels": labels}, own)]
        if pods and not chosen:
            yield ("spec", "selector"), _SELECTS_NONE
        yield from port_faults(document, [mapping_at(each.value, *keys, "spec") for each, keys in chosen])
    elif document.kind in ("Deployment", "StatefulSet"):
        selector = mapping_at(document.value, "spec", "selector")
        own = mapping_at(document.value, "spec", "template", "metadata", "labels")
        if selector and not _selects(selector, own):
            yield ("spec", "selector"), f"does not select the {document.kind}'s own pods; expected their labels, {own}"
    yield from _uncovered(document, documents, pods)
    yield from _shut_out(document, documents, pods)


def _shut_out(document: Document, documents: Sequence[Document], pods: Sequence[Pod]) -> Iterator[Fault]:
    """The pod that hands a job in, where policies keep it from the head."""
    own = [(keys, labels) for each, keys, labels in pods if each is document]
    heads = [labels for keys, labels in own if "headGroupSpec" in keys]
    policies = [
        each.value
        for each in documents
        if each.kind == "NetworkPolicy"
        and any(_selects(mapping_at(each.value, "spec", "podSelector"), labels) for labels in heads)
    ]
    peers = [
        peer
        for policy in policies
        for rule in list_at(policy, "spec", "ingress")
        for peer in list_at(rule, "from")
        if "ipBlock" not in mapping_at(peer)
    ]
    for keys, labels in own if policies else ():
        if "submitterPodTemplate" in keys and not any(
            _selects(mapping_at(peer, "podSelector"), labels) for peer in peers
        ):
            yield (*keys, "metadata", "labels"), "no NetworkPolicy lets this pod to the head: the job would never begin"


def _policy(document: Document) -> Iterator[Fault]:
    types = at(document.value, "spec", "policyTypes")
    if isinstance(types, list) and "Ingress" not in types:
        yield ("spec", "policyTypes"), f"everybody is let in: expected Ingress among them, got {types}"
    for position, rule in enumerate(list_at(document.value, "spec", "ingress")):
        place: KeyPath = ("spec", "ingress", position)
        peers = list_at(rule, "from")
        if not peers:
            yield place, "everybody is let in: expected `from`, with the pods that may come"
        for number, peer in enumerate(peers):
            cidr, keys = text_at(peer, "ipBlock", "cidr"), mapping_at(peer)
            is_open = cidr in EVERYBODY if cidr else not any(keys.values()) and "podSelector" not in keys
            if is_open:
                yield (*place, "from", number), f"everybody is let in; expected pods of your own, got {cidr or 'all'}"


def _uncovered(document: Document, documents: Sequence[Document], pods: Sequence[Pod]) -> Iterator[Fault]:
    """Ray's pods that no policy is about, where others of theirs are."""
    selectors = [mapping_at(each.value, "spec", "podSelector") for each in documents if each.kind == "NetworkPolicy"]
    of_ray = [(keys, labels) for each, keys, labels in pods if each is document and "ray.io/is-ray-node" in labels]
    open_ = [keys for keys, labels in of_ray if not any(_selects(selector, labels) for selector in selectors)]
    if selectors and len(open_) < len(of_ray):
        for keys in open_:
            yield (
                (*keys, "metadata", "labels"),
                "no NetworkPolicy of this file is about these pods, as about the others",
            )


def _labels(document: Document, keys: KeyPath, template: dict[str, Any]) -> dict[str, str]:
    """Those that are written, and those that KubeRay adds."""
    written = {name: str(value) for name, value in mapping_at(template, "metadata", "labels").items()}
    if document.kind not in ("RayCluster", "RayJob") or "submitterPodTemplate" in keys:
        return written
    is_head = "headGroupSpec" in keys
    group = "headgroup" if is_head else text_at(document.value, *keys[:-1], "groupName")
    return {
        "ray.io/is-ray-node": "yes",
        "ray.io/cluster": text_at(document.value, "metadata", "name"),
        "ray.io/node-type": "head" if is_head else "worker",
        "ray.io/group": group,
        "app.kubernetes.io/name": "kuberay",
        "app.kubernetes.io/created-by": "kuberay-operator",
    } | written


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """An empty selector selects all."""
    for name, value in mapping_at(selector, "matchLabels").items():
        if labels.get(name) != value:
            return False
    for rule in list_at(selector, "matchExpressions"):
        given, values = labels.get(text_at(rule, "key")), list_at(rule, "values")
        holds = {
            "In": given in values,
            "NotIn": given not in values,
            "Exists": given is not None,
            "DoesNotExist": given is None,
        }
        if not holds.get(text_at(rule, "operator"), True):
            return False
    return True
