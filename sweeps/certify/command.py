"""What `sweep certify` and `--certify` print: searched and certified side by side, who fell, and why."""

import json
from collections.abc import Iterator

import click
from rich.console import Console

from robustcore.storage import Folder
from sweeps.certify import Certification, certify_study
from sweeps.certify.strength import Strength
from sweeps.head import HeadLost
from sweeps.options import FAILED, print_table
from sweeps.report import front_json, front_table


def certify_and_print(folder: Folder, strength: Strength, address: str, kind: str = "text") -> int:
    """Certify the front and say what came of it; the exit code."""
    try:
        done = certify_study(folder, strength, address, Console(stderr=kind == "json"))
    except (KeyboardInterrupt, HeadLost) as error:
        click.echo(f"{str(error) or 'interrupted'}; the same command goes on where this one was", err=True)
        return FAILED
    if kind == "json":
        click.echo(_as_json(done))
    else:
        print_table(front_table(done.records, done.certified, done.study.objectives, done.study.feasible))
        for remark in _remarks(done):
            click.echo(remark)
        click.echo(f"picture  {folder.at('front.png').uri} and front.html")
    for trial, why in done.failures.items():
        click.echo(f"trial {trial} could not be certified: {why}", err=True)
    if done.warning:
        click.echo(f"warning: {done.warning}", err=True)
    return FAILED if done.failures else 0


def _remarks(done: Certification) -> Iterator[str]:
    for record in done.certified[:1]:
        assert record.certificate is not None, "these have one"
        samples = record.certificate.samples
        few = any(count < record.samples.get(name, count) for name, count in samples.items())
        images = [f"{count} of {record.samples.get(name, count)} images of {name}" for name, count in samples.items()]
        yield f"Certified on {', '.join(images)}."
        if few:
            yield "Searched numbers are of all images: some of a difference may be which images were drawn."
    for trial in done.joining():
        yield f"Trial {trial} joins the front: what beat it in the search does not under this attack."


def _as_json(done: Certification) -> str:
    """As `sweep front` has them, and why each fell off the front, or ""."""
    fallen = done.fallen()
    rows = json.loads(front_json(done.certified))
    return json.dumps([row | {"fallen": fallen.get(row["trial"], "")} for row in rows], indent=2)
