"""`sweep cluster`: manifests for machines, rendered and checked; nothing here reaches a cloud or starts anything."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from sweeps.options import WRONG_REQUEST, StudyArgument, format_option, sentences


@click.group()
def cluster() -> None:
    """Machines to run sweeps on: fill in a shipped manifest, or check any. Nothing is started."""


@cluster.command()
@click.argument("file", type=click.Path(path_type=str))
@click.option("--study", type=StudyArgument(), help="What the machines are for: do its trials fit them?")
@click.option(
    "--definitions",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="SWEEP_KUBERAY_DEFINITIONS",
    show_envvar=True,
    help="A folder with KubeRay's custom resource definitions.",
)
@format_option("text", "json")
def check(file: str, study: str | None, definitions: Path | None, kind: str) -> None:
    """Validate a file for `ray up`, or Kubernetes objects with a RayCluster or RayJob; start nothing."""
    from sweeps.clusters.check import check_documents
    from sweeps.clusters.manifest import read_manifest
    from sweeps.clusters.summary import summary

    with sentences():
        loaded = _study(study)
        documents = read_manifest(file)
        problems, notes = check_documents(documents, loaded, definitions)
    if kind == "json":
        found = [{"place": problem.place, "message": problem.message, "line": problem.line} for problem in problems]
        click.echo(json.dumps({"problems": found, "notes": notes}, indent=2))
    else:
        for problem in problems:
            click.echo(str(problem), err=True)
        for line in summary(documents, loaded) if not problems else ():
            click.echo(line)
        for note in notes:
            click.echo(f"note: {note}")
    if problems:
        sys.exit(WRONG_REQUEST)


@cluster.command()
@click.argument("manifest", metavar="aws|gcp|kuberay|job|mlflow")
@click.option("--workers", type=click.IntRange(min=1), help="At most so many GPU machines; KubeRay: of each kind.")
@click.option("--gpu", "gpus", multiple=True, metavar="TYPE", help="Keep this kind of GPU alone; repeatable.")
@click.option("--spot/--on-demand", default=True, show_default=True, help="How the workers are rented.")
@click.option("--name", help="Of the cluster.")
@click.option("--set", "fields", multiple=True, metavar="FIELD=VALUE", help="Fill in a marked field: bucket=my-bucket.")
def render(manifest: str, **wishes: Any) -> None:
    """Print a shipped manifest, filled in as asked; what is left to fill in is said on stderr."""
    from sweeps.clusters.render import rendered

    with sentences():
        text, left = rendered(manifest, **wishes)
    click.echo(text, nl=False)
    for sentence in left:
        click.echo(sentence, err=True)


def _study(study: str | None) -> Any:
    if study is None:
        return None
    from sweeps.study import load_study

    return load_study(study)
