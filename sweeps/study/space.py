"""Knobs: which values of a recipe vary, and over what; in one word, ``{log_uniform: [0.01, 100]}``."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from pydantic import BeforeValidator, Discriminator, Tag, model_validator
from pydantic.dataclasses import dataclass

from robustcore.types import STRICT, Number, parse_count, parse_number
from sweeps.results.records import Value
from sweeps.source import did_you_mean

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


class Space(Protocol):
    """What every knob can say of itself."""

    def distribution(self) -> "BaseDistribution":
        """As Optuna draws from it."""
        ...

    def ends(self) -> tuple[Value, ...]:
        """The values that a recipe must be valid at: both ends, or every choice."""
        ...

    def grid(self) -> Sequence[Value] | None:
        """Every value; None where there is a continuum of them."""
        ...

    def admit(self, value: Value) -> Value:
        """A value from elsewhere as this knob has it, ``4/255`` as a number; raises ValueError where it has none."""
        ...


@dataclass(frozen=True, config=STRICT)
class Uniform:
    """Any number between the two, both included."""

    uniform: tuple[Number, Number]

    @model_validator(mode="after")
    def _ordered(self) -> "Uniform":
        _check_order("uniform", *self.uniform)
        return self

    def distribution(self) -> "BaseDistribution":
        """Every value as likely as any other."""
        from optuna.distributions import FloatDistribution

        return FloatDistribution(*self.uniform)

    def ends(self) -> tuple[Value, ...]:
        """Both."""
        return self.uniform

    def grid(self) -> None:
        """A continuum."""
        return

    def admit(self, value: Value) -> Value:
        """Between the two."""
        return _between(float(_number(value)), self.uniform)


@dataclass(frozen=True, config=STRICT)
class LogUniform:
    """Any number between the two, both above 0; each decade is as likely as any other."""

    log_uniform: tuple[Number, Number]

    @model_validator(mode="after")
    def _ordered(self) -> "LogUniform":
        _check_order("log_uniform", *self.log_uniform)
        if self.log_uniform[0] <= 0:
            raise ValueError(f"expected log_uniform to begin above 0, got {self.log_uniform[0]:g}")
        return self

    def distribution(self) -> "BaseDistribution":
        """The logarithm is uniform."""
        from optuna.distributions import FloatDistribution

        return FloatDistribution(*self.log_uniform, log=True)

    def ends(self) -> tuple[Value, ...]:
        """Both."""
        return self.log_uniform

    def grid(self) -> None:
        """A continuum."""
        return

    def admit(self, value: Value) -> Value:
        """Between the two."""
        return _between(float(_number(value)), self.log_uniform)


Whole = Annotated[int, BeforeValidator(parse_count)]


@dataclass(frozen=True, config=STRICT)
class Integer:
    """Any whole number between the two, both included."""

    integer: tuple[Whole, Whole]

    @model_validator(mode="after")
    def _ordered(self) -> "Integer":
        low, high = self.integer
        if max(-low, high) >= 2**53:
            raise ValueError("expected integers of less than 2**53")
        _check_order("integer", low, high)
        return self

    def distribution(self) -> "BaseDistribution":
        """Every value as likely as any other."""
        from optuna.distributions import IntDistribution

        return IntDistribution(*self.integer)

    def ends(self) -> tuple[Value, ...]:
        """Both."""
        return self.integer

    def grid(self) -> Sequence[Value]:
        """From low to high."""
        low, high = self.integer
        return range(low, high + 1)

    def admit(self, value: Value) -> Value:
        """A whole number between the two."""
        return _between(int(parse_count(_number(value))), self.integer)


def _choice(value: Any) -> Any:
    """A scalar; text that is a number, such as ``4/255``, is that number."""
    if isinstance(value, str):
        try:
            return parse_number(value)
        except ValueError:
            return value
    if not isinstance(value, bool | int | float | None):
        raise ValueError(f"expected a single value to choose, got {value!r}"[:100])
    if isinstance(value, float):
        parse_number(value)
    return value


@dataclass(frozen=True, config=STRICT)
class Choice:
    """One of the listed values: numbers, texts, true, false or null."""

    choice: tuple[Annotated[Value, BeforeValidator(_choice)], ...]

    @model_validator(mode="after")
    def _distinct(self) -> "Choice":
        if not self.choice:
            raise ValueError("expected at least one value to choose, got none")
        seen: set[tuple[bool, Value]] = set()
        for value in self.choice:
            # True equals 1 in Python, and is another choice here.
            if (isinstance(value, bool), value) in seen:
                raise ValueError(f"expected different values to choose from, got {value!r} twice")
            seen.add((isinstance(value, bool), value))
        return self

    def distribution(self) -> "BaseDistribution":
        """Unordered."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.choice)

    def ends(self) -> tuple[Value, ...]:
        """All of them."""
        return self.choice

    def grid(self) -> Sequence[Value]:
        """In the order they are listed."""
        return self.choice

    def admit(self, value: Value) -> Value:
        """One of them."""
        read = _choice(value)
        for known in self.choice:
            if (isinstance(known, bool), known) == (isinstance(read, bool), read):
                return known
        raise ValueError(f"expected one of {', '.join(map(str, self.choice))}, got {value}"[:200])


_WORDS = {"uniform": Uniform, "log_uniform": LogUniform, "integer": Integer, "choice": Choice}


def _word(knob: Any) -> str:
    """The word a knob is written with."""
    if isinstance(knob, Uniform | LogUniform | Integer | Choice):
        return next(word for word, kind in _WORDS.items() if isinstance(knob, kind))
    return str(next(iter(knob)))


def _one_word(knob: Any) -> Any:
    if isinstance(knob, tuple(_WORDS.values())):
        return knob
    example = "expected one of uniform, log_uniform, integer and choice, such as {uniform: [0, 1]}"
    if not isinstance(knob, dict):
        given = {"list": "a list", "NoneType": "nothing"}.get(type(knob).__name__, repr(knob)[:60])
        raise ValueError(f"{example}, got {given}")
    if len(knob) != 1:
        raise ValueError(f"{example}, got {' and '.join(knob) or 'nothing'}")
    (word,) = knob
    if word not in _WORDS:
        raise ValueError(f"{example}, got '{word}'{did_you_mean(word, list(_WORDS))}")
    return knob


Knob = Annotated[
    Annotated[Uniform, Tag("uniform")]
    | Annotated[LogUniform, Tag("log_uniform")]
    | Annotated[Integer, Tag("integer")]
    | Annotated[Choice, Tag("choice")],
    Discriminator(_word),
    BeforeValidator(_one_word),
]


def _number(value: Value) -> Any:
    if not isinstance(value, int | float | str):
        raise ValueError(f"expected a number, got {'nothing' if value is None else type(value).__name__}")
    return parse_number(value)


def _between(number: float, ends: tuple[float, float]) -> float:
    if not ends[0] <= number <= ends[1]:
        raise ValueError(f"expected a value from {ends[0]:g} to {ends[1]:g}, as the knob has it, got {number:g}")
    return number


def _check_order(word: str, low: float, high: float) -> None:
    if not low < high:
        raise ValueError(f"expected {word} from a lower to a higher number, got [{low:g}, {high:g}]")


def grid_size(knobs: dict[str, Any]) -> int | None:
    """How many trials cover every combination; None where a knob is a continuum."""
    grids = [knob.grid() for knob in knobs.values()]
    return None if any(grid is None for grid in grids) else math.prod(len(grid) for grid in grids)
