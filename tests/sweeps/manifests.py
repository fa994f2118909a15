"""The shipped cluster manifests as a user would fill them in."""

from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.clusters.check import check_documents
from sweeps.clusters.manifest import read_manifest
from sweeps.clusters.render import rendered
from sweeps.source import Problem

if TYPE_CHECKING:
    from sweeps.study import Study

FIELDS = {
    "ami": "ami-0123456789abcdef0",
    "bucket": "my-bucket",
    "image": "registry.example.com/team/sweeps:1.4.0",
    "project": "my-project",
    "region": "us-west-2",
    "study": "alpha_study.yaml",
}
OF_GOOGLE = {"region": "us-central1", "zone": "us-central1-a"}
OF = {  # which fields each has
    "aws": ("ami", "bucket", "image", "region"),
    "gcp": ("bucket", "image", "project", "region", "zone"),
    "kuberay": ("image",),
    "job": ("bucket", "image", "study"),
    "mlflow": ("bucket", "image"),
}


def fields_of(manifest: str) -> dict[str, str]:
    """What its fields are filled with."""
    known = FIELDS | (OF_GOOGLE if manifest == "gcp" else {})
    return {field: known[field] for field in OF[manifest]}


def filled(manifest: str, **wishes: object) -> str:
    """The text with every field filled in; ``wishes`` are those of ``rendered``."""
    fields = [f"{field}={value}" for field, value in fields_of(manifest).items()]
    text, left = rendered(manifest, fields=fields, **wishes)  # type: ignore[arg-type]
    assert left == []
    return text


def checked(folder: Path, text: str, study: "Study | None" = None, definitions: Path | None = None) -> list[Problem]:
    """What `sweep cluster check` says against it."""
    path = folder / "my.yaml"
    path.write_text(text)
    problems, _ = check_documents(read_manifest(str(path)), study, definitions)
    return problems
