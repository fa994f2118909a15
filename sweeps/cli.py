"""The `sweep` command: one short function a verb. Nothing heavy is imported before a verb needs it."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from sweeps.clusters.command import cluster
from sweeps.encoders import evaluate, export
from sweeps.insight.verbs import diff, importance
from sweeps.options import (
    Cluster,
    Strengthening,
    StudyArgument,
    Verbs,
    certify_options,
    checked_study,
    cluster_options,
    folder_of,
    format_option,
    print_table,
    sending_options,
    sentences,
    settings_option,
    storage_option,
    strength_options,
    study_argument,
    trials_option,
)
from sweeps.remote.verbs import attach, logs, stop


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="robust-sweeps")
def main() -> None:
    """Find the best trade-off between clean and adversarially robust accuracy of a vision encoder.

    STUDY is a YAML file, or the bare name of a shipped one such as alpha_study.

    Shell completion: eval "$(_SWEEP_COMPLETE=bash_source sweep)" (or zsh_source, fish_source).
    """


@main.command()
@study_argument
@settings_option
@storage_option
@click.option("--measure", is_flag=True, help="Take a few steps here, and say what the sweep will take.")
@format_option("text", "json")
def check(study: str, settings: tuple[str, ...], storage: str | None, measure: bool, kind: str) -> None:
    """Validate a study and say what it would cost; start nothing."""
    checked, notes = checked_study(study, settings, storage)
    from sweeps.check.plan import plan, plan_text
    from trainables.resources import this_machine

    described, estimated = plan(checked, [this_machine()]), None
    if measure:
        from sweeps.check.estimate import estimate, estimate_text

        with sentences():
            estimated = estimate(checked, described["at_once"])
    if kind == "json":
        known = {"notes": notes} | ({"estimate": estimated} if estimated else {})
        click.echo(json.dumps(described | known, indent=2))
        return
    click.echo(plan_text(described))
    if estimated:
        click.echo(estimate_text(estimated))
    for note in notes:
        click.echo(f"note: {note}")


@main.command()
@click.argument("study", type=StudyArgument(), required=False, metavar="STUDY")
@click.option("--from", "launched", metavar="STUDY:TRIAL", help="A trial of a sweep again; does it give its numbers?")
@settings_option
@storage_option
@format_option("text", "json")
def trial(study: str | None, launched: str | None, settings: tuple[str, ...], storage: str | None, kind: str) -> None:
    """Run the study's recipe once, here, without Ray; print each evaluation.

    With --from, in the place of STUDY, a trial of a sweep is run again: exit code 0 if every number is the same.
    """
    from sweeps.single import compare_again, run_once

    if (study is None) == (launched is None) or (launched is not None and settings):
        raise click.UsageError("expected a STUDY, with --set or without, or --from STUDY:TRIAL alone")
    if launched is not None:
        with sentences():
            sys.exit(compare_again(launched, storage, kind))
    checked, _ = checked_study(study or "", settings, storage)
    with sentences():
        run_once(checked, kind)


@main.command()
@study_argument
@settings_option
@trials_option
@storage_option
@cluster_options
@certify_options
def launch(
    study: str,
    settings: tuple[str, ...],
    trials: int | None,
    storage: str | None,
    cluster: Cluster,
    wanted: Strengthening | None,
) -> None:
    """Run every trial of a study, follow it, and print the front."""
    if trials is not None:
        settings = (*settings, f"search.trials={trials}")
    if cluster.takes_jobs:
        from sweeps.remote.submit import submit_launch

        with sentences():
            sys.exit(submit_launch(study, settings, storage, cluster, wanted))
    checked, notes = checked_study(study, settings, storage, cluster.address)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    from sweeps.certify.strength import strength_for
    from sweeps.conclusion import conclude
    from sweeps.launch import launch_study

    with sentences():
        strength = strength_for(checked, wanted) if wanted else None
        sys.exit(conclude(launch_study(checked, cluster.address, cluster.force), strength, cluster.address))


@main.command()
@study_argument
@settings_option
@storage_option
@trials_option
@cluster_options
@certify_options
def resume(
    study: str,
    settings: tuple[str, ...],
    storage: str | None,
    trials: int | None,
    cluster: Cluster,
    wanted: Strengthening | None,
) -> None:
    """Go on with an interrupted sweep, or extend a finished one with --trials; --set changes what may change.

    That is the knobs, constraints, search, stop_early, resources, budget and mlflow; not the recipe.
    """
    if cluster.takes_jobs:
        from sweeps.remote.submit import submit_again

        with sentences():
            sys.exit(submit_again("resume", study, storage, cluster, wanted, settings=settings, trials=trials))
    from sweeps.certify.strength import strength_for
    from sweeps.conclusion import conclude
    from sweeps.launch import resume_study
    from sweeps.stored import launched_study

    with sentences():
        folder = folder_of(study, storage)
        strength = strength_for(launched_study(folder), wanted) if wanted else None
        outcome = resume_study(folder, trials, cluster.address, settings, click.echo, cluster.force)
        sys.exit(conclude(outcome, strength, cluster.address))


@main.command()
@study_argument
@strength_options
@storage_option
@sending_options
@format_option("text", "json")
def certify(study: str, wanted: Strengthening, storage: str | None, cluster: Cluster, kind: str) -> None:
    """Attack the front and its runners-up again, at full strength; goes on with what was interrupted."""
    if cluster.takes_jobs:
        from sweeps.remote.submit import submit_again

        with sentences():
            sys.exit(submit_again("certify", study, storage, cluster, wanted))
    from sweeps.certify.command import certify_and_print
    from sweeps.certify.strength import strength_for
    from sweeps.stored import launched_study

    with sentences():
        folder = folder_of(study, storage)
        sys.exit(certify_and_print(folder, strength_for(launched_study(folder), wanted), cluster.address, kind))


@main.command()
@study_argument
@storage_option
@format_option("text", "json")
def status(study: str, storage: str | None, kind: str) -> None:
    """One line a trial: state, knobs, metrics, steps, seconds."""
    from sweeps.lock import is_running
    from sweeps.stored import stored_results, stored_study

    with sentences():
        folder = folder_of(study, storage)
        stored, records = stored_study(folder), list(stored_results(folder).records.values())
        running = is_running(folder)
    if kind == "json":
        click.echo(json.dumps([record.as_json() for record in records], indent=2))
        return
    from sweeps.report import status_table

    print_table(status_table(records, stored.objectives))
    if not running and any(record.state in ("pending", "running") for record in records):
        again = f"sweep resume {study}" + (f" --storage {storage}" if storage else "")
        click.echo(f"Nothing is running now; `{again}` goes on with the unfinished trials.")


@main.command()
@study_argument
@storage_option
@format_option("text", "json", "csv")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write a .png, .html, .csv or .json.")
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Leave out only whom another beats beyond the noise of both, such as 0.95.",
)
def front(study: str, storage: str | None, kind: str, out: Path | None, confidence: float | None) -> None:
    """The finished trials that no other beats in every objective."""
    from sweeps.pareto import front as front_of
    from sweeps.report import front_csv, front_json, front_table, write_front
    from sweeps.stored import RequestError, stored_results, stored_study

    with sentences():
        folder = folder_of(study, storage)
        stored, records = stored_study(folder), list(stored_results(folder).records.values())
        members = front_of(records, stored.objectives, stored.feasible, confidence)
        if out is not None:
            try:
                write_front(str(out), records, members, stored.objectives, stored.name, stored.feasible)
            except OSError as error:
                raise RequestError(f"cannot write {out} ({error.strerror})") from None
    if kind == "json":
        click.echo(front_json(members))
    elif kind == "csv":
        click.echo(front_csv(members), nl=False)
    else:
        print_table(front_table(records, members, stored.objectives, stored.feasible))
    if out is not None:
        click.echo(f"wrote {out}", err=True)


for verb in (importance, diff, export, evaluate, cluster, attach, logs, stop):
    main.add_command(verb)


@main.command()
def schema() -> None:
    """The JSON Schema of a study, for editors."""
    from sweeps.study import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@main.command()
@click.option(
    "--surface", "surfaces", multiple=True, help="smooth, crossing, digits, STUDY or FILE.py:NAME; repeatable."
)
@click.option("--policy", "policies", multiple=True, help="tpe, tpe+moasha, 'tpe+{keep: 1/3}', ...; repeatable.")
@click.option("--seeds", type=click.IntRange(min=1), default=8, show_default=True, help="Sweeps of each policy.")
@click.option("--slots", type=click.IntRange(min=1), default=8, show_default=True, help="Trials at a time.")
@click.option("--budget", type=click.FloatRange(min=1), default=96, show_default=True, help="In full trainings.")
@click.option(
    "--out", multiple=True, type=click.Path(dir_okay=False, path_type=Path), help="A .png or .md; repeatable."
)
@click.option("--processes", type=click.IntRange(min=1), help="At a time (default: one for each processor).")
def simulate(**options: Any) -> None:
    """Compare samplers and early stopping on known learning curves, without training anything.

    Compute is counted in full trainings. A finished STUDY is a surface too: its curves are mixed between its trials.
    """
    from sweeps.simulate.command import simulate_and_print

    with sentences():
        for line in simulate_and_print(**options):
            click.echo(line)
