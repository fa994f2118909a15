"""What gp learns from: of a short sweep all trials that are over, of a long one the newest and the front.

It is kept up as trials end, so that the ten thousandth question takes no longer than the hundredth.
"""

import bisect
import itertools
from collections.abc import Sequence
from operator import itemgetter

import numpy as np

from sweeps.cube import Array
from sweeps.curves import Curve
from sweeps.pareto import non_dominated

NEWEST, MOVES, BEST = 96, 32, 32

_Numbered = tuple[int, Curve]
_NUMBER = itemgetter(0)


class History:
    """Trials that are over, by their numbers; what it tells depends on them, not on the order in which they ended."""

    def __init__(self, over: Sequence[Curve] = ()) -> None:
        self._sound: list[_Numbered] = []
        self._broken: list[_Numbered] = []
        self._front: list[_Numbered] = []  # of the whole trainings
        for number, curve in enumerate(over):
            self.add(number, curve)

    def add(self, number: int, curve: Curve) -> None:
        """A trial is over."""
        bisect.insort(self._sound if curve.is_sound else self._broken, (number, curve), key=_NUMBER)
        if curve.is_sound and curve.is_whole:
            bisect.insort(self._front, (number, curve), key=_NUMBER)
            kept = non_dominated(np.array([each.values[-1] for _, each in self._front]))
            self._front = list(itertools.compress(self._front, kept))

    def known(self) -> list[Curve]:
        """The newest with finite values, after those of the front that are older, in the order of their numbers."""
        first = max(0, len(self._sound) - NEWEST) // MOVES * MOVES  # now and then only: a kernel is kept for as long
        newest = self._sound[first:]
        older = [each for each in self._front if each[0] < newest[0][0]]
        return [curve for _, curve in [*older[-BEST:], *newest]]

    def broken(self) -> list[Curve]:
        """The newest that have no values."""
        return [curve for _, curve in self._broken[-BEST:]]

    def cubes(self) -> list[Array]:
        """Where all of them were."""
        return [curve.cube for _, curve in [*self._sound, *self._broken]]
