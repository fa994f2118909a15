"""Who is let in by a NetworkPolicy, and whether labels and names find what they are meant for, over all documents."""

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from sweeps.clusters.check.exposure import EVERYBODY
from sweeps.clusters.check.shape import shapes
from sweeps.clusters.manifest import Document, Fault, at, list_at, mapping_at, text_at
from sweeps.clusters.pools import pod_templates
from sweeps.source.marked import KeyPath

_ALIKE, _DIGITS = 0.85, re.compile(r"\d+")
_NAMED: dict[tuple[str, ...], str] = {
    ("serviceAccountName",): "ServiceAccount",
    ("volumes", "*", "configMap", "name"): "ConfigMap",
    ("volumes", "*", "secret", "secretName"): "Secret",
    ("volumes", "*", "persistentVolumeClaim", "claimName"): "PersistentVolumeClaim",
    ("containers", "*", "envFrom", "*", "configMapRef", "name"): "ConfigMap",
    ("containers", "*", "envFrom", "*", "secretRef", "name"): "Secret",
    ("containers", "*", "env", "*", "valueFrom", "configMapKeyRef", "name"): "ConfigMap",
    ("containers", "*", "env", "*", "valueFrom", "secretKeyRef", "name"): "Secret",
}
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
        yield from _doors(document, [mapping_at(each.value, *keys, "spec") for each, keys in chosen])
    elif document.kind in ("Deployment", "StatefulSet"):
        selector = mapping_at(document.value, "spec", "selector")
        own = mapping_at(document.value, "spec", "template", "metadata", "labels")
        if selector and not _selects(selector, own):
            yield ("spec", "selector"), f"does not select the {document.kind}'s own pods; expected their labels, {own}"
    yield from _uncovered(document, documents, pods)
    yield from _misspelt(document, documents)
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


def _doors(service: Document, pods: Sequence[dict[str, Any]]) -> Iterator[Fault]:
    """Ports that no container of the pods says it has, where they say which they have."""
    ports = [port for pod in pods for each in list_at(pod, "containers") for port in list_at(each, "ports")]
    known = [at(port, name) for port in ports for name in ("containerPort", "name") if at(port, name) is not None]
    for position, port in enumerate(list_at(service.value, "spec", "ports") if known else []):
        key = "targetPort" if "targetPort" in mapping_at(port) else "port"
        if at(port, key) not in known:
            expected = ", ".join(dict.fromkeys(map(str, known)))
            yield ("spec", "ports", position, key), f"leads to no port of its pods; expected one of {expected}"


def _misspelt(document: Document, documents: Sequence[Document]) -> Iterator[Fault]:
    """What is named may be elsewhere; where this file has something of nearly the same name, that is meant."""
    named = [
        ((*keys, "spec", *found, last), kind)
        for keys, template in pod_templates(document)
        for (*place, last), kind in _NAMED.items()
        for found in _places(mapping_at(template, "spec"), place)
    ]
    for keys, kind in (*named, (("spec", "serviceName"), "Service")):
        name = text_at(document.value, *keys)
        known = [text_at(each.value, "metadata", "name") for each in documents if each.kind == kind]
        if near := _meant(name, known):
            yield keys, f"there is no {kind} '{name}' in this file; did you mean '{near}'?"


def _meant(name: str, known: Sequence[str]) -> str:
    """Which of the known ones ``name`` surely stands for; "" where it is one of them, or one of its own."""
    near = [] if name in known else get_close_matches(name, known, 1, _ALIKE)
    is_counted = bool(near) and _DIGITS.sub("", name) == _DIGITS.sub("", near[0])  # worker-1, worker-2
    return near[0] if near and not is_counted else ""


def _places(value: Any, keys: Sequence[str]) -> Iterator[KeyPath]:
    """Where the keys lead to in ``value``; * is every position of a list."""
    if not keys:
        yield ()
    elif keys[0] == "*":
        for position, item in enumerate(value if isinstance(value, list) else []):
            yield from ((position, *rest) for rest in _places(item, keys[1:]))
    elif isinstance(value, dict) and keys[0] in value:
        yield from ((keys[0], *rest) for rest in _places(value[keys[0]], keys[1:]))


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
