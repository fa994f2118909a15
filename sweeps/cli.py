"""The `sweep` command: one short function a verb. Nothing heavy is imported before a verb needs it."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from robustcore.storage import Folder
    from sweeps.launch import Outcome
    from sweeps.study import Study

FAILED, WRONG_REQUEST = 1, 2


class StudyArgument(click.ParamType[str]):
    """A path to a study, or the bare name of a shipped one."""

    name = "study"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Shipped names, then files."""
        from sweeps.source import shipped_studies

        names = [CompletionItem(name) for name in shipped_studies() if name.startswith(incomplete)]
        return [*names, CompletionItem(incomplete, type="file")]


class RayAddress(click.ParamType[str]):
    """Ray itself answers a malformed address with a traceback."""

    name = "address"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The address, if it has the form of one."""
        if not re.fullmatch(r"local|auto|[^\s/]+:\d+", value):
            self.fail(f"expected local, auto, or HOST:PORT, got {value!r}", param, ctx)
        return value


_study = click.argument("study", type=StudyArgument())
_settings = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="PATH=VALUE",
    help="Change one value of the study: loss.alpha=0.3, search.trials=8. Setting a knob pins it.",
)
_storage = click.option("--storage", metavar="URI", help="Where results go (default: the study's own, else ./runs).")

_address = click.option(
    "--address",
    type=RayAddress(),
    default="local",
    show_default=True,
    help="Ray to run on: local, auto, or HOST:PORT.",
)
_trials = click.option("--trials", type=click.IntRange(min=1), help="How many trials in all.")


def _format(*kinds: str) -> Callable[[Any], Any]:
    return click.option("--format", "kind", type=click.Choice(kinds), default="text", show_default=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="robust-sweeps")
def main() -> None:
    """Find the best trade-off between clean and adversarially robust accuracy of a vision encoder.

    STUDY is a YAML file, or the bare name of a shipped one such as alpha_study.

    Shell completion: eval "$(_SWEEP_COMPLETE=bash_source sweep)" (or zsh_source, fish_source).
    """


@main.command()
@_study
@_settings
@_storage
@_format("text", "json")
def check(study: str, settings: tuple[str, ...], storage: str | None, kind: str) -> None:
    """Validate a study and say what it would cost; start nothing."""
    checked, notes = _checked(study, settings, storage)
    from sweeps.check.plan import plan, plan_text
    from trainables.resources import this_machine

    described = plan(checked, [this_machine()])
    if kind == "json":
        click.echo(json.dumps(described | {"notes": notes}, indent=2))
        return
    click.echo(plan_text(described))
    for note in notes:
        click.echo(f"note: {note}")


@main.command()
@_study
@_settings
@_format("text", "json")
def trial(study: str, settings: tuple[str, ...], kind: str) -> None:
    """Run the study's recipe once, here, without Ray; print each evaluation."""
    checked, _ = _checked(study, settings, None)
    from sweeps.single import run_single

    with _sentences():
        metrics = run_single(checked, say=None if kind == "json" else click.echo)
    if kind == "json":
        click.echo(json.dumps(metrics))


@main.command()
@_study
@_settings
@_trials
@_storage
@_address
def launch(study: str, settings: tuple[str, ...], trials: int | None, storage: str | None, address: str) -> None:
    """Run every trial of a study, follow it, and print the front."""
    if trials is not None:
        settings = (*settings, f"search.trials={trials}")
    checked, notes = _checked(study, settings, storage, address)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    from sweeps.launch import launch_study

    with _sentences():
        _conclude(launch_study(checked, address))


@main.command()
@_study
@_storage
@_trials
@_address
def resume(study: str, storage: str | None, trials: int | None, address: str) -> None:
    """Go on with an interrupted sweep, or extend a finished one with --trials."""
    from sweeps.launch import resume_study

    with _sentences():
        _conclude(resume_study(_folder(study, storage), trials, address))


@main.command()
@_study
@_storage
@_format("text", "json")
def status(study: str, storage: str | None, kind: str) -> None:
    """One line a trial: state, knobs, metrics, steps, seconds."""
    from sweeps.lock import is_running
    from sweeps.stored import stored_results, stored_study

    with _sentences():
        folder = _folder(study, storage)
        stored, records = stored_study(folder), list(stored_results(folder).records.values())
        running = is_running(folder)
    if kind == "json":
        click.echo(json.dumps([record.as_json() for record in records], indent=2))
        return
    from sweeps.report import status_table

    _print(status_table(records, stored.objectives))
    if not running and any(record.state in ("pending", "running") for record in records):
        again = f"sweep resume {study}" + (f" --storage {storage}" if storage else "")
        click.echo(f"Nothing is running now; `{again}` goes on with the unfinished trials.")


@main.command()
@_study
@_storage
@_format("text", "json", "csv")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write a .png, .html, .csv or .json.")
def front(study: str, storage: str | None, kind: str, out: Path | None) -> None:
    """The finished trials that no other beats in every objective."""
    from sweeps.pareto import front as front_of
    from sweeps.report import front_csv, front_json, front_table, write_front
    from sweeps.stored import RequestError, stored_results, stored_study

    with _sentences():
        folder = _folder(study, storage)
        stored, records = stored_study(folder), list(stored_results(folder).records.values())
        members = front_of(records, stored.objectives, stored.feasible)
        if out is not None:
            try:
                write_front(str(out), records, members, stored.objectives, stored.name)
            except OSError as error:
                raise RequestError(f"cannot write {out} ({error.strerror})") from None
    if kind == "json":
        click.echo(front_json(members))
    elif kind == "csv":
        click.echo(front_csv(members), nl=False)
    else:
        _print(front_table(records, members, stored.objectives))
    if out is not None:
        click.echo(f"wrote {out}", err=True)


@main.command()
def schema() -> None:
    """The JSON Schema of a study, for editors."""
    from sweeps.study import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


def _checked(
    study: str, settings: tuple[str, ...], storage: str | None, address: str = "local"
) -> tuple["Study", list[str]]:
    """The study if nothing is wrong with it; else every problem on stderr, and exit code 2."""
    from sweeps.check import check_study
    from trainables.resources import this_machine

    if storage is not None:
        settings = (*settings, f"storage={storage}")
    checked, problems, notes = check_study(study, settings, [this_machine()] if address == "local" else None)
    if problems or checked is None:
        for problem in problems:
            click.echo(str(problem), err=True)
        sys.exit(WRONG_REQUEST)
    return checked, notes


def _folder(study: str, storage: str | None) -> "Folder":
    """Where the study's results are: under the name it has in its file, or that it was launched under."""
    from robustcore.storage import Folder
    from sweeps.source import named

    name, own_storage = named(study)
    return Folder(storage or own_storage).at(name)


@contextmanager
def _sentences() -> Iterator[None]:
    """What the user can put right is a sentence, not a traceback."""
    from robustcore.errors import InputError, NonFiniteLoss
    from sweeps.source import StudyError
    from sweeps.stored import RequestError

    try:
        yield
    except (RequestError, StudyError, InputError) as error:
        click.echo(str(error), err=True)
        sys.exit(WRONG_REQUEST)
    except NonFiniteLoss as error:
        click.echo(str(error), err=True)
        sys.exit(FAILED)


def _conclude(outcome: "Outcome") -> None:
    """The front and where everything is; exit code 1 where a trial failed or is unfinished."""
    from sweeps.report import front_table

    sweep = outcome.sweep
    _print(front_table(list(sweep.results.records.values()), sweep.front(), sweep.study.objectives))
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
    if unfinished:
        again = f"sweep resume {sweep.study.path} --storage {sweep.study.storage}"
        click.echo(f"{len(unfinished)} trials are unfinished; `{again}` goes on.", err=True)
    sys.exit(FAILED if outcome.failed or unfinished else 0)


def _print(table: Any) -> None:
    from rich.console import Console

    # A pipe has no width: a table that was cut there would lose columns.
    console = Console() if sys.stdout.isatty() else Console(width=200)
    console.print(table)
