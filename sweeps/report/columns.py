"""What stands in a table under each heading: searched and certified side by side, their 95 % intervals, the flags."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from robustcore.intervals import Interval, metric_interval
from sweeps import wording
from sweeps.certified import flags_of, heading
from sweeps.pareto import Objectives
from sweeps.results.records import TrialRecord
from sweeps.seeds import interval, seeds_of

Cell = Callable[[TrialRecord], str]
NONE = "-"
BRACKETS = "In brackets: 95 % intervals."


def knob_paths(records: Iterable[TrialRecord]) -> list[str]:
    """In the order of their first appearance."""
    return list(dict.fromkeys(path for record in records for path in record.knobs))


def knob_columns(records: Iterable[TrialRecord]) -> dict[str, Cell]:
    """By heading; empty where a trial has no such knob."""
    return {path: _knob(path) for path in knob_paths(records)}


def _knob(path: str) -> Cell:
    return lambda record: wording.value(record.knobs[path]) if path in record.knobs else ""


def metric_columns(records: Sequence[TrialRecord], names: Iterable[str], objectives: Objectives) -> dict[str, Cell]:
    """By heading; an objective has its interval, and after it what certificates say of it, by the attack they name."""
    columns: dict[str, Cell] = {}
    for name in names:
        columns[name] = _searched(name, name in objectives)
        if name in objectives:
            columns |= {title: _certified(name, title) for title in _titles(records, name)}
    return columns


def _titles(records: Iterable[TrialRecord], name: str) -> list[str]:
    """None where all certificates only repeat the searched number, as that of clean images does."""
    found = [(held, seeds_of(r)[0]) for r in records if (held := r.certificate) is not None and name in held.metrics]
    if all((held.metrics[name], held.samples) == (first.metrics.get(name), first.samples) for held, first in found):
        return []
    return list(dict.fromkeys(heading(name, held.attacks) for held, _ in found))


def _searched(name: str, with_interval: bool) -> Cell:
    def cell(record: TrialRecord) -> str:
        return wording.measured(name, record.metrics, interval(record, name) if with_interval else None) or NONE

    return cell


def _certified(name: str, title: str) -> Cell:
    def cell(record: TrialRecord) -> str:
        found = record.certificate
        if found is None or heading(name, found.attacks) != title:
            return NONE
        return wording.measured(name, found.metrics, metric_interval(name, found.metrics, found.samples)) or NONE

    return cell


def mark_columns(records: Sequence[TrialRecord], objectives: Objectives, fallen: Mapping[str, str]) -> dict[str, Cell]:
    """How many seeds a mean is of, and the flags, where any trial has some; a fallen one is off the front."""

    def flags(record: TrialRecord) -> str:
        return ", ".join([*(["fell off"] if record.trial in fallen else []), *flags_of(record, objectives)])

    def seeds(record: TrialRecord) -> str:
        return str(len(seeds_of(record)))

    columns: dict[str, Cell] = {"seeds": seeds} if any(len(seeds_of(record)) > 1 for record in records) else {}
    return columns | ({"flags": flags} if any(flags(record) for record in records) else {})


def notes(records: Sequence[TrialRecord], objectives: Objectives, fallen: Mapping[str, str]) -> list[str]:
    """A sentence for everything that a table can only name."""
    known = any(interval(record, name) for record in records for name in objectives)
    sentences = [BRACKETS] if known else []
    for record in records:
        if record.trial in fallen:
            sentences.append(f"Trial {record.trial} fell off the front: {fallen[record.trial]}.")
        flags = flags_of(record, objectives).items()
        sentences += [f"Trial {record.trial}, {name}: {wording.one_line(sentence)}" for name, sentence in flags]
    return sentences


def intervals_of(record: TrialRecord) -> dict[str, Interval]:
    """Of every metric that has one."""
    found = {name: interval(record, name) for name in record.metrics}
    return {name: each for name, each in found.items() if each is not None}


def certified_intervals(record: TrialRecord) -> dict[str, Interval]:
    """Of every certified metric that has one."""
    if (held := record.certificate) is None:
        return {}
    found = {name: metric_interval(name, held.metrics, held.samples) for name in held.metrics}
    return {name: each for name, each in found.items() if each is not None}
