"""The front of the finished trials and its hypervolume, kept up trial by trial: a long sweep asks at every ending."""

import math
from collections.abc import Iterable

from sweeps.pareto import Feasible, Objectives, always, front, hypervolume, reference_point, signed
from sweeps.results.records import TrialRecord
from sweeps.seeds import averaged


class Standing:
    """At any moment what ``front`` and ``front_hypervolume`` say of all the trials that were added."""

    def __init__(self, objectives: Objectives, feasible: Feasible = always) -> None:
        self.members: list[TrialRecord] = []
        self.finished = 0  # trials, copies and repeats included
        self._objectives, self._feasible = objectives, feasible
        self._worst: dict[str, TrialRecord] = {}  # by minimised objective
        self._volume: float | None = 0.0

    def add(self, record: TrialRecord, records: Iterable[TrialRecord]) -> None:
        """A trial that is over, one of all the ``records``; they are gone through only where it is a repeat."""
        if record.state != "finished":
            return
        self.finished += 1
        news = [record]
        if record.repeat_of:  # the trial that it repeats is worth something else now
            news = [each for each in averaged(records) if each.state == "finished"]
            self.members, self._worst = [], {}
        self.members = front([*self.members, *news], self._objectives, self._feasible)
        for each in news:
            self._note_worst(each)
        self._volume = None

    def _note_worst(self, record: TrialRecord) -> None:
        for name, way in self._objectives.items():
            value = record.metrics.get(name, math.nan)
            if way == "min" and math.isfinite(value):
                before = self._worst.get(name)
                self._worst[name] = record if before is None or value > before.metrics[name] else before

    @property
    def hypervolume(self) -> float:
        """Against the ``reference_point`` of all the trials."""
        if self._volume is None:
            points = signed([member.metrics for member in self.members], self._objectives)
            self._volume = hypervolume(points, reference_point(self._worst.values(), self._objectives))
        return self._volume
