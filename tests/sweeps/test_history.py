"""What gp learns from of a long sweep: the newest and the front, whatever the order in which trials ended."""

import numpy as np
import pytest

from sweeps.curves import Curve
from sweeps.history import BEST, MOVES, NEWEST, History
from sweeps.pareto import non_dominated


def curves(count: int, objectives: int = 2) -> list[Curve]:
    """A third is no whole training, a tenth has no values."""
    generator = np.random.default_rng(objectives)
    found = []
    for values in generator.random((count, objectives)):
        is_sound, is_whole = generator.random() > 0.1, generator.random() > 0.3
        found.append(Curve(values, values, np.ones(1), values[None], is_whole, is_sound))
    return found


def numbers(some: list[Curve], of: list[Curve]) -> list[int]:
    return [next(number for number, other in enumerate(of) if other is each) for each in some]


@pytest.mark.parametrize("objectives", [1, 2, 3])
@pytest.mark.parametrize("count", [5, NEWEST, 1500])
def test_the_newest_come_after_the_older_ones_of_the_front(count: int, objectives: int) -> None:
    told = curves(count, objectives)
    sound = [number for number, curve in enumerate(told) if curve.is_sound]
    newest = sound[max(0, len(sound) - NEWEST) // MOVES * MOVES :]
    whole = np.array([number for number in sound if told[number].is_whole])
    front = whole[non_dominated(np.array([told[number].values[-1] for number in whole]))]
    older = [int(number) for number in front if number < newest[0]][-BEST:]
    history = History(told)
    assert numbers(history.known(), told) == [*older, *newest]
    assert numbers(history.broken(), told) == [n for n, curve in enumerate(told) if not curve.is_sound][-BEST:]
    assert len(history.cubes()) == count


def test_the_best_is_never_forgotten() -> None:
    told = curves(3000)
    best = told[0]._replace(values=np.ones((1, 2)), is_whole=True, is_sound=True)
    assert History([best, *told[1:]]).known()[0] is best


def test_the_order_in_which_trials_end_changes_nothing() -> None:
    told = curves(400)
    shuffled = History()
    for number in np.random.default_rng(0).permutation(len(told)):
        shuffled.add(int(number), told[int(number)])
    assert numbers(shuffled.known(), told) == numbers(History(told).known(), told)
    assert numbers(shuffled.broken(), told) == numbers(History(told).broken(), told)
