"""All that can be known to be wrong with a cluster's manifest without a cloud: every problem at once."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.clusters.check.clouds import cloud_faults
from sweeps.clusters.check.commands import command_faults
from sweeps.clusters.check.definitions import Schemas, definition_faults, read_definitions
from sweeps.clusters.check.exposure import exposure_faults
from sweeps.clusters.check.kuberay import kuberay_faults
from sweeps.clusters.check.pods import pod_faults
from sweeps.clusters.check.policies import policy_faults
from sweeps.clusters.check.rays import ray_faults
from sweeps.clusters.check.references import reference_faults
from sweeps.clusters.check.secrets import secret_faults
from sweeps.clusters.check.shape import shape_faults, shapes
from sweeps.clusters.check.sizes import fit_faults, size_faults, unknown_machines
from sweeps.clusters.check.starts import start_faults
from sweeps.clusters.check.timing import timing_faults
from sweeps.clusters.check.versions import version_faults
from sweeps.clusters.fields import field_faults
from sweeps.clusters.manifest import LAUNCHER, UNKNOWN, Document, Fault, text_at
from sweeps.clusters.pools import pools
from sweeps.source import Problem, did_you_mean, in_order
from sweeps.stored import RequestError

if TYPE_CHECKING:
    from sweeps.study import Study


def check_documents(
    documents: list[Document], study: "Study | None" = None, definitions: Path | None = None
) -> tuple[list[Problem], list[str]]:
    """Every problem by line, and notes on what was not looked at. ``study`` is what the machines are for.

    Raises RequestError where ``definitions`` is no folder of definitions.
    """
    of_kuberay = any(document.kind in ("RayCluster", "RayJob") for document in documents)
    schemas = read_definitions(definitions) if definitions is not None and of_kuberay else {}
    problems: list[Problem] = []
    notes = list(_notes(documents, schemas))
    for document in documents:
        problems += document.faults
        places = set()
        for keys, message in _faults(document, documents, study, schemas):
            # The first to speak of a place knows best what is wrong there.
            if keys not in places:
                places.add(keys)
                problems.append(document.problem(keys, message))
    if not any(pools(document) for document in documents) and not problems and study is not None:
        raise RequestError(f"{documents[0].file}: expected machines for the study, and this file starts no cluster")
    return list(in_order(problems)), notes


def _faults(document: Document, documents: list[Document], study: "Study | None", schemas: Schemas) -> Iterator[Fault]:
    """What is known best about a place comes first; Ray, which stops at its first complaint, has the last word."""
    found = [fault for rule in _RULES for fault in rule(document)]
    for among in (policy_faults, reference_faults, command_faults):
        found += among(document, documents)
    if study is not None and pools(document):
        found += [*fit_faults(document, study), *_study_storage(study)]
    found += definition_faults(document, schemas)
    if document.kind == LAUNCHER and not any(message for _, message in found if "is not filled in" not in message):
        found += ray_faults(document)
    yield from found


def _shape(document: Document) -> Iterator[Fault]:
    known = shapes("kubernetes")
    if document.kind == LAUNCHER:
        cloud = text_at(document.value, "provider", "type")
        yield from shape_faults(document, "launcher", cloud if cloud in ("aws", "gcp") else "other")
    elif document.kind in known and text_at(document.value, "apiVersion"):
        yield from shape_faults(document, "kubernetes", document.kind)
    elif "apiVersion" in document.value or "kind" in document.value:
        kinds = [name for name, shape in known.items() if isinstance(shape, dict) and "kind!" in shape]
        near = did_you_mean(document.kind, kinds)
        if near or not text_at(document.value, "apiVersion") or document.kind == UNKNOWN:
            yield ("kind",), f"expected one of {', '.join(kinds)}, with an apiVersion{near}"
    else:
        yield (), "expected a file for `ray up` (cluster_name, provider, ...) or a Kubernetes object (apiVersion, kind)"


_RULES = (
    _shape,
    field_faults,
    secret_faults,
    version_faults,
    exposure_faults,
    pod_faults,
    kuberay_faults,
    start_faults,
    cloud_faults,
    size_faults,
    timing_faults,
)


def _study_storage(study: "Study") -> Iterator[Fault]:
    if "://" not in study.storage:
        yield (
            (),
            (
                f"'{study.name}' writes its results to the folder {study.storage}, which the machines do not share; "
                "expected storage: s3://, gs:// or abfs:// in the study"
            ),
        )


def _notes(documents: list[Document], schemas: Schemas) -> Iterator[str]:
    kinds = {document.kind for document in documents}
    for kind in sorted(kinds - shapes("kubernetes").keys() - {LAUNCHER, UNKNOWN}):
        yield f"{documents[0].file}: nothing is known of the kind {kind}; its keys were not looked at"
    for document in documents:
        for machine, near in unknown_machines(document).items():
            yield f"{document.file}: nothing is known of the machine {machine}; what it has was not looked at{near}"
    if kinds & {"RayCluster", "RayJob"}:
        if "NetworkPolicy" not in kinds:
            yield f"{documents[0].file}: no NetworkPolicy here; every pod of the Kubernetes cluster reaches Ray's ports"
        if not schemas:
            yield "KubeRay's definitions were not at hand (--definitions DIR); this package's own list was"
