"""What makes a well-typed study a mistake; judged on plain values, so that one mistake hides no other.

Nothing is opened here: data, weights, storage and the machine are ``check``'s.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from robustcore.addresses import NO_PASSWORD, check_address
from robustcore.attacks import Attack, Clean, Climber
from robustcore.evaluation import TAKEN, WATCH, NamedSuite, metric_names
from robustcore.text_stage import ANGLES
from robustcore.types import PositiveCount
from sweeps.constraint import Constraint
from sweeps.results.table import FIXED
from sweeps.source import Problem, Source, did_you_mean
from sweeps.source.marked import KeyPath
from sweeps.source.settings import child, knob_path
from sweeps.study.keys import Budget, OneConstraint, Resources, StopEarly
from sweeps.study.space import Knob, Space

_EVALUATION = ("recipe", "evaluation")
OWN_METRICS = (*TAKEN, "zero_gradient", "catastrophic_overfitting", "text", "watch")


def rule_problems(source: Source, knobs: dict[str, Space]) -> Iterator[Problem]:
    """Everything wrong beyond types and ranges; ``knobs`` are the sound ones by their paths in the recipe."""
    yield from _twice(source)
    yield from _names(source, knobs)
    yield from _metrics(source)
    yield from _bounds(source)
    yield from _prompts(source)
    yield from _batches(source, knobs)
    yield from _grid(source, knobs)
    yield from _stopping(source)
    yield from _never_stops(source, knobs)
    yield from _seeds(source)
    yield from _budget(source)
    yield from _shares(source)
    yield from _addresses(source)


@cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """pydantic's reader of one type."""
    return TypeAdapter(kind)


def part(source: Source, kind: Any, *keys: str | int) -> Any:
    """The value at ``keys`` as ``kind``; None where it is missing or wrong, which is reported elsewhere."""
    value: Any = source.data
    for key in keys:
        value = child(value, key)
    try:
        return adapter(kind).validate_python(value, context={"base": source.folder})
    except ValidationError:
        return None


def sound_knobs(source: Source) -> dict[str, Space]:
    """The knobs that can be read, by their names as written."""
    written = source.at("knobs")
    names = written if isinstance(written, dict) else {}
    read = {name: part(source, Knob, "knobs", name) for name in names}
    return {name: knob for name, knob in read.items() if knob is not None}


def mapping(source: Source, *keys: str) -> dict[str, Any]:
    """The mapping at ``keys``; empty where there is none."""
    value = source.at(*keys)
    return value if isinstance(value, dict) else {}


def counts(source: Source, knobs: dict[str, Space], path: str, default: int) -> tuple[int, int] | None:
    """The least and the largest that a whole number of the recipe becomes; None where it is none."""
    keys = ("recipe", *path.split("."))
    if path in knobs:
        values = [value for value in knobs[path].ends() if isinstance(value, int | float)]
        return (int(min(values)), int(max(values))) if values else None
    if child(source.at(*keys[:-1]), keys[-1]) is None:
        return default, default
    count = part(source, PositiveCount, *keys)
    return None if count is None else (count, count)


def _twice(source: Source) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name in mapping(source, "knobs"):
        path = knob_path(name)
        if path in seen:
            yield source.problem(("knobs", name), f"a second knob of the path '{path}', expected one")
        seen[path] = name


def _names(source: Source, knobs: dict[str, Space]) -> Iterator[Problem]:
    taken = {*OWN_METRICS, *FIXED, *knobs}
    for section in ("datasets", "attacks", "retrieval"):
        for name in mapping(source, "recipe", "evaluation", section):
            keys = ("recipe", "evaluation", section, name)
            if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
                yield source.problem(keys, f"expected a name of letters, digits, '-', '_' and '.', got {name!r}")
            elif name in taken:
                what = section.removesuffix("s").replace("dataset", "data set")
                yield source.problem(keys, f"the name '{name}' is taken by the results, expected another {what} name")


def metrics(source: Source) -> tuple[str, ...]:
    """What the evaluation will produce; empty where the study does not say."""
    evaluation = mapping(source, "recipe", "evaluation")
    datasets, attacks, retrieval = (evaluation.get(key) or {} for key in ("datasets", "attacks", "retrieval"))
    suite: NamedSuite | None = part(source, NamedSuite | None, *_EVALUATION, "suite")
    if not all(isinstance(names, dict) for names in (datasets, attacks, retrieval)) or not (datasets or suite):
        return ()
    # Names and kinds decide, so what bears the names may still be wrong.
    read = {name: part(source, Attack, *_EVALUATION, "attacks", name) or Clean() for name in attacks}
    drift: Climber | None = part(source, Climber | None, *_EVALUATION, "drift")
    stalls = (f"zero_gradient/{name}" for name in ("training", *attacks))
    angles = ANGLES if source.at("recipe", "text") is not None else ()
    attack: Climber | None = part(source, Climber, "recipe", "attack")
    watched = WATCH if attack is not None and attack.gradients == 1 else ()
    return (
        *metric_names((*datasets, *(suite.names() if suite else ())), read, retrieval, drift),
        *stalls,
        *angles,
        *watched,
    )


def _metrics(source: Source) -> Iterator[Problem]:
    known = metrics(source)
    for section in ("objectives", "constraints"):
        for name in mapping(source, section):
            if known and name not in known:
                near = did_you_mean(name, known) or f", expected one of: {', '.join(known)}"
                yield source.problem((section, name), f"the evaluation produces no such metric{near}")


def _bounds(source: Source) -> Iterator[Problem]:
    """An accuracy is a share in [0, 1]: 60 is a percentage that nothing reaches."""
    for name in mapping(source, "constraints"):
        constraint: Constraint | None = part(source, OneConstraint, "constraints", name)
        is_share = name not in ("loss", "drift") and not name.startswith(("text/", "drift/"))
        if constraint is not None and is_share and not 0 <= constraint.bound <= 1:
            yield source.problem(
                ("constraints", name), f"expected a share of images between 0 and 1, got {constraint.bound:g}"
            )


def _prompts(source: Source) -> Iterator[Problem]:
    for section in ("evaluation", "loss", "text"):
        prompts = mapping(source, "recipe", section).get("prompts")
        for position, prompt in enumerate(prompts if isinstance(prompts, list) else []):
            if isinstance(prompt, str) and "{}" not in prompt:
                keys: KeyPath = ("recipe", section, "prompts", position)
                yield source.problem(keys, f"expected a prompt with {{}} for the class name, got {prompt!r}"[:200])


def _batches(source: Source, knobs: dict[str, Space]) -> Iterator[Problem]:
    sizes = counts(source, knobs, "data.batch_size", 128)
    workers: int | None = part(source, PositiveCount, "resources", "workers")
    if sizes is not None and workers is not None and sizes[0] < workers:
        yield source.problem(
            given_at(source, "data.batch_size"),
            f"expected at least one image for each of the {workers} workers, got {sizes[0]}",
        )


def given_at(source: Source, path: str) -> KeyPath:
    """Where a value of the recipe is given: at its knob if it has one."""
    name = next((name for name in mapping(source, "knobs") if knob_path(name) == path), None)
    return ("recipe", *path.split(".")) if name is None else ("knobs", name)


def _grid(source: Source, knobs: dict[str, Space]) -> Iterator[Problem]:
    if source.at("search", "sampler") != "grid":
        return
    for name in mapping(source, "knobs"):
        knob = knobs.get(knob_path(name))
        if knob is not None and knob.grid() is None:
            yield source.problem(
                ("knobs", name), "the grid sampler needs every value listed, expected choice or integer"
            )


_NOT_OF = {
    "asha": ("protect_front",),
    "median": ("keep", "brackets", "protect_front"),
    "forecast": ("keep", "brackets", "protect_front"),
}


def _stopping(source: Source) -> Iterator[Problem]:
    kind, objectives = source.at("stop_early", "kind"), mapping(source, "objectives")
    if kind not in _NOT_OF:
        return
    if len(objectives) > 1 and kind != "forecast":
        yield source.problem(
            ("stop_early", "kind"),
            f"'{kind}' compares trials by one objective, got {len(objectives)} ({', '.join(objectives)}); "
            "expected 'moasha'",
        )
    for name in mapping(source, "stop_early").keys() & _NOT_OF[kind]:
        yield source.problem(("stop_early", name), f"unknown key of the kind '{kind}'")


def _never_stops(source: Source, knobs: dict[str, Space]) -> Iterator[Problem]:
    """A trial can only be stopped at an evaluation that is not its last."""
    stop: StopEarly | None = part(source, StopEarly, "stop_early")
    steps = counts(source, knobs, "optim.steps", 0)
    every = counts(source, knobs, "evaluation.every", 500)
    if stop is None or stop.kind == "none" or not steps or not every:
        return
    after = stop.begins(steps[1], every[0])
    first = -(-after // every[0]) * every[0]
    if 0 < steps[1] <= first:
        yield source.problem(
            ("stop_early", "after") if stop.after else ("stop_early",),
            f"stops no trial: the first evaluation from step {after} on is at the end, step {steps[1]}; "
            f"expected an evaluation before it (evaluation.every is {every[0]})",
        )
    elif (
        "brackets" not in _NOT_OF.get(stop.kind, ())
        and steps[1] > 0
        and stop.brackets > len(rungs := stop.rungs(steps[1], every[0]))
    ):
        yield source.problem(
            ("stop_early", "brackets"),
            f"expected at most one for each rung before the end, of which there are {len(rungs)} "
            f"({', '.join(map(str, rungs))}), got {stop.brackets}",
        )


def _seeds(source: Source) -> Iterator[Problem]:
    """A front candidate runs again with the seeds after its own, which a search over seeds may have tried."""
    seeds: int | None = part(source, PositiveCount, "search", "seeds")
    name = next((name for name in mapping(source, "knobs") if knob_path(name) == "seed"), None)
    if seeds is not None and seeds > 1 and name is not None:
        yield source.problem(
            ("search", "seeds"),
            f"repeats trials with other seeds, and the seed is a knob; expected 1, or no knob '{name}', got {seeds}",
        )


def _budget(source: Source) -> Iterator[Problem]:
    """A limit that is measured in what no trial takes would never be reached."""
    budget: Budget | None = part(source, Budget, "budget")
    written = source.at("resources") is not None
    resources: Resources | None = part(source, Resources, "resources") if written else Resources()
    if budget is None or resources is None:
        return
    if not budget.limits():
        yield source.problem(("budget",), "expected at least one limit: gpu_hours, hours or cost, got none")
    for name in budget.limits().keys() & {"gpu_hours", "cost"}:
        if not resources.gpus:
            message = "no trial takes a GPU (resources.gpus is 0), so this limit would never be reached"
            yield source.problem(("budget", name), f"{message}; expected budget.hours")
    if budget.cost is not None and resources.gpus and resources.price_per_gpu_hour is None:
        message = "nothing says what a GPU costs; expected resources.price_per_gpu_hour"
        yield source.problem(("budget", "cost"), message)


def _shares(source: Source) -> Iterator[Problem]:
    """Workers of one trial sum their gradients through NCCL, which takes one process for each GPU."""
    resources: Resources | None = part(source, Resources, "resources")
    if resources is not None and resources.workers > 1 and 0 < resources.gpus < 1:
        words = f"expected a whole number of GPUs for each of {resources.workers} workers, got {resources.gpus:g}"
        yield source.problem(("resources", "gpus"), f"{words}; a GPU is shared by trials of one worker alone")


def _addresses(source: Source) -> Iterator[Problem]:
    """They are kept in files, logs and MLflow: none may hold a password."""
    earlier = source.at("search", "warm_start")
    names = earlier if isinstance(earlier, list) else []
    places = [(("storage",), source.at("storage")), *((("search", "warm_start", i), n) for i, n in enumerate(names))]
    for place, address in places:
        try:
            check_address(str(address or ""))
        except ValueError as error:
            yield source.problem(place, str(error))
    server = str(source.at("mlflow") or "")
    if re.match(r"[^/]*://[^/@]*:[^@]*@", server):
        own = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        yield source.problem(
            ("mlflow",), f"{NO_PASSWORD}: put it in {own if server.startswith('http') else 'the environment'}"
        )
