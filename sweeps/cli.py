"""The `sweep` command: one short function a verb. Nothing heavy is imported before a verb needs it."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweeps.options import (
    Strengthening,
    address_option,
    certify_options,
    checked_study,
    folder_of,
    format_option,
    print_table,
    sentences,
    settings_option,
    storage_option,
    strength_options,
    study_argument,
    trials_option,
)

if TYPE_CHECKING:
    from robustcore.export import Format


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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
@format_option("text", "json")
def check(study: str, settings: tuple[str, ...], storage: str | None, kind: str) -> None:
    """Validate a study and say what it would cost; start nothing."""
    checked, notes = checked_study(study, settings, storage)
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
@study_argument
@settings_option
@format_option("text", "json")
def trial(study: str, settings: tuple[str, ...], kind: str) -> None:
    """Run the study's recipe once, here, without Ray; print each evaluation."""
    checked, _ = checked_study(study, settings, None)
    from sweeps.single import run_single

    with sentences():
        metrics = run_single(checked, say=None if kind == "json" else click.echo)
    if kind == "json":
        click.echo(json.dumps(metrics))


@main.command()
@study_argument
@settings_option
@trials_option
@storage_option
@address_option
@certify_options
def launch(
    study: str,
    settings: tuple[str, ...],
    trials: int | None,
    storage: str | None,
    address: str,
    wanted: Strengthening | None,
) -> None:
    """Run every trial of a study, follow it, and print the front."""
    if trials is not None:
        settings = (*settings, f"search.trials={trials}")
    checked, notes = checked_study(study, settings, storage, address)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    from sweeps.certify.strength import strength_for
    from sweeps.conclusion import conclude
    from sweeps.launch import launch_study

    with sentences():
        strength = strength_for(checked, wanted) if wanted else None
        sys.exit(conclude(launch_study(checked, address), strength, address))


@main.command()
@study_argument
@storage_option
@trials_option
@address_option
@certify_options
def resume(
    study: str,
    storage: str | None,
    trials: int | None,
    address: str,
    wanted: Strengthening | None,
) -> None:
    """Go on with an interrupted sweep, or extend a finished one with --trials."""
    from sweeps.certify.strength import strength_for
    from sweeps.conclusion import conclude
    from sweeps.launch import resume_study
    from sweeps.stored import launched_study

    with sentences():
        folder = folder_of(study, storage)
        strength = strength_for(launched_study(folder), wanted) if wanted else None
        sys.exit(conclude(resume_study(folder, trials, address), strength, address))


@main.command()
@study_argument
@strength_options
@storage_option
@address_option
@format_option("text", "json")
def certify(study: str, wanted: Strengthening, storage: str | None, address: str, kind: str) -> None:
    """Attack the front and its runners-up again, at full strength; goes on with what was interrupted."""
    from sweeps.certify.command import certify_and_print
    from sweeps.certify.strength import strength_for
    from sweeps.stored import launched_study

    with sentences():
        folder = folder_of(study, storage)
        sys.exit(certify_and_print(folder, strength_for(launched_study(folder), wanted), address, kind))


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


@main.command()
@study_argument
@click.argument("trial")
@click.option("--to", type=click.Choice(("open_clip", "hf", "timm", "onnx")), required=True, help="Whose layout.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="A new or an empty folder.")
@click.option("--register", is_flag=True, help="Also make it a version of the study's registered model in MLflow.")
@storage_option
def export(study: str, trial: str, to: "Format", out: Path, register: bool, storage: str | None) -> None:
    """Write the encoder of finished trial TRIAL for another library, with a model card."""
    from sweeps.export import export_trial

    with sentences():
        exported = export_trial(folder_of(study, storage), trial, to, out, register)
    click.echo(f"wrote    {out}\n\n{exported.usage}")
    if exported.mlflow:
        click.echo(f"MLflow   {exported.mlflow}")
    if exported.warning:
        click.echo(f"warning: {exported.warning}", err=True)


@main.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--suite", help="A named suite: clip14, tima, advclip8, digits; its sets lie in --root.")
@click.option("--data", multiple=True, metavar="SET", help="A set by name, a path, or a source in YAML; repeatable.")
@click.option("--root", type=click.Path(file_okay=False), help="The folder that named sets lie in.")
@click.option(
    "--attack", "attacks", multiple=True, metavar="NAME", help="pgd, apgd, ... or {kind: pgd, steps: 40}; repeatable."
)
@click.option("--eps", default="4/255", show_default=True, help="The attacks' radius, pixels being in [0, 1].")
@click.option("--norm", type=click.Choice(("linf", "l2")), default="linf", show_default=True)
@click.option("--samples", type=click.IntRange(min=1), help="At most so many images of each set, always the same.")
@click.option(
    "--resolution",
    type=click.Choice(("model", "native")),
    default="model",
    show_default=True,
    help="native: attack the stored pixels, the resize being inside the model.",
)
@click.option("--retrieval", multiple=True, metavar="PATH", help="Captioned images in Parquet; repeatable.")
@click.option("--drift-from", metavar="MODEL", help="Measure squared distances of embeddings to this original.")
@click.option("--prompts", multiple=True, metavar="TEXT", help="In the place of each set's own; {} is the class.")
@click.option("--probe", metavar="PATH", help="Images to fit the linear probe on, of a model without text.")
@click.option("--device", type=click.Choice(("cpu", "cuda")), default="cpu", show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=128, show_default=True)
@click.option("--classes", is_flag=True, help="Also a table by class.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write there what would be printed.")
@storage_option
@format_option("text", "json", "csv")
def evaluate(**options: Any) -> None:
    """Measure any encoders without a sweep: published ones beside your own.

    MODEL is ARCHITECTURE:TAG of open_clip (ViT-B-32-quickgelu:openai), the same with the image tower of a file in its
    place (ViT-L-14-quickgelu:openai+fare.pt), a checkpoint or exported folder, ARCHITECTURE:FILE, digits,
    digits-simclr, or STUDY:TRIAL of a sweep. Without --suite, --data and --retrieval, all are measured on what the
    first STUDY:TRIAL was, else on the digits.
    """
    from sweeps.evaluate.command import run

    run(**options)


@main.command()
def schema() -> None:
    """The JSON Schema of a study, for editors."""
    from sweeps.study import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
