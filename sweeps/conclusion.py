"""What a sweep that has ended leaves to say: its front and where everything is, and then its certificates."""

import click

from sweeps.budget import how_to_go_on
from sweeps.certify.command import certify_and_print
from sweeps.certify.strength import Strength
from sweeps.launch import Outcome
from sweeps.options import FAILED, print_table
from sweeps.report import front_table


def conclude(outcome: Outcome, strength: Strength | None, address: str) -> int:
    """The front and where everything is, then its certificates; exit code 1 where a trial failed or is unfinished."""
    sweep = outcome.sweep
    records, study = list(sweep.results.records.values()), sweep.study
    print_table(front_table(records, sweep.front(), study.objectives, study.feasible))
    folder = sweep.folder.uri
    click.echo(f"picture  {folder}/front.png and front.html")
    click.echo(f"results  {folder}/results.parquet")
    if outcome.mlflow.startswith("sqlite"):
        click.echo(f"MLflow   mlflow ui --backend-store-uri {outcome.mlflow}")
    else:
        click.echo(f"MLflow   {outcome.mlflow}")
    if outcome.warning:
        click.echo(f"warning: {outcome.warning}", err=True)
    unfinished = sweep.unfinished()
    if over := sweep.purse.over():
        more = how_to_go_on(study, sweep.purse.count())
        again = f"sweep resume {study.path} --storage {study.storage} {more}"
        click.echo(f"{over}; `{again}` goes on.", err=True)
        if unfinished:
            return FAILED
    elif unfinished:
        again = f"sweep resume {sweep.study.path} --storage {sweep.study.storage}"
        click.echo(f"{len(unfinished)} trials are unfinished; `{again}` goes on.", err=True)
        return FAILED
    code = FAILED if outcome.failed else 0
    if strength is not None:
        code = certify_and_print(sweep.folder, strength, address) or code
    return code
