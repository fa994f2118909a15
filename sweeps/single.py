"""One trial in this process, without Ray: what `sweep trial` does, with a study's recipe or a trial of a sweep."""

import json

import click

from sweeps.options import FAILED, folder_of
from sweeps.stored import RequestError, embeddings_cache
from sweeps.study import Study
from trainables.resources import Demand
from trainables.trial import run_here


def run_once(study: Study, kind: str) -> None:
    """Print each evaluation, or the final metrics as JSON. Raises InputError or NonFiniteLoss."""
    resources = study.resources
    demand = Demand(resources.workers, resources.cpus, resources.gpus)
    metrics: dict[str, float] = {}
    for progress in run_here(study.recipe, demand, embeddings_cache(study.storage)):
        metrics = progress.metrics
        if kind == "text":
            shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items() if "/" not in name)
            click.echo(f"step {progress.step:>6} of {study.recipe.optim.steps}  {shown}  ({progress.seconds:.1f} s)")
    if kind == "json":
        click.echo(json.dumps(metrics))


def compare_again(launched: str, storage: str | None, kind: str) -> int:
    """Run the trial ``STUDY:TRIAL`` again and print whether it agrees; the exit code. Raises RequestError."""
    from sweeps.insight.rerun import rerun

    study, colon, trial = launched.rpartition(":")
    if not colon or not study or not trial:
        raise RequestError(f"--from {launched}: expected STUDY:TRIAL, such as alpha_study:7")
    found = rerun(folder_of(study, storage), trial, None if kind == "json" else click.echo)
    if kind == "json":
        click.echo(json.dumps(found.as_json(), indent=2))
    else:
        for line in [*(f"note: {note}" for note in found.notes), found.verdict()]:
            click.echo(line)
    return 0 if found.agrees else FAILED
