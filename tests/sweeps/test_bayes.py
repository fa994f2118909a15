"""The sampler gp: its gain against the exact hypervolume, what it avoids, and that it finds fronts sooner."""

from typing import Any

import numpy as np
import pytest

from sweeps.bayes import _Gain, suggest
from sweeps.cube import Array, from_cube, snapped, to_cube
from sweeps.curves import LEAST, Curve, ends, read_curve
from sweeps.history import History
from sweeps.pareto import hypervolume
from sweeps.results import Evaluation
from sweeps.study import Study, load_study

KNOBS = "knobs={loss.alpha: {uniform: [0, 1]}, attack.ball.eps: {uniform: [0, 1]}, optim.lr: {uniform: [1e-4, 1]}}"


def study(*settings: str) -> Study:
    return load_study("alpha_study", [KNOBS, "search={sampler: gp, seed: 0, trials: 64}", *settings])


def values_at(cubes: Array) -> Array:
    """Along the first knob a trade-off, the other two have one good place."""
    waste = ((cubes[:, 1:] - 0.3) ** 2).sum(axis=1)
    return np.stack([np.cos(cubes[:, 0] * np.pi / 2) - waste, np.sin(cubes[:, 0] * np.pi / 2) - waste], axis=1)


def told(asked: Study, knobs: Any, shares: tuple[float, ...] = (1.0,), **more: float) -> Curve:
    (values,) = values_at(to_cube(asked.knobs, [knobs]))
    steps = asked.recipe.optim.steps
    metrics = {"clean": float(values[0]), "pgd": float(values[1])} | more
    evaluations = [
        Evaluation(round(steps * share), {n: v * share for n, v in metrics.items()}, 0.0) for share in shares
    ]
    return read_curve(asked, knobs, evaluations, is_whole=shares[-1] == 1)


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_the_gain_of_a_certain_value_is_the_hypervolume_that_it_adds(objectives: int) -> None:
    generator = np.random.default_rng(0)
    known, corner = generator.random((12, objectives)), np.zeros(objectives)
    gain = _Gain(known, corner, generator, ways=20000)
    new = generator.random((30, objectives)) * 1.4
    before = hypervolume(known, corner)
    added = np.array([hypervolume(np.vstack([known, each]), corner) - before for each in new])
    found = gain.expected(new, np.zeros_like(new))
    assert np.corrcoef(found, added)[0, 1] > 0.995
    assert (found[added == 0] < 1e-5).all()


def test_what_misses_a_constraint_gains_nothing() -> None:
    generator = np.random.default_rng(0)
    gain = _Gain(np.array([[0.5, 0.5, 0.1], [0.9, 0.9, -0.1]]), np.zeros(2), generator)
    found = gain.expected(np.array([[0.8, 0.8, 0.1], [0.8, 0.8, -0.2]]), np.full((2, 3), 1e-6))
    assert found[0] > 0.01
    assert found[1] < 0


@pytest.mark.parametrize("seed", range(2))
def test_it_finds_a_front_sooner_than_chance(seed: int) -> None:
    asked, known = study(f"search.seed={seed}"), list[Curve]()
    for number in range(24):
        known.append(told(asked, suggest(asked, History(known), [], number)))
    found = hypervolume(np.array([curve.values[-1] for curve in known]), np.zeros(2))
    chance = hypervolume(values_at(np.random.default_rng(seed).random((96, 3))), np.zeros(2))
    assert found > chance
    assert found > 0.9 * np.pi / 4


def test_trials_at_the_same_time_go_to_different_places() -> None:
    asked = study()
    known = [told(asked, knobs) for knobs in from_cube(asked.knobs, np.random.default_rng(0).random((12, 3)))]
    running: list[Curve] = []
    for number in range(6):
        running.append(read_curve(asked, suggest(asked, History(known), running, number), [], is_whole=False))
    cubes = np.array([curve.cube for curve in running])
    apart = np.linalg.norm(cubes[:, None] - cubes, axis=-1)[~np.eye(6, dtype=bool)]
    assert apart.min() > 0.02


def test_what_nearly_finished_trials_report_is_learnt_from() -> None:
    asked = study()
    knobs = from_cube(asked.knobs, np.random.default_rng(0).random((12, 3)))
    known, running = [told(asked, each) for each in knobs[:6]], [told(asked, each, (0.95,)) for each in knobs[6:]]
    silent = [read_curve(asked, each, [], is_whole=False) for each in knobs[6:]]
    assert suggest(asked, History(known), running, 12) != suggest(asked, History(known), silent, 12)


def test_where_everything_fails_it_does_not_return() -> None:
    """Half of the space breaks down, which an ignorant model would find the most interesting half."""
    asked, known = study(), list[Curve]()
    for number in range(40):
        knobs = suggest(asked, History(known), [], number)
        is_broken = to_cube(asked.knobs, [knobs])[0, 2] > 0.5
        known.append(read_curve(asked, knobs, [], is_whole=False) if is_broken else told(asked, knobs))
    assert sum(not curve.is_sound for curve in known[20:]) <= 6


def test_listed_knobs_are_not_asked_for_twice_while_others_are_left() -> None:
    asked = study("knobs={attack.steps: {integer: [1, 6]}, precision: {choice: [fp32, bf16]}}")
    known = list[Curve]()
    for number in range(12):
        knobs = suggest(asked, History(known), [], number)
        known.append(
            read_curve(asked, knobs, [Evaluation(80, {"clean": 0.5, "pgd": 0.1 * number}, 0.0)], is_whole=True)
        )
    assert len({curve.cube.tobytes() for curve in known[5:]}) == 7
    assert len({curve.cube.tobytes() for curve in known}) >= 11


def test_places_are_moved_to_what_knobs_can_be() -> None:
    asked = study(
        "knobs={attack.steps: {integer: [1, 6]}, precision: {choice: [fp32, bf16]}, optim.lr: {uniform: [0.1, 1]}}"
    )
    places = np.random.default_rng(0).random((50, 3))
    assert snapped(asked.knobs, places) == pytest.approx(to_cube(asked.knobs, from_cube(asked.knobs, places)))


def test_ends_are_told_from_what_others_gained() -> None:
    asked = study()
    knobs = from_cube(asked.knobs, np.random.default_rng(0).random((40, 3)))
    whole = [told(asked, each, (0.25, 1.0)) for each in knobs[:30]]
    begun = [told(asked, each, (0.25,)) for each in knobs[30:]]
    found = ends(begun, 0.25, whole)
    assert found is not None
    means, deviations = found
    truth = values_at(np.array([curve.cube for curve in begun]))
    assert np.abs(means - truth).mean() < 0.1
    assert (np.abs(means - truth) < 3 * deviations).mean() > 0.9
    assert ends(begun, 0.25, whole[: LEAST - 1]) is None
    assert ends(begun, 0.1, whole) is None
