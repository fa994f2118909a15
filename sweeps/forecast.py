"""Stopping by forecast: a trial goes on while it may still add to the front, as far as finished trials tell.

A rung is trusted as far as it has told the end so far: where the best start as the worst, nobody is stopped early.
"""

import bisect
from collections.abc import Sequence

import numpy as np

from sweeps.curves import Curve, ends, read_curve, share_of
from sweeps.earlier import own_knobs
from sweeps.results import TrialRecord
from sweeps.study import Study

OPTIMISM = 2.0  # deviations above what is expected


class Forecast:
    """Stops a trial that ends behind a finished one in every objective, even if it does better than expected."""

    def __init__(self, study: Study, rungs: Sequence[int]) -> None:
        self._study, self._rungs = study, rungs
        self._curves: dict[str, Curve] = {}
        self._whole: list[str] = []  # of those, in the order of their names, whatever the order in which they ended
        self._reached: dict[str, int] = {}  # the rung that each trial was judged at last

    def remember(self, record: TrialRecord, step: int, values: np.ndarray, violation: float) -> bool:
        """The first evaluation at or past each rung is judged; never those of a trial that the study knows no more."""
        knobs = own_knobs(self._study, record)
        if knobs is None:
            return False
        share, row = share_of(self._study, knobs, step), np.array([[*values, -violation]])
        begun = self._curves.get(record.trial) or read_curve(self._study, knobs, [], is_whole=False)
        if len(begun.shares) and share <= begun.shares[-1]:
            return False  # told again after a restart
        seen = np.vstack([begun.values, row]) if len(begun.shares) else row
        shares = np.append(begun.shares, share)
        self._curves[record.trial] = begun._replace(shares=shares, values=seen, is_whole=share >= 1)
        if share >= 1:
            bisect.insort(self._whole, record.trial)
        rung = max((rung for rung in self._rungs if rung <= step), default=0)
        before, self._reached[record.trial] = self._reached.get(record.trial, 0), rung
        return rung > before and share < 1

    def goes_on(self, record: TrialRecord, step: int, values: np.ndarray, violation: float) -> bool:
        """Whether it may still add to the front of the finished trials."""
        curve = self._curves[record.trial]
        whole = [self._curves[trial] for trial in self._whole]
        told = ends([curve], float(curve.shares[-1]), whole)
        if told is None:
            return True
        (expected,), (deviation,) = told
        hoped = expected + OPTIMISM * deviation
        front = np.array([each.values[-1] for each in whole if each.values[-1][-1] >= 0])
        if not len(front):
            return True  # nobody keeps the constraints yet
        return bool(hoped[-1] >= 0 and not (front[:, :-1] >= hoped[:-1]).all(axis=1).any())
