"""Whether what one document names is in the others: objects, ports and scripts."""

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import PurePosixPath
from typing import Any

from sweeps.clusters.manifest import Document, Fault, at, list_at, mapping_at, text_at
from sweeps.clusters.pools import pod_templates
from sweeps.source import did_you_mean
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


def reference_faults(document: Document, documents: Sequence[Document]) -> Iterator[Fault]:
    """Of one of the documents."""
    yield from _misspelt(document, documents)
    if document.kind == "RayJob":
        yield from _missing_script(document, documents)


def port_faults(service: Document, pods: Sequence[dict[str, Any]]) -> Iterator[Fault]:
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


def _missing_script(document: Document, documents: Sequence[Document]) -> Iterator[Fault]:
    """What the head is to run out of a ConfigMap of this file, which has it not."""
    maps = {text_at(each.value, "metadata", "name"): each for each in documents if each.kind == "ConfigMap"}
    pod = mapping_at(document.value, "spec", "rayClusterSpec", "headGroupSpec", "template", "spec")
    names = {
        text_at(each, "name"): text_at(each, "configMap", "name")
        for each in list_at(pod, "volumes")
        if not list_at(each, "configMap", "items")  # which may give them other names
    }
    for mount in list_at(pod, "containers", 0, "volumeMounts"):
        name = names.get(text_at(mount, "name"), "")
        if not name or name not in maps:
            continue
        files = list(mapping_at(maps[name].value, "data"))
        for path in map(PurePosixPath, text_at(document.value, "spec", "entrypoint").split()):
            if path.parent == PurePosixPath(text_at(mount, "mountPath")) and path.name not in files:
                near = did_you_mean(path.name, files)
                yield ("spec", "entrypoint"), f"{maps[name].name} has no '{path.name}', which this runs{near}"
