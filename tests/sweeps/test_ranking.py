"""The order that decides who goes on, against its plain definition on random vectors full of ties."""

import numpy as np
import pytest

from sweeps.ranking import fronts, place
from tests.sweeps import plain_ranking as plain


def vectors(objectives: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Few different values, so that there are ties and duplicates; some rows violate constraints, some equally."""
    generator = np.random.default_rng([objectives, seed])
    number = int(generator.integers(1, 25))
    points = generator.integers(0, [2, 5, 30][seed % 3], (number, objectives)) / 4
    violations = generator.choice([0, 0, 0, 0.1, 0.2], number) if seed % 2 else np.zeros(number)
    return points, violations


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_every_place_is_that_of_the_plain_definition(objectives: int, seed: int) -> None:
    points, violations = vectors(objectives, seed)
    for row in range(len(points)):
        found = place(row, points, violations)
        assert found.ahead == plain.ahead(row, points.tolist(), violations.tolist())
        assert found.leads == plain.leads(row, points.tolist(), violations.tolist())


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_a_place_does_not_depend_on_who_came_first(objectives: int) -> None:
    points, violations = vectors(objectives, seed=5)
    shuffled = np.random.default_rng(0).permutation(len(points))
    for row, origin in enumerate(shuffled):
        assert place(row, points[shuffled], violations[shuffled]) == place(int(origin), points, violations)


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_a_front_is_dominated_by_the_one_before_it_and_not_by_itself(objectives: int) -> None:
    points = np.unique(np.random.default_rng(0).integers(0, 7, (200, objectives)), axis=0).astype(float)
    rank = fronts(points)
    for point, own in zip(points, rank, strict=True):
        above = {int(rank[row]) for row, other in enumerate(points) if plain.dominates(other, point)}
        assert own == max(above, default=-1) + 1


def test_inside_a_front_the_first_places_go_to_its_ends() -> None:
    points = np.array([[0.5, 0.5], [0.0, 1.0], [1.0, 0.0], [0.9, 0.1]])
    assert [place(row, points, np.zeros(4)).ahead for row in range(4)] == [2, 1, 0, 3]


@pytest.mark.parametrize("units", [1e-6, 1.0, 1e6])
def test_the_units_of_an_objective_do_not_matter(units: float) -> None:
    points = np.random.default_rng(0).random((30, 3))
    scaled = points * [1, units, 1]
    for row in range(30):
        assert place(row, scaled, np.zeros(30)) == place(row, points, np.zeros(30))


def test_who_misses_a_constraint_comes_after_all_who_do_not_however_good_it_is() -> None:
    points, violations = np.array([[0.9, 0.9], [0.1, 0.1], [1.0, 1.0]]), np.array([0.2, 0.0, 0.1])
    assert [place(row, points, violations) for row in range(3)] == [(2, False), (0, True), (1, False)]
