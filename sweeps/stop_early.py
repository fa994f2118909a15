"""Multi-objective ASHA: at every rung a trial goes on only if it is among the best so far, by Pareto rank.

Successive halving made asynchronous (Li et al. 2020) for several objectives (Schmucker et al. 2021). Rungs count
optimiser steps, ours, not Tune's iterations, which start anew when a trial does.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from sweeps.pareto import non_dominated, signed
from sweeps.results import TrialRecord, is_repeat
from sweeps.study import StopEarly, Study


class Rungs:
    """Who was how good when first seen at or after each rung; all objectives to be maximised."""

    def __init__(self, plan: StopEarly, last_step: int) -> None:
        assert plan.after is not None, "early stopping has a first rung"
        self._keep = plan.keep
        self._rungs: dict[int, dict[str, np.ndarray]] = {}
        rung = float(plan.after)
        while rung < last_step:
            self._rungs[round(rung)] = {}
            rung /= plan.keep

    def goes_on(self, trial: str, step: int, values: np.ndarray) -> bool:
        """Whether the trial goes on after these objectives (M,) at ``step``; remembers them."""
        if not np.isfinite(values).all():
            return True
        rung = max((rung for rung in self._rungs if rung <= step), default=None)
        if rung is None or trial in self._rungs[rung]:
            return True
        self._rungs[rung][trial] = values
        points = np.stack(list(self._rungs[rung].values()))
        if non_dominated(points)[-1]:
            return True  # nothing seen here is better in every way
        return bool(positions(points)[-1] < self._keep * len(points))


def positions(points: np.ndarray) -> np.ndarray:
    """(n,) place of each row, 0 is best: by front, and inside a front so that the first ones cover it (epsilon-net)."""
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1)
    place, taken = np.empty(len(points), int), 0
    left = np.arange(len(points))
    while len(left):
        on_front = non_dominated(points[left])
        for row in left[on_front][_spread(scaled[left[on_front]])]:
            place[row], taken = taken, taken + 1
        left = left[~on_front]
    return place


def _spread(points: np.ndarray) -> list[int]:
    """Rows in farthest-first order, from the best in the first objective."""
    order = [int(points[:, 0].argmax())]
    distance = np.linalg.norm(points - points[order[0]], axis=1)
    while len(order) < len(points):
        distance[order] = -1
        order.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[order[-1]], axis=1))
    return order


class MultiObjectiveASHA(FIFOScheduler):  # type: ignore[misc]  # Ray's types are Any here
    """``Rungs`` as Ray Tune asks for them."""

    def __init__(self, study: Study, past: Iterable[TrialRecord]) -> None:
        super().__init__()
        self._objectives = study.objectives
        assert study.stop_early is not None, "made only where a study stops early"
        self._rungs = Rungs(study.stop_early, study.recipe.optim.steps)
        for record in past:
            if record.repeat_of:
                continue
            for evaluation in record.evaluations:
                self._goes_on(record.trial, evaluation.step, evaluation.metrics)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Called with the flattened result, whose metrics are ``metrics/<name>``."""
        metrics = {name: result.get(f"metrics/{name}", np.nan) for name in self._objectives}
        name = trial.config["assignment"]["trial"]
        if is_repeat(name):
            return str(TrialScheduler.CONTINUE)  # who repeats a trial is asked how good it is, not whether
        decision: str = TrialScheduler.CONTINUE if self._goes_on(name, result["step"], metrics) else TrialScheduler.STOP
        return decision

    def _goes_on(self, trial: str, step: int, metrics: dict[str, float]) -> bool:
        return self._rungs.goes_on(trial, step, signed([metrics], self._objectives)[0])
