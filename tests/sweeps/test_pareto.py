"""The front and its hypervolume, against brute force on small grids and volumes known in closed form."""

import itertools
import math
from typing import Any

import numpy as np
import pytest

from robustcore.intervals import wilson
from sweeps.pareto import (
    Objectives,
    Points,
    contenders,
    front,
    front_hypervolume,
    hypervolume,
    non_dominated,
    reference_point,
    signed,
)
from sweeps.results.records import TrialRecord
from tests.sweeps.trials import study, trial

DIMENSIONS = [1, 2, 3, 4, 5]


def grid_points(dimensions: int, seed: int, number: int = 25, side: int = 5) -> Points:
    """Random corners of a grid, so that equal points and equal coordinates occur."""
    return np.random.default_rng(seed).integers(0, side, (number, dimensions)).astype(np.float64)


def dominates(p: Points, q: Points) -> bool:
    return all(p >= q) and any(p > q)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("dimensions", DIMENSIONS)
def test_a_point_is_kept_exactly_if_none_dominates_it(dimensions: int, seed: int) -> None:
    points = grid_points(dimensions, seed)
    points[::7] = np.where(points[::7] == 4, np.nan, points[::7])
    expected = [not np.isnan(q).any() and not any(dominates(p, q) for p in points) for q in points]
    assert non_dominated(points).tolist() == expected


def test_infinite_values_dominate_finite_ones() -> None:
    points = np.array([[np.inf, 0.0], [1.0, 0.0], [1.0, 1.0], [-np.inf, 2.0], [0.0, -np.inf]])
    assert non_dominated(points).tolist() == [True, False, True, True, False]


def test_no_points_have_no_front_and_no_volume() -> None:
    assert non_dominated(np.empty((0, 3))).shape == (0,)
    assert hypervolume(np.empty((0, 3)), np.zeros(3)) == 0.0


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("dimensions", DIMENSIONS)
def test_the_hypervolume_is_the_number_of_dominated_cells(dimensions: int, seed: int) -> None:
    points = grid_points(dimensions, seed, number=12)
    cells = np.array(list(itertools.product(range(4), repeat=dimensions)))
    reference = np.full(dimensions, 1.0)  # some points lie below it
    above = cells[(cells >= 1).all(axis=1)]
    counted = points[(points > reference).all(axis=1)]
    expected = sum(any((p > cell).all() for p in counted) for cell in above)
    assert hypervolume(points, reference) == pytest.approx(expected)


@pytest.mark.parametrize("dimensions", DIMENSIONS)
def test_the_order_of_points_and_of_objectives_changes_no_volume(dimensions: int) -> None:
    random = np.random.default_rng(dimensions)
    points = random.random((15, dimensions))
    volume = hypervolume(points, np.zeros(dimensions))
    assert hypervolume(random.permutation(points), np.zeros(dimensions)) == pytest.approx(volume)
    axes = random.permutation(dimensions)
    assert hypervolume(points[:, axes], np.zeros(dimensions)) == pytest.approx(volume)
    assert hypervolume(points[non_dominated(points)], np.zeros(dimensions)) == pytest.approx(volume)


@pytest.mark.parametrize("number", [1, 2, 10, 200])
def test_a_staircase_under_a_line_has_its_closed_form(number: int) -> None:
    steps = np.arange(1, number + 1) / (number + 1)
    points = np.column_stack([steps, 1 - steps])
    assert hypervolume(points, np.zeros(2)) == pytest.approx(number / (2 * (number + 1)))


def test_one_box_has_its_own_volume_and_an_infinite_one_is_infinite() -> None:
    assert hypervolume(np.array([[2.0, 3.0, 4.0]]), np.array([1.0, 1.0, 1.0])) == pytest.approx(6.0)
    assert hypervolume(np.array([[np.inf, 1.0]]), np.zeros(2)) == math.inf


@pytest.mark.parametrize(("points", "reference"), [((3, 2), (3,)), ((3,), (3,)), ((0, 2), (1,))])
def test_shapes_that_do_not_fit_are_refused(points: tuple[int, ...], reference: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected points"):
        hypervolume(np.ones(points), np.zeros(reference))


BOTH: Objectives = {"clean": "max", "pgd": "max"}


def test_minimised_objectives_are_negated_and_missing_ones_are_nan() -> None:
    points = signed([{"clean": 0.9, "loss": 2.0}, {"clean": 0.8}], {"clean": "max", "loss": "min"})
    np.testing.assert_array_equal(points, [[0.9, -2.0], [0.8, np.nan]])


def test_only_finished_complete_feasible_originals_reach_the_front() -> None:
    best = {"clean": 0.99, "pgd": 0.99}
    records = [
        trial(0, {"clean": 0.9, "pgd": 0.5}),
        trial(1, {"clean": 0.8, "pgd": 0.6}),
        trial(2, {"clean": 0.7, "pgd": 0.55}),
        trial(3, best, "running"),
        trial(4, best, "stopped"),
        trial(5, best, "failed"),
        trial(6, {"clean": 0.99}),
        trial(7, {"clean": math.nan, "pgd": 0.9}),
        trial(8, {"clean": math.inf, "pgd": 0.9}),
        trial(9, {"clean": 0.9, "pgd": 0.5}, copy_of="0000"),
        trial(10, {"clean": 0.1, "pgd": 0.95}),
        trial(11),
    ]
    assert [r.trial for r in front(records, BOTH, lambda m: m["clean"] >= 0.6)] == ["0001", "0000"]
    assert [r.trial for r in front(records, BOTH)] == ["0010", "0001", "0000"]


@pytest.mark.parametrize("seed", range(5))
def test_the_front_ascends_in_the_first_objective_whatever_the_order_of_trials(seed: int) -> None:
    records = study(40, seed)
    members = front(records, BOTH)
    assert [r.metrics["clean"] for r in members] == sorted(r.metrics["clean"] for r in members)
    assert front(reversed(records), BOTH) == members
    assert [r.metrics["pgd"] for r in members] == sorted((r.metrics["pgd"] for r in members), reverse=True)


def test_the_volume_of_a_front_of_shares_starts_at_zero() -> None:
    records = [trial(0, {"clean": 0.9, "pgd": 0.5}), trial(1, {"clean": 0.8, "pgd": 0.6})]
    assert front_hypervolume(records, BOTH) == pytest.approx(0.9 * 0.5 + 0.8 * 0.1)
    assert front_hypervolume(records, BOTH, lambda m: m["clean"] > 0.85) == pytest.approx(0.45)
    assert front_hypervolume([], BOTH) == 0.0


def test_the_volume_of_a_minimised_objective_starts_at_its_worst_finished_value() -> None:
    records = [
        trial(0, {"clean": 0.9, "loss": 2.0}),
        trial(1, {"clean": 0.5, "loss": 0.5}),
        trial(2, {"clean": 0.1, "loss": 3.0}),
        trial(3, {"clean": 0.1, "loss": math.inf}),
        trial(4, {"clean": 0.1, "loss": 99.0}, "failed"),
    ]
    objectives: Objectives = {"clean": "max", "loss": "min"}
    assert reference_point(records, objectives).tolist() == [0.0, -3.0]
    assert front_hypervolume(records, objectives) == pytest.approx(0.9 * 1.0 + 0.5 * 1.5)


def measured(clean: float, pgd: float, number: int = 0, count: int = 400, **fields: Any) -> TrialRecord:
    metrics = {"clean": clean, "clean/digits": clean, "pgd": pgd, "pgd/digits": pgd, "loss": 1 - pgd}
    return trial(number, metrics, samples={"digits": count}, **fields)


@pytest.mark.parametrize("objectives", [BOTH, {"pgd": "max"}, {"clean": "max", "pgd": "min"}])
@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_with_confidence_only_a_lead_beyond_the_noise_dominates(objectives: Objectives, confidence: float) -> None:
    random = np.random.default_rng(0)
    records = [measured(*random.choice(np.arange(0.5, 0.7, 0.02), 2).tolist(), number=i) for i in range(40)]

    def ahead(a: TrialRecord, b: TrialRecord, name: str) -> float:
        return (a.metrics[name] - b.metrics[name]) * (1 if objectives[name] == "max" else -1)

    def clear(a: TrialRecord, b: TrialRecord, name: str) -> bool:
        """The interval of the difference a - b, straight from the formula, lies on the better side of zero."""
        i, j = (wilson(r.metrics[name], r.samples["digits"], confidence) for r in (a, b))
        if objectives[name] == "max":
            return i.value - j.value - math.sqrt((i.value - i.low) ** 2 + (j.high - j.value) ** 2) > 0
        return i.value - j.value + math.sqrt((i.high - i.value) ** 2 + (j.value - j.low) ** 2) < 0

    def beats(a: TrialRecord, b: TrialRecord) -> bool:
        return all(ahead(a, b, name) >= 0 for name in objectives) and any(clear(a, b, name) for name in objectives)

    expected = {b.trial for b in records if not any(beats(a, b) for a in records)}
    found = contenders(records, objectives, confidence=confidence)
    assert {record.trial for record in found} == expected
    assert {record.trial for record in front(records, objectives)} <= expected < {r.trial for r in records}


def test_more_images_and_less_confidence_separate_more() -> None:
    def left(count: int, confidence: float) -> list[str]:
        records = [measured(0.9, 0.6, 0, count), measured(0.89, 0.56, 1, count)]
        return [record.trial for record in contenders(records, BOTH, confidence=confidence)]

    assert left(400, 0.95) == ["0001", "0000"]
    assert left(4000, 0.95) == left(400, 0.5) == ["0000"]


def test_without_a_count_of_images_every_lead_is_taken_for_clear() -> None:
    records = [measured(0.9, 0.6, 0), measured(0.89, 0.59, 1)]
    assert len(contenders(records, BOTH)) == 2
    assert [r.trial for r in contenders(records, {"loss": "min"})] == ["0000"]
    for record in records:
        record.samples = {}
    assert contenders(records, BOTH) == front(records, BOTH)


def test_repeats_reach_the_front_as_the_mean_of_their_first_trial() -> None:
    lucky = [measured(0.9, 0.6, 0), measured(0.9, 0.5, 9, repeat_of="0000"), measured(0.9, 0.1, 8, repeat_of="0000")]
    lucky[2].state = "failed"
    steady = [measured(0.9, 0.56, 1), measured(0.9, 0.58, 7, repeat_of="0001")]
    (best,) = front([*lucky, *steady], BOTH)
    assert (best.trial, best.metrics["pgd"]) == ("0001", pytest.approx(0.57))
    first, _ = front([*lucky, *steady], {"clean": "max"})
    assert (first.trial, first.metrics["pgd"]) == ("0000", pytest.approx(0.55))
    assert front_hypervolume([*lucky, *steady], BOTH) == pytest.approx(0.9 * 0.57)
