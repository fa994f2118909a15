"""A shipped manifest filled in: how many machines, which GPUs, how they are rented, and the marked fields."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sweeps.clusters.edits import edited
from sweeps.clusters.fields import MARKED, MEANINGS, option
from sweeps.clusters.machines import GKE, machine_of
from sweeps.clusters.manifest import LAUNCHER, Document, at, list_at, mapping_at, read_manifest, text_at
from sweeps.clusters.pools import cluster_keys
from sweeps.clusters.shipped import shipped_path
from sweeps.source import did_you_mean
from sweeps.source.marked import KeyPath
from sweeps.stored import RequestError

_VALUE = re.compile(r"[\w./:@%+=~-]+")
_GKE_GPU, _GKE_SPOT = "cloud.google.com/gke-accelerator", "cloud.google.com/gke-spot"


@dataclass(frozen=True)
class Kind:
    """One kind of GPU machine in a manifest."""

    gpu: str
    keys: KeyPath
    spot: tuple[KeyPath, ...]  # what to leave out where it is not to be spot
    most: KeyPath


@dataclass(frozen=True)
class Cluster:
    """Where the parts of a cluster are in a shipped manifest."""

    document: Document
    name: KeyPath
    kinds: tuple[Kind, ...]
    most: KeyPath | None  # of all kinds together


def rendered(
    manifest: str,
    *,
    workers: int | None = None,
    gpus: Sequence[str] = (),
    spot: bool = True,
    name: str | None = None,
    fields: Sequence[str] = (),
) -> tuple[str, list[str]]:
    """The manifest's text, and a sentence for each field that is still to be filled in; raises RequestError."""
    path = shipped_path(manifest)
    text, cluster = path.read_text(encoding="utf-8"), _cluster(str(path))
    if cluster is None and (workers or gpus or not spot or name):
        raise RequestError(f"'{manifest}' starts no GPU machines; expected --set alone")
    if cluster is not None:
        text = _edited(text, cluster, workers, gpus, spot, name)
    filled = _filled(text, fields)
    left = [f"to fill in: --set {option(field)}=..., {MEANINGS[field]}" for field in _marked(filled)]
    return filled, left


def _edited(text: str, cluster: Cluster, workers: int | None, gpus: Sequence[str], spot: bool, name: str | None) -> str:
    kept = _kept(cluster, gpus)
    dropped = [kind.keys for kind in cluster.kinds if kind not in kept]
    values: dict[KeyPath, str] = {} if name is None else {cluster.name: _checked("--name", name)}
    if workers is not None:
        limits = [kind.most for kind in kept] + ([cluster.most] if cluster.most else [])
        values |= {keys: str(workers) for keys in limits}
    if not spot:
        dropped += [keys for kind in kept for keys in kind.spot]
    line = cluster.document.lines
    return edited(
        text, {(line[keys], str(keys[-1])): value for keys, value in values.items()}, [line[keys] for keys in dropped]
    )


def _cluster(path: str) -> Cluster | None:
    for document in read_manifest(path):
        if document.kind == LAUNCHER:
            types = mapping_at(document.value, "available_node_types")
            cloud, head = (text_at(document.value, *keys) for keys in (("provider", "type"), ("head_node_type",)))
            kinds = [_launcher_kind(cloud, name, types[name]) for name in types if name != head]
            return Cluster(document, ("cluster_name",), tuple(kinds), ("max_workers",))
        for keys in cluster_keys(document):
            groups = list_at(document.value, *keys, "workerGroupSpecs")
            places = [(*keys, "workerGroupSpecs", position) for position in range(len(groups))]
            kinds = [_kuberay_kind(place, group) for place, group in zip(places, groups, strict=True)]
            return Cluster(document, ("metadata", "name"), tuple(kinds), None)
    return None


def _launcher_kind(cloud: str, name: str, kind: object) -> Kind:
    keys: KeyPath = ("available_node_types", name)
    config: KeyPath = (*keys, "node_config")
    given = text_at(kind, "node_config", "InstanceType") or text_at(kind, "node_config", "machineType")
    machine = machine_of(cloud, given)
    spot: dict[str, list[KeyPath]] = {
        "aws": [("InstanceMarketOptions",)],
        "gcp": [("scheduling", "instanceTerminationAction"), ("scheduling", "provisioningModel")],
    }
    places = tuple((*config, *key) for key in spot[cloud])
    return Kind(machine.gpu if machine else name, keys, places, (*keys, "max_workers"))


def _kuberay_kind(keys: KeyPath, group: object) -> Kind:
    pod: KeyPath = ("template", "spec")
    spot: list[KeyPath] = [
        (*keys, *pod, "tolerations", position)
        for position, toleration in enumerate(list_at(group, *pod, "tolerations"))
        if at(toleration, "key") == _GKE_SPOT
    ]
    label = text_at(group, *pod, "nodeSelector", _GKE_GPU)
    return Kind(GKE[label], keys, (*spot, (*keys, *pod, "nodeSelector", _GKE_SPOT)), (*keys, "maxReplicas"))


def _kept(cluster: Cluster, gpus: Sequence[str]) -> tuple[Kind, ...]:
    """The kinds of those GPUs, in the manifest's order; all of them where nobody chose."""
    known = [kind.gpu for kind in cluster.kinds]
    for gpu in gpus:
        if gpu.upper() not in known:
            near = did_you_mean(gpu.upper(), known)
            raise RequestError(f"--gpu {gpu}: this manifest has no such GPU, expected one of: {', '.join(known)}{near}")
    wanted = [gpu.upper() for gpu in gpus]
    return tuple(kind for kind in cluster.kinds if not gpus or kind.gpu in wanted)


def _filled(text: str, fields: Sequence[str]) -> str:
    known = _marked(text)
    for field in fields:
        name, equals, value = field.partition("=")
        if not equals:
            raise RequestError(f"--set {field}: expected FIELD=VALUE, such as {option(known[0])}=...")
        if name.upper() not in known:
            options = [option(mark) for mark in known]
            near = did_you_mean(name.lower(), options)
            raise RequestError(f"--set {name}: no such field, expected one of: {', '.join(options)}{near}")
        text = text.replace(f"__{name.upper()}__", _checked(f"--set {name}", value))
    return text


def _marked(text: str) -> list[str]:
    return list(dict.fromkeys(field for field in MARKED.findall(text) if field in MEANINGS))


def _checked(where: str, value: str) -> str:
    """It goes into YAML and shell commands as it is."""
    if not _VALUE.fullmatch(value):
        raise RequestError(f"{where}: expected letters, digits and ./:@%+=~-, got '{value}'")
    return value
