"""The marked fields of the shipped manifests, written __NAME__: what belongs there, and where it is left open."""

import re
from collections.abc import Iterator

from sweeps.clusters.manifest import Document, Fault
from sweeps.source import did_you_mean

MARKED = re.compile(r"__([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*)__")

MEANINGS = {
    "AMI": "the machine image of the region with NVIDIA's driver 580 or newer and Docker, ami-...",
    "BUCKET": "the bucket of results and MLflow's artifacts, without s3:// or gs://",
    "IMAGE": "the image built from cluster/Dockerfile, with its tag",
    "PROJECT": "the id of the Google Cloud project",
    "REGION": "the cloud's region, such as us-west-2 or us-central1",
    "STUDY": "the name of the study's file in the ConfigMap, such as alpha_study.yaml",
    "ZONE": "a zone of the region that rents the GPUs, such as us-central1-a",
}


def option(name: str) -> str:
    """``bucket`` of BUCKET, as `--set` takes it."""
    return name.lower()


def field_faults(document: Document) -> Iterator[Fault]:
    """Each field that nobody has filled in, at every place."""
    for keys, text in document.texts():
        names = dict.fromkeys(MARKED.findall(text))
        if names:
            yield keys, "; ".join(map(_sentence, names))


def _sentence(name: str) -> str:
    open_field = f"the field __{name}__ is not filled in"
    if name in MEANINGS:
        return f"{open_field}, expected {MEANINGS[name]} (`sweep cluster render ... --set {option(name)}=...`)"
    return f"{open_field}, and no shipped manifest has such a field{did_you_mean(name, list(MEANINGS))}"
