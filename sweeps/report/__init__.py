"""The front -> terminal, PNG, HTML, CSV, JSON; metrics are shares for programs and percent for people."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from robustcore.errors import InputError
from sweeps.pareto import Objectives
from sweeps.report import wording
from sweeps.results.records import TrialRecord

Records = Sequence[TrialRecord]
STYLES = {"pending": "dim", "running": "cyan", "finished": "green", "stopped": "yellow", "failed": "red"}


def front_table(records: Records, front: Records, objectives: Objectives) -> Table:
    """One line a member of the front; the states of all trials stand below."""
    paths, names = _knob_paths(front), wording.headlines(front, first=objectives)
    table = Table("trial", caption=wording.states(records), caption_justify="left")
    for heading in (*paths, *names):
        table.add_column(Text(heading), justify="right", style="bold" if heading in objectives else "")
    for record in front:
        table.add_row(Text(record.trial), *_knobs(record, paths), *_metrics(record, names))
    return table


def status_table(records: Records, objectives: Objectives) -> Table:
    """One line a trial; the last column says why a trial failed, was stopped, or took another's result."""
    paths, names = _knob_paths(records), wording.headlines(records, first=objectives)
    reasons = any(record.reason or record.copy_of for record in records)
    table = Table("trial", "state", caption=wording.states(records), caption_justify="left")
    for heading in (*paths, *names, "steps", "time"):
        table.add_column(Text(heading), justify="right", style="bold" if heading in objectives else "")
    if reasons:
        table.add_column("reason", overflow="fold")
    for record in records:
        state = Text(record.state, style=STYLES[record.state])
        cells = [Text(record.trial), state, *_knobs(record, paths), *_metrics(record, names)]
        cells += [Text(str(record.step)), Text(wording.duration(record.seconds))]
        table.add_row(*cells, *([Text(_reason(record))] if reasons else []))
    return table


def _knob_paths(records: Records) -> list[str]:
    return list(dict.fromkeys(path for record in records for path in record.knobs))


# Text, not str: rich would take "[red]" in a knob's value for markup.


def _knobs(record: TrialRecord, paths: Sequence[str]) -> list[Text]:
    return [Text(wording.value(record.knobs[path]) if path in record.knobs else "") for path in paths]


def _metrics(record: TrialRecord, names: Sequence[str]) -> list[Text]:
    return [Text(wording.metric(n, record.metrics[n]) if n in record.metrics else "-") for n in names]


def _reason(record: TrialRecord) -> str:
    copied = f"a copy of {record.copy_of}" if record.copy_of else ""
    return wording.one_line(record.reason or copied)


def write_front(path: str, records: Records, front: Records, objectives: Objectives, title: str) -> None:
    """Write ``path`` in the format of its suffix; ``title`` is the study's name.

    Raises InputError for a suffix other than .png, .html, .csv and .json.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".png":
        content = picture(records, front, objectives, title)
    elif suffix == ".html":
        content = page(records, front, objectives, title).encode()
    elif suffix == ".csv":
        content = front_csv(front).encode()
    elif suffix == ".json":
        content = front_json(front).encode()
    else:
        raise InputError(
            f"{path}: expected a file that ends in .png, .html, .csv or .json, got {suffix or 'no suffix'!r}."
        )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(content)


def front_csv(front: Records) -> str:
    """A header, then one line a trial: trial, knobs, metrics (shares), step."""
    paths = _knob_paths(front)
    names = list(dict.fromkeys(name for record in front for name in record.metrics))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", *paths, *names, "step"])
    for record in front:
        knobs = [record.knobs.get(path) for path in paths]
        metrics = [record.metrics.get(name) for name in names]
        writer.writerow([record.trial, *knobs, *metrics, record.step])
    return text.getvalue()


def front_json(front: Records) -> str:
    """A list of ``TrialRecord.as_json()``."""
    return json.dumps([record.as_json() for record in front], indent=2) + "\n"


# matplotlib and plotly take a second each to import, and most calls of this module want a table alone.


def picture(records: Records, front: Records, objectives: Objectives, title: str) -> bytes:
    """The front among all trials, as PNG; ``title`` is the study's name."""
    from sweeps.report.png import draw

    return draw(records, front, objectives, title)


def page(records: Records, front: Records, objectives: Objectives, title: str) -> str:
    """The front as one interactive HTML file that needs no network; ``title`` is the study's name."""
    from sweeps.report.html import render

    return render(records, front, objectives, title)
