"""Two trials side by side: what of their recipes differs, and what came of it. Nothing is run."""

import math
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from sweeps import wording
from sweeps.earlier import complete
from sweeps.results import TrialRecord
from sweeps.seeds import interval
from sweeps.source.settings import flat
from sweeps.study.sentences import shown

Pair = tuple[TrialRecord, TrialRecord]


def difference(pair: Pair) -> dict[str, Any]:
    """Plain values, each of both trials in turn; ``difference`` is the second's minus the first's.

    Recipes are compared with their defaults written out. A metric that one of the two lacks is None there.
    """
    return {
        "trials": [record.trial for record in pair],
        "states": [record.state for record in pair],
        "reasons": [record.reason for record in pair],
        "steps": [record.step for record in pair],
        "recipe": _recipes(pair),
        "metrics": {name: _metric(pair, name) for name in dict.fromkeys([*pair[0].metrics, *pair[1].metrics])},
        "flags": [record.flags for record in pair],
    }


def _recipes(pair: Pair) -> dict[str, list[Any]]:
    one, other = (flat(complete(record.recipe)) for record in pair)
    paths = dict.fromkeys([*one, *other])
    return {path: [one.get(path), other.get(path)] for path in paths if one.get(path) != other.get(path)}


def _metric(pair: Pair, name: str) -> dict[str, Any]:
    values = [record.metrics.get(name) for record in pair]
    finite = [value if value is not None and math.isfinite(value) else None for value in values]
    intervals = [interval(record, name) if name in record.metrics else None for record in pair]
    known: dict[str, Any] = {"values": finite}
    if None not in finite:
        known["difference"] = finite[1] - finite[0]  # type: ignore[operator]  # neither is None
    if any(intervals):
        known["intervals"] = [None if each is None else [each.low, each.high] for each in intervals]
    return known


def difference_text(pair: Pair) -> Group:
    """Two tables and the flags."""
    found, names = difference(pair), [record.trial for record in pair]
    recipes = _table("recipe", ["path", *names])
    metrics = _table("\nmetrics", ["metric", *names, "difference"])
    for path, values in found["recipe"].items():
        recipes.add_row(*(Text(word) for word in (path, *map(shown, values))))
    for name in found["metrics"]:
        metrics.add_row(*(Text(word) for word in (name, *_words(pair, name))))
    states = [f"{record.trial} {record.state} at step {record.step}{_why(record)}" for record in pair]
    flags = [
        f"{record.trial}, {name}: {wording.one_line(text)}" for record in pair for name, text in record.flags.items()
    ]
    changed = recipes if found["recipe"] else Text("the recipes are the same")
    return Group(*map(Text, states), changed, metrics, *map(Text, flags))


def _table(title: str, headings: list[str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(Text(heading), overflow="fold")
    return table


def _words(pair: Pair, name: str) -> list[str]:
    cells = [wording.measured(name, record.metrics, interval(record, name)) or "-" for record in pair]
    both = all(name in record.metrics for record in pair)
    return [*cells, wording.difference(name, *(record.metrics[name] for record in pair)) if both else ""]


def _why(record: TrialRecord) -> str:
    return f" ({wording.one_line(record.reason)})" if record.reason else ""
