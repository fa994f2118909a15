"""What `sweep certify` and `--certify` do, and what they print. Before anything starts, the request is checked."""

import click
from rich.console import Console

from robustcore.storage import Folder
from sweeps.certify import certify_study
from sweeps.certify.strength import Strength, read_strength, strong_attacks
from sweeps.certify.table import certified_json, certified_table, problems, remarks
from sweeps.options import FAILED, print_table
from sweeps.study import Study


def strength_for(study: Study, certify: bool, attack: str | None, samples: int | None) -> Strength | None:
    """How hard to attack again, once it is known that this can be done; None where it is not asked for."""
    if not certify:
        if attack is not None or samples is not None:
            raise click.UsageError("--attack and --samples say how to certify; expected --certify too")
        return None
    strength = read_strength(attack, samples)
    strong_attacks(study, study.recipe.as_json(), strength)
    return strength


def certify_and_print(folder: Folder, strength: Strength, address: str, kind: str = "text") -> int:
    """Certify the front and print what came of it; the exit code."""
    try:
        done = certify_study(folder, strength, address, Console(stderr=kind == "json"))
    except KeyboardInterrupt:
        click.echo("interrupted; the same command goes on where this one was", err=True)
        return FAILED
    if kind == "json":
        click.echo(certified_json(done))
    else:
        print_table(certified_table(done))
        for remark in remarks(done):
            click.echo(remark)
        click.echo(f"picture  {folder.uri}/front.png and front.html")
    for problem in problems(done):
        click.echo(problem, err=True)
    return FAILED if done.failures else 0
