"""The verbs of `sweep` about encoders, its own and others'; nothing heavy is imported before one needs it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweeps.options import folder_of, format_option, sentences, storage_option, study_argument

if TYPE_CHECKING:
    from robustcore.export import Format


@click.command()
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


@click.command()
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
