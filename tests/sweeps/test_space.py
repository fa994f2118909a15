"""Knobs: what they accept, and that every kind of them agrees with itself."""

from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import TypeAdapter, ValidationError

from sweeps.study.space import Knob, grid_size

READER: TypeAdapter[Any] = TypeAdapter(Knob)

KNOBS = {
    "uniform": ({"uniform": [0, "1/2"]}, FloatDistribution(0, 0.5)),
    "log_uniform": ({"log_uniform": ["1e-3", 10]}, FloatDistribution(0.001, 10, log=True)),
    "integer": ({"integer": [2, "1e1"]}, IntDistribution(2, 10)),
    "choice": ({"choice": ["4/255", "vit", True, 1, None]}, CategoricalDistribution((4 / 255, "vit", True, 1, None))),
}


@pytest.mark.parametrize(("written", "distribution"), KNOBS.values(), ids=KNOBS)
def test_a_knob_is_the_distribution_it_is_written_as(written: Any, distribution: Any) -> None:
    assert READER.validate_python(written).distribution() == distribution


@pytest.mark.parametrize("written", [written for written, _ in KNOBS.values()], ids=KNOBS)
def test_a_knob_survives_the_round_trip_through_json(written: Any) -> None:
    knob = READER.validate_python(written)
    assert READER.validate_json(READER.dump_json(knob)) == knob


@pytest.mark.parametrize("written", [written for written, _ in KNOBS.values()], ids=KNOBS)
def test_ends_and_grid_lie_in_the_distribution(written: Any) -> None:
    knob = READER.validate_python(written)
    distribution = knob.distribution()
    for value in [*knob.ends(), *(knob.grid() or [])]:
        assert distribution._contains(distribution.to_internal_repr(value))


def test_an_integer_lists_every_value_and_a_continuum_none() -> None:
    assert list(READER.validate_python({"integer": [2, 4]}).grid()) == [2, 3, 4]
    assert READER.validate_python({"uniform": [2, 4]}).grid() is None


def test_a_grid_has_as_many_points_as_combinations_and_none_beside_a_continuum() -> None:
    integer, choice = (READER.validate_python(knob) for knob in ({"integer": [1, 4]}, {"choice": ["a", "b"]}))
    assert grid_size({"a": integer, "b": choice}) == 8
    assert grid_size({"a": integer, "b": READER.validate_python({"uniform": [0, 1]})}) is None


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"unform": [0, 1]}, "did you mean 'uniform'?"),
        ({"uniform": [0, 1], "choice": [1]}, "got uniform and choice"),
        ({}, "got nothing"),
        (None, "got nothing"),
        ([0, 1], "got a list"),
        ({"uniform": [1, 0]}, "from a lower to a higher number, got [1, 0]"),
        ({"integer": [3, 3]}, "from a lower to a higher number"),
        ({"integer": [1, 1.5]}, "expected a whole number, got 1.5"),
        ({"integer": [0, 10**30]}, "less than 2**53"),
        ({"log_uniform": [0, 1]}, "above 0, got 0"),
        ({"uniform": ["low", 1]}, "such as 0.1, 1e-5 or 4/255, got 'low'"),
        ({"choice": []}, "at least one value"),
        ({"choice": ["1/2", 0.5]}, "0.5 twice"),
        ({"choice": [[1], 2]}, "a single value"),
        ({"choice": [float("nan")]}, "a finite number"),
    ],
)
def test_a_wrong_knob_is_refused_with_what_was_expected(written: Any, expected: str) -> None:
    with pytest.raises(ValidationError) as caught:
        READER.validate_python(written)
    assert expected in str(caught.value)


def test_true_and_1_are_different_choices() -> None:
    assert READER.validate_python({"choice": [True, 1]}).choice == (True, 1)
