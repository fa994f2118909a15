"""What `sweep evaluate` does with its options: measure, then print or write; nothing is written unless asked for."""

import io
from pathlib import Path
from typing import Any

import click

from sweeps.evaluate import evaluate_models
from sweeps.evaluate.request import Request
from sweeps.evaluate.tables import as_csv, as_json, text_tables
from sweeps.options import print_table, sentences
from sweeps.stored import RequestError

DEFAULT = "autoattack"
_WIDTH = 120  # of a text file


def run(
    models: tuple[str, ...],
    attacks: tuple[str, ...],
    *,
    drift_from: str | None,
    probe: str | None,
    device: str,
    classes: bool,
    out: Path | None,
    storage: str | None,
    kind: str,
    **asked: Any,
) -> None:
    """See the command's help. Exits with 2 where the request is wrong."""
    with sentences():
        request = Request(attacks=attacks or (DEFAULT,), drifts=drift_from is not None, **asked)
        if out is not None and not out.parent.is_dir():
            raise RequestError(f"cannot write {out}: there is no folder {out.parent}")
        found = evaluate_models(
            models,
            request,
            device=device,
            storage=storage,
            drift_from=drift_from,
            probe=probe,
            say=lambda done: click.echo(done, err=True),
        )
        heading = f"{request.norm}, eps {request.eps}"
        if kind == "text" and out is None:
            print_table(text_tables(found, heading, classes))
            return
        facts = {"eps": request.ball()["eps"], "norm": request.norm, "resolution": request.resolution}
        content = {
            "csv": lambda: as_csv(found),
            "json": lambda: as_json(found, facts),
            "text": lambda: _plain(text_tables(found, heading, classes)),
        }[kind]()
        if out is None:
            click.echo(content, nl=False)
            return
        try:
            out.write_text(content, encoding="utf-8")
        except OSError as error:
            raise RequestError(f"cannot write {out} ({error.strerror})") from None
        click.echo(f"wrote {out}", err=True)


def _plain(tables: Any) -> str:
    from rich.console import Console

    file = io.StringIO()
    Console(file=file, width=_WIDTH).print(tables)
    return file.getvalue()
