"""What the picture and the page say alike: the headline, and the knob that gives each trial its colour."""

import math
from collections.abc import Iterable, Sequence

from sweeps.pareto import Objectives, hypervolume, reference_point, signed
from sweeps.report import wording
from sweeps.results.records import TrialRecord, Value

INK, FAINT, REGION, PLAIN = "#22272e", "#9aa4b1", "#eef3fa", "#3b6fb6"


def headline(records: Sequence[TrialRecord], front: Sequence[TrialRecord], objectives: Objectives, study: str) -> str:
    """``alpha_study: 12 finished trials, hypervolume 0.689``"""
    finished = sum(record.state == "finished" for record in records)
    points = signed([member.metrics for member in front], objectives)
    volume = hypervolume(points, reference_point(records, objectives))
    trials = "trial" if finished == 1 else "trials"
    return f"{wording.one_line(study)}: {finished} finished {trials}, hypervolume {volume:.4g}"


def remark(records: Iterable[TrialRecord]) -> str:
    """Stands in the place of an empty front."""
    finished = any(record.state == "finished" for record in records)
    return "no finished trial meets the constraints" if finished else "no finished trial yet"


def colour_knob(records: Iterable[TrialRecord]) -> str | None:
    """The first knob that is a number anywhere."""
    return next((path for r in records for path, v in r.knobs.items() if number(v) is not None), None)


def number(value: Value) -> float | None:
    """A knob's value if it has a place on a colour scale."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def smallest_of_decades(numbers: Sequence[float]) -> float | None:
    """The smallest positive number if the scale should be logarithmic, else None.

    It should be where no number is negative and the positive ones span more than two decades.
    """
    positive = [number for number in numbers if number > 0]
    wide = bool(positive) and min(numbers) >= 0 and max(positive) > 100 * min(positive)
    return min(positive) if wide else None
