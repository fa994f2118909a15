"""The front -> terminal, PNG, HTML, CSV, JSON; metrics are shares for programs and percent for people."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from robustcore.errors import InputError
from robustcore.intervals import Interval
from sweeps import wording
from sweeps.certified import fallen, flags_of
from sweeps.pareto import Feasible, Objectives, always
from sweeps.report.columns import (
    Cell,
    certified_intervals,
    intervals_of,
    knob_columns,
    knob_paths,
    mark_columns,
    metric_columns,
    notes,
)
from sweeps.report.depiction import Scene
from sweeps.results.records import TrialRecord, Value
from sweeps.seeds import averaged, seeds_of

MOST_ROWS = 200  # of a table; laying one out takes about a millisecond a row
Records = Sequence[TrialRecord]
STYLES = {"pending": "dim", "running": "cyan", "finished": "green", "stopped": "yellow", "failed": "red"}


def front_table(records: Records, front: Records, objectives: Objectives, feasible: Feasible = always) -> Table:
    """One line a member of the front; below stand the states of all trials, and why a number may not hold."""
    gone = fallen(records, objectives, feasible)
    table = _table(_caption(records, front, objectives, gone))
    columns = _columns(table, front, objectives, gone)
    for record in front:
        table.add_row(Text(record.trial), *_cells(record, columns))
    return table


def status_table(records: Records, objectives: Objectives) -> Table:
    """One line a trial; the last column says why a trial failed, was stopped, repeated, or took another's result.

    Of a long sweep, those that are not over and the newest ``MOST_ROWS``; the caption says so.
    """
    known = records
    records = sorted(known, key=lambda record: [int(number) for number in record.trial.split(".")])
    old = records[:-MOST_ROWS]
    records = [record for record in old if record.state in ("pending", "running")] + records[-MOST_ROWS:]
    caption = _caption(known, records, objectives, {})
    if len(records) < len(known):
        caption.append(f"\n{len(records)} of {len(known)} trials are shown, the newest; --format json has all")
    table = _table(caption)
    table.add_column("state", overflow="fold")
    columns = _columns(table, records, objectives, {})
    for heading in ("steps", "time"):
        table.add_column(heading, justify="right")
    reasons = [_reason(record) for record in records]
    if any(reasons):
        table.add_column("reason", overflow="fold")
    for record, reason in zip(records, reasons, strict=True):
        cells = [Text(record.trial), Text(record.state, style=STYLES[record.state]), *_cells(record, columns)]
        cells += [Text(str(record.step)), Text(wording.duration(record.seconds))]
        table.add_row(*cells, *([Text(reason)] if any(reasons) else []))
    return table


def _table(caption: Text) -> Table:
    table = Table(caption=caption, caption_justify="left")
    table.add_column("trial", no_wrap=True)
    return table


# Text, not str: rich would take "[red]" in a knob's value for markup.


def _columns(table: Table, records: Records, objectives: Objectives, gone: Mapping[str, str]) -> dict[str, Cell]:
    """The table's middle, with its headings added: knobs, metrics for people, seeds and flags."""
    # What certificates say takes the room of the metrics that were not asked for.
    is_certified = any(record.certificate is not None for record in records)
    names = list(objectives) if is_certified else wording.headlines(records, first=objectives)
    metrics = metric_columns(records, names, objectives)
    columns = knob_columns(records) | metrics | mark_columns(records, objectives, gone)
    for heading in columns:
        # Folded, not cut: on a narrow terminal every digit is still there.
        style = "bold" if heading in objectives else ""
        table.add_column(Text(heading), justify="right", overflow="fold", style=style)
    return columns


def _cells(record: TrialRecord, columns: Mapping[str, Cell]) -> list[Text]:
    return [Text(cell(record)) for cell in columns.values()]


def _caption(records: Records, shown: Records, objectives: Objectives, gone: Mapping[str, str]) -> Text:
    return Text("\n".join([wording.states(records), *notes(shown, objectives, gone)]))


def _reason(record: TrialRecord) -> str:
    copied = f"a copy of {record.copy_of}" if record.copy_of else ""
    repeated = f"{record.repeat_of} with seed {record.seed}" if record.repeat_of else ""
    return wording.one_line(record.reason or copied or repeated)


def write_front(
    path: str, records: Records, front: Records, objectives: Objectives, title: str, feasible: Feasible = always
) -> None:
    """Write ``path`` in the format of its suffix; ``title`` is the study's name.

    Raises InputError for a suffix other than .png, .html, .csv and .json.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".png":
        content = picture(records, front, objectives, title, feasible)
    elif suffix == ".html":
        content = page(records, front, objectives, title, feasible).encode()
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
    """A header, then one line a trial: trial, knobs, metrics (shares), step; then what only some fronts have.

    That is ``ci/pgd/low`` and ``ci/pgd/high`` for each metric with a 95 % interval, ``certified/pgd`` and its
    interval, the number of seeds, and the names of the flags.
    """
    first = ["trial", *knob_paths(front), *dict.fromkeys(name for record in front for name in record.metrics), "step"]
    rows = [{**r.knobs, **r.metrics, "trial": r.trial, "step": r.step, **_known(r)} for r in front]
    text = io.StringIO()
    names = dict.fromkeys([*first, *(name for row in rows for name in row)])
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _known(record: TrialRecord) -> dict[str, Value]:
    """What is known of the numbers themselves."""
    known: dict[str, Value] = _ends("ci/", intervals_of(record))
    if record.certificate is not None:
        known |= {f"certified/{name}": value for name, value in record.certificate.metrics.items()}
        known |= _ends("ci/certified/", certified_intervals(record))
    if len(seeds_of(record)) > 1:
        known["seeds"] = len(seeds_of(record))
    if flags := flags_of(record, {}):
        known["flags"] = " ".join(flags)
    return known


def _ends(prefix: str, intervals: Mapping[str, Interval]) -> dict[str, Value]:
    ends = [(f"{prefix}{name}/{side}", getattr(i, side)) for name, i in intervals.items() for side in ("low", "high")]
    return dict(ends)


def front_json(front: Records) -> str:
    """A list of ``TrialRecord.as_json()``, with 95 % ``intervals`` as [low, high] by metric, of certificates too."""
    return json.dumps([_public(record) for record in front], indent=2) + "\n"


def _public(record: TrialRecord) -> dict[str, Any]:
    public = record.as_json()
    if intervals := intervals_of(record):
        public["intervals"] = {name: [each.low, each.high] for name, each in intervals.items()}
    if record.certificate is not None:
        intervals = certified_intervals(record)
        public["certificate"]["intervals"] = {name: [each.low, each.high] for name, each in intervals.items()}
    return public


def front_files(
    records: Records, front: Records, objectives: Objectives, title: str, feasible: Feasible = always
) -> dict[str, bytes]:
    """What a study's folder keeps of its front, by name."""
    return {
        "front.png": picture(records, front, objectives, title, feasible),
        "front.html": page(records, front, objectives, title, feasible).encode(),
        "front.json": front_json(front).encode(),
    }


# matplotlib and plotly take a second each to import, and most calls of this module want a table alone.


def picture(records: Records, front: Records, objectives: Objectives, title: str, feasible: Feasible = always) -> bytes:
    """The front among all trials, as PNG; ``title`` is the study's name."""
    from sweeps.report.png import draw

    return draw(Scene(averaged(records), front, objectives, title, feasible))


def page(records: Records, front: Records, objectives: Objectives, title: str, feasible: Feasible = always) -> str:
    """The front as one interactive HTML file that needs no network; ``title`` is the study's name."""
    from sweeps.report.html import render

    return render(Scene(averaged(records), front, objectives, title, feasible))
