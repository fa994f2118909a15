"""What gp learns from: of a short sweep all trials that are over, of a long one the newest and the front.

It is kept up as trials end, so that the ten thousandth question takes no longer than the hundredth.
"""

import bisect
from collections.abc import Sequence
from operator import itemgetter

import numpy as np

from sweeps.cube import Array
from sweeps.curves import Curve

NEWEST, MOVES, BEST = 96, 32, 32

_Numbered = tuple[int, Curve]


class History:
    """Trials that are over, by their numbers; what it tells depends on them, not on the order in which they ended."""

    def __init__(self, over: Sequence[Curve] = ()) -> None:
        self._sound: list[_Numbered] = []
        self._broken: list[_Numbered] = []
        self._front: dict[int, Curve] = {}  # of the whole trainings
        for number, curve in enumerate(over):
            self.add(number, curve)

    def add(self, number: int, curve: Curve) -> None:
        """A trial is over."""
        bisect.insort(self._sound if curve.is_sound else self._broken, (number, curve), key=itemgetter(0))
        if curve.is_sound and curve.is_whole and not any(_beats(each, curve) for each in self._front.values()):
            self._front = {n: each for n, each in self._front.items() if not _beats(curve, each)} | {number: curve}

    def known(self) -> list[Curve]:
        """The newest with finite values, after those of the front that are older, in the order of their numbers."""
        first = max(0, len(self._sound) - NEWEST) // MOVES * MOVES  # now and then only: a kernel is kept for as long
        newest = self._sound[first:]
        older = sorted(number for number in self._front if newest and number < newest[0][0])
        return [*(self._front[number] for number in older[-BEST:]), *(curve for _, curve in newest)]

    def broken(self) -> list[Curve]:
        """The newest that have no values."""
        return [curve for _, curve in self._broken[-BEST:]]

    def cubes(self) -> list[Array]:
        """Where all of them were."""
        return [curve.cube for _, curve in [*self._sound, *self._broken]]


def _beats(one: Curve, other: Curve) -> bool:
    mine, its = one.values[-1], other.values[-1]
    return bool(np.all(mine >= its) and np.any(mine > its))
