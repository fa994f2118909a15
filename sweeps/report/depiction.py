"""What the picture and the page show alike: trials, front, certified points, the headline, the knob of the colours."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from robustcore.intervals import Interval
from sweeps import wording
from sweeps.certified import as_certified, certified_front, fallen, judged
from sweeps.pareto import Feasible, Objectives, always, front, hypervolume, reference_point, signed
from sweeps.results.records import TrialRecord, Value
from sweeps.seeds import interval

INK, FAINT, REGION, PLAIN, ALARM = "#22272e", "#9aa4b1", "#eef3fa", "#3b6fb6", "#c62f2f"


@dataclass(frozen=True)
class Scene:
    """All trials with their repeats in the means, those on the front, and what was asked of them."""

    records: Sequence[TrialRecord]
    front: Sequence[TrialRecord]
    objectives: Objectives
    study: str
    feasible: Feasible = always

    @cached_property
    def border(self) -> list[TrialRecord]:
        """The front proper: who is shown on it for want of certainty alone is left out."""
        return front(self.front, self.objectives)

    @cached_property
    def certified(self) -> dict[str, TrialRecord]:
        """By trial, with the certified metrics in the place of the searched ones."""
        return {record.trial: as_certified(record) for record in self.records if record.certificate}

    @cached_property
    def certified_border(self) -> list[TrialRecord]:
        """The front of the certified numbers."""
        return certified_front(self.records, self.objectives, self.feasible)

    @cached_property
    def fallen(self) -> dict[str, str]:
        """Who is on the searched front and not on the certified one, and why."""
        return fallen(self.records, self.objectives, self.feasible)

    @cached_property
    def dropped(self) -> set[str]:
        """Whose certified number is more than two points below the searched one."""
        judgements = {record.trial: judged(record, self.objectives) for record in self.records}
        return {trial for trial, judgement in judgements.items() if judgement is not None and judgement.flagged}

    def headline(self) -> str:
        """``alpha_study: 12 finished trials, hypervolume 0.689, certified 0.512``"""
        finished = sum(record.state == "finished" for record in self.records)
        trials = "trial" if finished == 1 else "trials"
        words = f"{wording.one_line(self.study)}: {finished} finished {trials}, hypervolume {self._volume(self.front)}"
        return f"{words}, certified {self._volume(self.certified_border)}" if self.certified else words

    def _volume(self, members: Sequence[TrialRecord]) -> str:
        points = signed([member.metrics for member in members], self.objectives)
        return f"{hypervolume(points, reference_point(self.records, self.objectives)):.4g}"


def spread(records: Iterable[TrialRecord], name: str) -> list[Interval]:
    """Of each record; of no width where nothing is known."""
    found = ((record, interval(record, name)) for record in records)
    return [each or Interval(*[record.metrics[name]] * 3) for record, each in found]


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
