"""Knobs as places in the unit cube and back, for whoever computes with recipes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeps.results.records import Value
from sweeps.study.space import Choice, Integer, Knob, LogUniform, Uniform

Array = NDArray[np.float64]
Knobs = Mapping[str, Value]
Space = Mapping[str, Knob]


def to_cube(space: Space, recipes: Sequence[Knobs]) -> Array:
    """(n, knobs) in [0, 1]: where each knob is on the scale on which every value is as likely as any other.

    A value outside its range has its place outside the cube; one that is no choice is in the middle.
    """
    places = [[_place(knob, knobs[path]) for path, knob in space.items()] for knobs in recipes]
    return np.array(places, dtype=np.float64).reshape(len(recipes), len(space))


def from_cube(space: Space, places: Array) -> list[dict[str, Value]]:
    """The knobs of n recipes at the places (n, knobs) in [0, 1)."""
    return [
        {path: _value(knob, share) for (path, knob), share in zip(space.items(), place, strict=True)}
        for place in places.tolist()
    ]


def snapped(space: Space, places: Array) -> Array:
    """The same places (n, knobs) in [0, 1), those of listed values moved to where ``to_cube`` has them."""
    moved = places.copy()
    for column, knob in enumerate(space.values()):
        if isinstance(knob, Choice | Integer):
            count = len(knob.choice) if isinstance(knob, Choice) else knob.integer[1] - knob.integer[0] + 1
            moved[:, column] = (np.floor(places[:, column] * count) + 0.5) / count
    return moved


def coordinates(space: Space, places: Array) -> Array:
    """(n, coordinates) to measure distances in: numbers as they are; between any two texts it is as far."""
    columns = []
    for column, knob in zip(places.T, space.values(), strict=True):
        if isinstance(knob, Choice):
            chosen = np.minimum((column * len(knob.choice)).astype(int), len(knob.choice) - 1)
            if any(isinstance(value, str | bool | None) for value in knob.choice):
                columns.extend((chosen[:, None] == range(len(knob.choice))).T / math.sqrt(2))
                continue
            column = (chosen + 0.5) / len(knob.choice)
        columns.append(column)
    return np.array(columns).reshape(len(columns), len(places)).T


def _place(knob: Any, value: Any) -> float:
    match knob:
        case Uniform(uniform=(low, high)):
            return float((value - low) / (high - low))
        case LogUniform(log_uniform=(low, high)):
            return math.log(value / low) / math.log(high / low)
        case Integer(integer=(low, high)):
            return float((value - low + 0.5) / (high - low + 1))
    return (knob.choice.index(value) + 0.5) / len(knob.choice) if value in knob.choice else 0.5


def _value(knob: Any, share: float) -> Value:
    match knob:
        case Uniform(uniform=(low, high)):
            return float(low + share * (high - low))
        case LogUniform(log_uniform=(low, high)):
            return float(min(max(low * (high / low) ** share, low), high))
    values: Sequence[Value] = knob.grid()
    return values[min(int(share * len(values)), len(values) - 1)]
