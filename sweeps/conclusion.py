"""What a sweep that has ended leaves to say: its front and where everything is, and then its certificates."""

import shlex
from collections.abc import Sequence

import click

from robustcore.addresses import without_secrets
from sweeps.budget import how_to_go_on
from sweeps.certify.command import certify_and_print
from sweeps.certify.strength import Strength
from sweeps.launch import Outcome
from sweeps.options import FAILED, print_table
from sweeps.report import front_table
from sweeps.study import Study, StudyError, named


def conclude(outcome: Outcome, strength: Strength | None, address: str, said: Sequence[str] = ()) -> int:
    """The front and where everything is, then its certificates; exit code 1 where a trial failed or is unfinished.

    ``said`` are the user's own words for the address, where they are others.
    """
    sweep = outcome.sweep
    records, study = list(sweep.results.records.values()), sweep.study
    print_table(front_table(records, sweep.front(), study.objectives, study.feasible))
    folder = sweep.folder
    click.echo(f"picture  {folder.at('front.png').uri} and front.html")
    click.echo(f"results  {folder.at('results.parquet').uri}")
    if outcome.mlflow.startswith("sqlite"):
        click.echo(f"MLflow   mlflow ui --backend-store-uri {outcome.mlflow}")
    else:
        click.echo(f"MLflow   {without_secrets(outcome.mlflow)}")
    if outcome.warning:
        click.echo(f"warning: {outcome.warning}", err=True)
    if not sweep.is_complete() or sweep.cut_short():
        click.echo(_goes_on(outcome, said or ([] if address == "local" else ["--address", address])), err=True)
    if not sweep.is_complete():
        return FAILED
    code = FAILED if outcome.failed else 0
    if strength is not None:
        code = certify_and_print(sweep.folder, strength, address) or code
    return code


def _goes_on(outcome: Outcome, where: Sequence[str]) -> str:
    """Why the sweep is not complete, and the command that goes on with it, ready to be pasted."""
    study, ending = outcome.sweep.study, outcome.sweep.ending
    words = ["sweep", "resume", _called(study), "--storage", study.storage, *where]
    if over := outcome.sweep.cut_short():
        again = f"{shlex.join(words)} {how_to_go_on(study, outcome.sweep.purse.count())}"
        return f"{over}; `{again}` goes on."
    why = f"The sweep ended early: {ending.reason}. " if ending.reason else ""
    running = sum(record.state == "running" for record in outcome.sweep.unfinished())
    return f"{why}{running} {'trial is' if running == 1 else 'trials are'} unfinished; `{shlex.join(words)}` goes on."


def _called(study: Study) -> str:
    """Its file; where that is not named as the study is, its name, by which it is found in its storage."""
    try:
        return study.path if named(study.path)[0] == study.name else study.name
    except StudyError:  # the file is gone
        return study.path
