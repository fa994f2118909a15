"""Which trials are not worth their remaining steps; Ray Tune asks through ``hooks.Judge``, the simulator directly.

A verdict depends on the evaluations of all trials and never on the order of those that came before, so the rules are
rebuilt from the results alone. Steps are the optimiser's, ours: Tune's iterations start anew when a trial does.
"""

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np

from sweeps.forecast import Forecast
from sweeps.pareto import signed
from sweeps.ranking import are_ahead, place
from sweeps.results import TrialRecord
from sweeps.study import StopEarly, Study


class Rule(Protocol):
    """Objectives are signed, to be maximised; a violation is 0 where every constraint holds."""

    def remember(self, record: TrialRecord, step: int, values: np.ndarray, violation: float) -> bool:
        """Take note of an evaluation; returns whether there is something to judge: once for each evaluation."""
        ...

    def goes_on(self, record: TrialRecord, step: int, values: np.ndarray, violation: float) -> bool:
        """The verdict on the evaluation, right after it was remembered."""
        ...


class Stopping:
    """The rule of a study and all that it has seen."""

    def __init__(self, study: Study, past: Iterable[TrialRecord] = ()) -> None:
        assert study.stop_early is not None, "made only where a study stops early"
        self._study = study
        plan, last, every = study.stop_early, most_steps(study), study.recipe.evaluation.every
        match plan.kind:
            case "median":
                self._rule: Rule = Median(plan.begins(last, every))
            case "forecast":
                self._rule = Forecast(study, plan.rungs(last, every))
            case _:
                self._rule = Halving(plan, last, study.search.seed, every)
        for record in past:
            for evaluation in [] if record.copy_of or record.repeat_of else record.evaluations:
                self.remember(record, evaluation.step, evaluation.metrics)

    def remember(self, record: TrialRecord, step: int, metrics: Mapping[str, float]) -> bool:
        """An evaluation; whether ``goes_on`` is to be asked. A metric that is not finite is no evidence."""
        values, violation = self._seen(metrics)
        is_finite = math.isfinite(violation) and all(map(math.isfinite, values))
        return is_finite and self._rule.remember(record, step, values, violation)

    def goes_on(self, record: TrialRecord, step: int, metrics: Mapping[str, float]) -> bool:
        """The verdict on an evaluation that ``remember`` said is to be judged."""
        return self._rule.goes_on(record, step, *self._seen(metrics))

    def _seen(self, metrics: Mapping[str, float]) -> tuple[np.ndarray, float]:
        missed = (constraint.violation(metrics) for constraint in self._study.constraints.values())
        return signed([metrics], self._study.objectives)[0], sum(max(0.0, miss) for miss in missed)


def most_steps(study: Study) -> int:
    """Of the longest trial that the knobs allow."""
    knob = study.knobs.get("optim.steps")
    return study.recipe.optim.steps if knob is None else max(int(end) for end in knob.ends())  # type: ignore[arg-type]


class Halving:
    """Asynchronous successive halving (Li et al. 2020), for several objectives (Schmucker et al. 2021).

    At each rung only the best ``keep`` of those that ever reached it go on. Bracket b leaves out the first b rungs and
    compares its own trials alone: insurance against curves that cross.
    """

    def __init__(self, plan: StopEarly, last_step: int, seed: int, every: int = 1) -> None:
        rungs = plan.rungs(last_step, every)
        self._seed = seed
        self._brackets = [Rungs(rungs[first:], plan.keep, plan.spares_front) for first in range(plan.brackets)]
        self._shares = _shares([rungs[first:] for first in range(plan.brackets)], plan.keep, last_step)

    def remember(self, record: TrialRecord, step: int, values: np.ndarray, violation: float) -> bool:
        """The first evaluation at or past each rung counts there."""
        return self.bracket(record.trial).remember(record.trial, step, values, violation)

    def goes_on(self, record: TrialRecord, step: int, values: np.ndarray, violation: float) -> bool:
        """Whether the trial is among the best of its rung."""
        return self.bracket(record.trial).goes_on(record.trial, step)

    def bracket(self, trial: str) -> "Rungs":
        """Drawn by the study's seed and the trial's number."""
        if len(self._brackets) == 1:
            return self._brackets[0]
        draw = np.random.default_rng([self._seed, int(trial)]).random()
        return self._brackets[int(np.searchsorted(np.cumsum(self._shares)[:-1], draw, side="right"))]


def _shares(brackets: list[list[int]], keep: float, last_step: int) -> np.ndarray:
    """The probability of each bracket, such that all brackets spend the same number of steps, as in Hyperband.

    Drawing with e^(number of rungs), as others do, knows neither ``keep`` nor where the last rung lies.
    """
    shares = np.array([1 / _expected_steps([0, *rungs, last_step], keep) for rungs in brackets])
    return np.asarray(shares / shares.sum())


def _expected_steps(ends: list[int], keep: float) -> float:
    """Of a trial, where the share ``keep`` of the trials passes each end of a stretch but the last."""
    return sum(keep**passed * (end - start) for passed, (start, end) in enumerate(itertools.pairwise(ends)))


class Rungs:
    """One bracket: how good each trial was when first seen at or past each of the ``steps``."""

    def __init__(self, steps: Iterable[int], keep: float, spares_front: bool = True) -> None:
        self._keep, self._spares_front = keep, spares_front
        self._seen = {step: _Rung() for step in steps}

    def remember(self, trial: str, step: int, values: np.ndarray, violation: float = 0.0) -> bool:
        """Whether the trial has reached a rung with this evaluation."""
        rung = self._rung(step)
        if rung is None or trial in rung.rows:
            return False
        rung.add(trial, (violation, *values))
        return True

    def goes_on(self, trial: str, step: int) -> bool:
        """Whether it is among the best there; nobody is stopped whom none beats in every way, if fronts are spared."""
        rung = self._rung(step)
        assert rung is not None, "only who has reached a rung is judged"
        row, seen = rung.rows[trial], rung.seen
        room, certain = self._keep * len(seen), are_ahead(row, seen[:, 1:], seen[:, 0])
        if certain == 0 and self._spares_front:
            return True
        return certain < room and place(row, seen[:, 1:], seen[:, 0]).ahead < room

    def _rung(self, step: int) -> "_Rung | None":
        return self._seen.get(max((rung for rung in self._seen if rung <= step), default=-1))


class _Rung:
    """Rows of numbers by trial, in an array that grows by halves: thousands are compared at once."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self._table = np.empty((0, 0))

    @property
    def seen(self) -> np.ndarray:
        """(trials, 1 + objectives): the violation, then the values."""
        return self._table[: len(self.rows)]

    def add(self, trial: str, numbers: tuple[float, ...]) -> None:
        """The next row."""
        row = self.rows[trial] = len(self.rows)
        if row == len(self._table):
            grown = np.empty((row + row // 2 + 8, len(numbers)))
            if row:
                grown[:row] = self._table
            self._table = grown
        self._table[row] = numbers


class Median:
    """The median rule of Vizier (Golovin et al. 2017), for one objective.

    A trial is stopped where its best value so far is below the median of what at least three others, having come as
    far, were worth on average from step ``after`` on. Violations do not count.
    """

    OTHERS = 3

    def __init__(self, after: int) -> None:
        self._after = after
        self._curves: dict[str, dict[int, float]] = {}

    def remember(self, record: TrialRecord, step: int, values: np.ndarray, violation: float) -> bool:
        """Every evaluation from ``after`` on is judged."""
        curve = self._curves.setdefault(record.trial, {})
        if step in curve:
            return False
        curve[step] = float(values[0])
        return step >= self._after

    def goes_on(self, record: TrialRecord, step: int, values: np.ndarray, violation: float) -> bool:
        """Whether its best is at least the median of the others' running means."""
        others = [curve for name, curve in self._curves.items() if name != record.trial and max(curve) >= step]
        windows = [[value for at, value in curve.items() if self._after <= at <= step] for curve in others]
        means = [np.mean(window) for window in windows if window]
        best = max(self._curves[record.trial].values())
        return len(means) < self.OTHERS or bool(best >= np.median(means))
