"""What a study file may say, key by key, typed; its recipe and its numbers are typed in robustcore."""

import re
from dataclasses import replace
from typing import Annotated, Any, Literal

from annotated_types import Gt, Lt, MinLen
from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema
from pydantic.dataclasses import dataclass

from robustcore.recipe import Recipe
from robustcore.types import STRICT, Count, NonNegative, Number, Positive, PositiveCount, parse_number
from sweeps.constraint import Constraint
from sweeps.results.records import Value
from sweeps.source import NAME, STORAGE, absolute_storage
from sweeps.study.space import Knob

Direction = Literal["max", "min"]


def _scalar(value: Any) -> Any:
    if not isinstance(value, bool | int | float | str | None):
        raise ValueError(f"expected a single value, got {value!r}"[:100])
    return value


Point = dict[str, Annotated[Value, BeforeValidator(_scalar)]]  # knobs by their paths


@dataclass(frozen=True, config=STRICT)
class Search:
    """Who suggests the next trial, how many trials there are, and with how many seeds the best of them run.

    ``points`` are tried first: knobs by their paths; what a point leaves out, the sampler fills in. ``warm_start``
    names studies of the same storage, or the folders of others, whose finished trials advise the sampler.
    """

    sampler: Literal["tpe", "nsga2", "nsga3", "gp", "random", "grid"] = "gp"
    seed: Count = 0
    trials: PositiveCount = 32
    seeds: PositiveCount = 1  # of front candidates, their first one included
    points: tuple[Annotated[Point, MinLen(1)], ...] = ()
    warm_start: tuple[str, ...] = ()


@dataclass(frozen=True, config=STRICT)
class StopEarly:
    """From ``after`` steps on, only the best ``keep`` of the trials go on at each rung.

    ``forecast`` compares no shares: who ends behind a finished trial in every objective is stopped.
    """

    after: PositiveCount | None = None  # steps; None is what ``begins`` says
    keep: Annotated[Number, Gt(0), Lt(1)] = 1 / 2
    kind: Literal["moasha", "asha", "median", "forecast", "none"] = "moasha"  # none is as if there were no such key
    brackets: PositiveCount = 1
    protect_front: bool = True  # whom nothing beats in every way goes on

    @property
    def spares_front(self) -> bool:
        """In successive halving as published for one objective, the best ``keep`` go on and nobody else."""
        return self.protect_front and self.kind == "moasha"

    def rungs(self, last_step: int, every: int = 1) -> list[int]:
        """``after``, ``after / keep``, ... before the last step; of a forecast, each half as far again."""
        found, rung = [], float(self.begins(last_step, every))
        while rung < last_step:
            found.append(round(rung))
            rung /= 2 / 3 if self.kind == "forecast" else self.keep
        return found

    def begins(self, last_step: int, every: int = 1) -> int:
        """The first step at which a trial may be stopped, where there are evaluations ``every`` so many steps.

        Unless it is given, a tenth of the training where ends are forecast and else 60 %, but before the end.
        """
        if self.after is not None:
            return self.after
        if self.kind == "forecast":
            return max(1, round(0.1 * last_step))
        return max(1, min(round(0.6 * last_step), (last_step - 1) // every * every))


def _unless_none(stop_early: Any) -> Any:
    return None if isinstance(stop_early, dict) and stop_early.get("kind") == "none" else stop_early


def _whole_above_one(gpus: float) -> float:
    if gpus > 1 and not float(gpus).is_integer():
        raise ValueError(f"expected a share of one GPU or a whole number of them, got {gpus:g}")
    return gpus


@dataclass(frozen=True, config=STRICT)
class Resources:
    """What a trial runs on. It never changes a number of its results."""

    workers: PositiveCount = 1
    gpus: Annotated[NonNegative, AfterValidator(_whole_above_one)] = 0  # of each worker
    cpus: Positive = 1  # of each worker
    at_once: PositiveCount | None = None  # trials; None is as many as fit
    price_per_gpu_hour: Positive | None = None  # in any currency


@dataclass(frozen=True, config=STRICT)
class Budget:
    """What a sweep may take over all its lives; at the first limit that is reached, no trial starts any more.

    Those that run ``finish``, or ``stop`` at their next evaluation: a later resume goes on from its checkpoint.
    """

    gpu_hours: Positive | None = None
    hours: Positive | None = None  # of the clock
    cost: Positive | None = None  # in the currency of resources.price_per_gpu_hour
    then: Literal["finish", "stop"] = "finish"

    def limits(self) -> dict[str, float]:
        """Those that are set, by name."""
        given = {"gpu_hours": self.gpu_hours, "hours": self.hours, "cost": self.cost}
        return {name: limit for name, limit in given.items() if limit is not None}


def read_constraint(given: Any) -> Constraint:
    """From ``">= 0.6"``; raises ValueError."""
    if isinstance(given, Constraint):
        return given
    match = re.fullmatch(r"\s*(>=|<=)\s*(\S+)\s*", given) if isinstance(given, str) else None
    if match is None:
        raise ValueError(f"expected '>= NUMBER' or '<= NUMBER', got {given!r}"[:100])
    sign: Literal[">=", "<="] = ">=" if match[1] == ">=" else "<="
    return Constraint(sign, float(parse_number(match[2])))


def _named(constraints: dict[str, Constraint]) -> dict[str, Constraint]:
    return {metric: replace(constraint, metric=metric) for metric, constraint in constraints.items()}


def _name(name: str) -> str:
    if not re.fullmatch(NAME, name):
        raise ValueError(
            f"expected letters, digits, '-', '_' and '.', not beginning with '-' or '.', got {name[:60]!r}"
        )
    return name


def _absolute(storage: str) -> str:
    if not storage.strip() or not storage.isprintable():
        raise ValueError(f"expected a folder or a URI, got {repr(storage) if storage.strip() else 'nothing'}")
    return absolute_storage(storage)


def _address(uri: str) -> str:
    if not re.match(r"[a-z][a-z0-9+.-]*:|databricks$", uri):
        raise ValueError(f"expected the address of a tracking server, such as http://localhost:5000, got {uri!r}")
    return uri


_CONSTRAINT = {"type": "string", "pattern": r"^\s*(>=|<=)\s*\S+\s*$", "examples": [">= 0.6"]}

OneConstraint = Annotated[
    Constraint, PlainValidator(read_constraint), PlainSerializer(str), WithJsonSchema(_CONSTRAINT)
]
Storage = Annotated[str, AfterValidator(_absolute)]
Name = Annotated[str, AfterValidator(_name)]


@dataclass(frozen=True, config=STRICT)
class StudyFile:
    """The keys of a study file.

    ``recipe`` is one complete trial; ``knobs`` say which of its values vary, by their dotted paths;
    ``objectives`` name what is maximised or minimised; ``constraints`` what a trial must reach to count.
    """

    recipe: Recipe
    objectives: Annotated[dict[str, Direction], MinLen(1)]
    name: Name
    knobs: dict[str, Knob] = Field(default_factory=dict)
    constraints: Annotated[dict[str, OneConstraint], AfterValidator(_named)] = Field(default_factory=dict)
    search: Search = Search()
    stop_early: Annotated[StopEarly | None, BeforeValidator(_unless_none)] = None
    resources: Resources = Resources()
    budget: Budget | None = None
    storage: Storage = STORAGE
    mlflow: Annotated[str, AfterValidator(_address)] | None = None
