"""Records <-> one pyarrow table; the metadata of its schema say which columns are knobs and metrics."""

import json
from array import array
from collections.abc import Iterable, Sequence
from copy import copy
from typing import Any

import pyarrow as pa

from sweeps.results.records import Certificate, Evaluation, TrialRecord

MARK = b"sweeps"
"""Key of the metadata; the value: {"knobs": {path: {"column", "json"}}, "metrics": {name: column}}."""

# Columns with one value per trial, in the order of the file. The others hold JSON.
TEXTS = ("trial", "state", "reason", "copy_of", "repeat_of", "device", "recipe_hash")
JSONS = ("recipe", "versions", "sampler", "samples", "flags", "certificate", "notes")
LATER: dict[str, Any] = {"repeat_of": "", "samples": "{}", "flags": "{}", "certificate": "null", "notes": "[]"}
"""Columns that older files lack, and what stands for them."""
NOTHING: list[None] = [None]
FIXED = (*TEXTS, *JSONS, "step", "seconds", "seed", "started")


def to_table(records: Sequence[TrialRecord]) -> pa.Table:
    """Rows in the order of the trials, then of the steps.

    A trial without evaluations has one row with step 0 and null metrics and seconds.
    """
    names = dict.fromkeys(name for r in records for e in r.evaluations for name in e.metrics)
    layout: dict[str, Any] = {"knobs": {}, "metrics": {}}
    trials = _fixed_columns(records)
    knobs = dict.fromkeys(path for record in records for path in record.knobs)
    for path in knobs:
        if path == "seed" and all(_seed_is_a_knob(record) for record in records):
            layout["knobs"][path] = {"column": "seed", "json": False}
            continue
        column = f"knob:{path}" if path in FIXED else path
        trials[column], as_json = _knob_column(path, records)
        layout["knobs"][path] = {"column": column, "json": as_json}

    rows = pa.array([i for i, r in enumerate(records) for _ in range(max(1, len(r.evaluations)))], pa.int64())
    columns = {name: values.take(rows) for name, values in trials.items()}
    evaluations = [e for record in records for e in (record.evaluations or NOTHING)]
    columns["step"] = pa.array([e.step if e else 0 for e in evaluations], pa.int64())
    columns["seconds"] = pa.array([e.seconds if e else None for e in evaluations], pa.float64())
    for name in names:
        column = f"metric:{name}" if name in columns else name
        values = [None if e is None else e.metrics.get(name) for e in evaluations]
        columns[column] = pa.array(values, pa.float64())
        layout["metrics"][name] = column
    return pa.table(columns).replace_schema_metadata({MARK: json.dumps(layout)})


def _fixed_columns(records: Sequence[TrialRecord]) -> dict[str, pa.Array]:
    # A reason may quote a file name that is not valid Unicode, and no result may be lost to that.
    columns = {
        name: pa.array([getattr(r, name).encode("utf-8", "replace").decode() for r in records], pa.string())
        for name in TEXTS
    }
    columns["seed"] = pa.array([record.seed for record in records], pa.int64())
    columns["started"] = pa.array([record.started for record in records], pa.float64())
    for name in JSONS:
        columns[name] = pa.array([json.dumps(getattr(r, name), default=vars) for r in records], pa.string())
    return columns


def _seed_is_a_knob(record: TrialRecord) -> bool:
    return type(record.knobs.get("seed")) is int and record.knobs["seed"] == record.seed


def _knob_column(path: str, records: Iterable[TrialRecord]) -> tuple[pa.Array, bool]:
    """One value per trial, null where it has no such knob, and whether the values had to become JSON."""
    values = [(path in record.knobs, record.knobs.get(path)) for record in records]
    kinds = {type(value) for there, value in values if there}
    types = {float: pa.float64(), int: pa.int64(), str: pa.string(), bool: pa.bool_()}
    if len(kinds) == 1 and (kind := kinds.pop()) in types:
        try:
            return pa.array([value for _, value in values], types[kind]), False
        except (OverflowError, UnicodeEncodeError):
            pass  # an integer beyond 64 bits, or text that is not valid Unicode: both survive as JSON
    return pa.array([json.dumps(value) if there else None for there, value in values], pa.string()), True


def from_table(table: pa.Table) -> list[TrialRecord]:
    """Exactly what ``to_table`` was given; raises KeyError or ValueError for a table that it did not make."""
    if MARK not in (table.schema.metadata or {}):
        raise ValueError("this table was not written by a sweep")
    layout = json.loads(table.schema.metadata[MARK])
    ids = table["trial"].to_pylist()
    starts = [row for row, trial in enumerate(ids) if row == 0 or trial != ids[row - 1]]
    # pa.array would import pandas, to see whether this is one of its columns.
    first = pa.Array.from_buffers(pa.int64(), len(starts), [None, pa.py_buffer(array("q", starts))])
    records = _records(table.take(first), layout["knobs"])
    evaluations = _evaluations(table, layout["metrics"])
    for record, start, end in zip(records, starts, [*starts, len(ids)][1:], strict=True):
        record.evaluations = [e for e in evaluations[start:end] if e is not None]
    return records


def _records(trials: pa.Table, knobs: dict[str, dict[str, Any]]) -> list[TrialRecord]:
    for name, value in LATER.items():
        if name not in trials.column_names:
            trials = trials.append_column(name, pa.array([value] * len(trials), pa.string()))
    fixed = {name: trials[name].to_pylist() for name in (*TEXTS, "seed", "started")}
    fixed |= {name: _loaded(trials[name].to_pylist()) for name in JSONS}
    fixed["certificate"] = [None if given is None else Certificate(**given) for given in fixed["certificate"]]
    records = [TrialRecord(knobs={}, **dict(zip(fixed, row, strict=True))) for row in zip(*fixed.values(), strict=True)]
    for path, knob in knobs.items():
        for record, value in zip(records, trials[knob["column"]].to_pylist(), strict=True):
            if value is not None:
                record.knobs[path] = json.loads(value) if knob["json"] else value
    return records


def _loaded(texts: list[str]) -> list[Any]:
    """Of JSON; most texts stand there many times, and each trial has values of its own."""
    known = {text: json.loads(text) for text in set(texts)}
    return [copy(known[text]) for text in texts]


def _evaluations(table: pa.Table, metrics: dict[str, str]) -> list[Evaluation | None]:
    """One per row; None for the row of a trial without evaluations."""
    names = list(metrics)
    steps, seconds = table["step"].to_pylist(), table["seconds"].to_pylist()
    values: Iterable[tuple[float | None, ...]] = zip(*(table[metrics[n]].to_pylist() for n in names), strict=True)
    if not names:
        values = [()] * len(steps)
    return [
        None
        if spent is None
        else Evaluation(step, {n: v for n, v in zip(names, row, strict=True) if v is not None}, spent)
        for step, spent, row in zip(steps, seconds, values, strict=True)
    ]
