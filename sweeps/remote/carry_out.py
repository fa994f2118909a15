"""An order on the cluster's head, as `sweep launch --address auto` would be there."""

import sys
from dataclasses import replace
from pathlib import Path

import click

from robustcore.storage import Folder
from sweeps.options import Strengthening, Verbs, sentences
from sweeps.remote.order import Order, read_order
from sweeps.source import StudyError
from sweeps.study import Study, study_from

_JOINED = "auto"  # the head's own Ray


def carry_out(job: Path) -> None:
    """Exits with the code of the verb."""
    order = read_order(job)

    @click.command()
    def run() -> None:
        with sentences():
            sys.exit(_launch(order) if order.verb == "launch" else _again(order))

    Verbs(commands={"run": run}).main(["run"])  # signals end it as they end `sweep`


def _launch(order: Order) -> int:
    from sweeps.certify.strength import strength_for
    from sweeps.conclusion import conclude
    from sweeps.launch import launch_study

    assert order.study is not None, "a launch brings its study"
    study = study_from(order.study)
    _check(study)
    strength = strength_for(study, Strengthening(*order.wanted)) if order.wanted else None
    return conclude(launch_study(study, _JOINED, order.force), strength, _JOINED, order.said)


def _again(order: Order) -> int:
    from sweeps.certify.command import certify_and_print
    from sweeps.certify.strength import strength_for
    from sweeps.conclusion import conclude
    from sweeps.launch import resume_study
    from sweeps.stored import launched_study

    folder = Folder(order.storage).at(order.name)
    strength = strength_for(launched_study(folder), Strengthening(*order.wanted)) if order.wanted else None
    if order.verb == "certify":
        assert strength is not None, "certify brings its strength"
        return certify_and_print(folder, strength, _JOINED)
    outcome = resume_study(folder, order.trials, _JOINED, order.settings, click.echo, order.force)
    return conclude(outcome, strength, _JOINED, order.said)


def _check(study: Study) -> None:
    """All that it names is opened here, where it will be needed. Raises StudyError."""
    from sweeps.check import check_source
    from sweeps.growth import as_source

    source = replace(as_source(study), folder=Path.cwd())
    _, problems, notes = check_source(source)
    if problems:
        raise StudyError(problems)
    for note in notes:
        click.echo(f"note: {note}", err=True)
