"""The recipe at the values that knobs give it: valid at both ends of a range, alone and beside the others."""

from collections.abc import Iterator
from itertools import combinations, islice, product
from typing import Any

from pydantic import ValidationError

from robustcore.recipe import Recipe
from sweeps.results.records import Value
from sweeps.source import Problem, Source, did_you_mean
from sweeps.source.marked import KeyPath
from sweeps.source.settings import child, knob_path, put, recipe_keys
from sweeps.study.rules import adapter
from sweeps.study.schema import known_paths
from sweeps.study.sentences import Fault, faults, shown
from sweeps.study.space import Space

MAX_COMBINATIONS = 2000

# What stands in for a part that is broken, so that rules about several parts can be judged all the same.
_STAND_INS: dict[str, Any] = {
    "model": {"kind": "clip"},
    "data": {"train": {"kind": "digits"}},
    "train": {"kind": "digits"},
    "loss": {"kind": "tecoa"},
    "attack": {"kind": "pgd", "ball": {"kind": "linf", "eps": 0}},
    "ball": {"kind": "linf", "eps": 0},
    "eps": 0,
    "optim": {"lr": 1, "steps": 10**9},
    "lr": 1,
    "steps": 10**9,
    "evaluation": {"datasets": {"any": {"kind": "digits"}}, "attacks": {}},
    "datasets": {"any": {"kind": "digits"}},
    "attacks": {},
    "path": "any",
    "dataset": "CIFAR10",
    "root": "any",
}


def recipe_faults(source: Source, recipe: Any) -> list[Fault]:
    """Everything wrong with ``recipe`` in the place of the study's own."""
    found, _ = _faults(source, recipe)
    if found and isinstance(recipe, dict):
        sound = _repaired(source, recipe)
        # One rule may hide another, so each is also judged with the parts of the others replaced.
        for part in ({}, {"attack": _STAND_INS["attack"]}, {"optim": _STAND_INS["optim"]}):
            found += [fault for fault in _faults(source, {**sound, **part})[0] if fault not in found]
    return found


def _faults(source: Source, recipe: Any) -> tuple[list[Fault], bool]:
    """And whether each part is right on its own: only then does pydantic judge the recipe as a whole."""
    try:
        adapter(Recipe).validate_python(recipe, context={"base": source.folder})
    except ValidationError as error:
        parts_are_right = isinstance(recipe, dict) and not any(detail["loc"] for detail in error.errors())
        return faults(error, {**source.data, "recipe": recipe}, ("recipe",)), parts_are_right
    return [], True


def _repaired(source: Source, recipe: dict[str, Any]) -> dict[str, Any]:
    """Without the parts that are wrong on their own; what the recipe cannot do without is replaced."""
    for _ in range(5):
        found, parts_are_right = _faults(source, recipe)
        if parts_are_right:
            break
        for keys, sentence in found:
            spoilt = keys[1:-1] if keys[-1] == "kind" else keys[1:]
            recipe = _without(recipe, spoilt)
            name = str(spoilt[-1]) if spoilt else ""
            if name in _STAND_INS and not sentence.startswith("unknown key"):
                recipe = put(recipe, spoilt, _STAND_INS[name])
    return recipe


def _without(data: Any, keys: KeyPath) -> Any:
    """``data`` without what is at ``keys``; a list loses itself, not one entry."""
    if not keys or not isinstance(data, dict):
        return data
    below = data.get(keys[0])
    if len(keys) == 1 or not isinstance(below, dict):
        return {key: value for key, value in data.items() if key != keys[0]}
    return {**data, keys[0]: _without(below, keys[1:])}


def knob_problems(source: Source, knobs: dict[str, Space]) -> tuple[list[Problem], dict[str, Space]]:
    """What is wrong with ``knobs``, by their names as written, and the sound ones by their recipe paths."""
    recipe = source.at("recipe")
    if not isinstance(recipe, dict):
        return [], {}
    base = recipe_faults(source, recipe)
    problems = []
    sound = {}
    for name, knob in knobs.items():
        path = knob_path(name)
        keys = recipe_keys(recipe, path)
        if _is_spoilt(source, keys, base):
            continue
        if not _has_place(recipe, keys):
            problems.append(source.problem(("knobs", name), _unknown_path(path, known_paths(source.data))))
            continue
        sentence = _alone(source, recipe, base, path, knob)
        if sentence:
            problems.append(source.problem(("knobs", name), sentence))
        else:
            sound[name] = knob
    problems += _together(source, recipe, base, sound)
    return problems, {knob_path(name): knob for name, knob in sound.items()}


def _is_spoilt(source: Source, keys: KeyPath, base: list[Fault]) -> bool:
    """Whether what is around ``keys`` is of no known kind or no mapping, so that nothing can be said of them."""
    around = {("recipe", *keys[:end]) for end in range(1, len(keys))}
    kinds = {place[:-1] for place, _ in base if place[-1] == "kind"}
    values = {place for place, _ in base if not isinstance(source.at(*place), dict)}
    return not around.isdisjoint(kinds | values)


def _has_place(recipe: dict[str, Any], keys: KeyPath) -> bool:
    """Whether a value can be put at ``keys``: into a mapping, or over an entry of a list."""
    parent: Any = recipe
    for key in keys[:-1]:
        parent = child(parent, key)
    return isinstance(parent, dict) or child(parent, keys[-1]) is not None


def _alone(source: Source, recipe: dict[str, Any], base: list[Fault], path: str, knob: Space) -> str:
    """What is wrong with one knob, in one sentence; empty if nothing is."""
    keys = recipe_keys(recipe, path)
    own = ("recipe", *keys)
    values = [*knob.ends(), *_between(knob)]
    for number, value in enumerate(values):
        for place, sentence in recipe_faults(source, put(recipe, keys, value)):
            if place == own and sentence.startswith("unknown key"):
                return _unknown_path(path, known_paths(source.data))
            if place[: len(own)] == own and (place, sentence) not in base:
                if number >= len(knob.ends()):
                    return f"values between the ends are not valid ({sentence}); expected integer"
                return f"the recipe is not valid at {shown(value)}: {sentence}"
    return ""


def _between(knob: Space) -> list[Value]:
    """A number inside a continuum that is no whole number: both ends may be one where nothing between is."""
    if knob.grid() is not None:
        return []
    low, high = (float(end) for end in knob.ends() if isinstance(end, float))
    return [low + (high - low) * 0.3819660113]


def _unknown_path(path: str, known: list[str]) -> str:
    last = path.rpartition(".")[2]
    same = [name for name in known if name.rpartition(".")[2] == last]
    near = (
        did_you_mean(path, same)
        or did_you_mean(path, known)
        or (f"; did you mean '{same[0]}'?" if same else f", expected one of: {', '.join(known)}")
    )
    return f"unknown path into the recipe{near}"


def _together(source: Source, recipe: dict[str, Any], base: list[Fault], knobs: dict[str, Space]) -> Iterator[Problem]:
    """Values that are not valid beside those of another knob; every recipe here is one the sweep may run."""
    keys = {name: recipe_keys(recipe, knob_path(name)) for name in knobs}
    first = {name: knob.ends()[0] for name, knob in knobs.items()}
    seen: set[KeyPath] = set()
    for chosen in islice(_choices(knobs), MAX_COMBINATIONS):
        values = {**first, **chosen}
        for place, sentence in recipe_faults(source, _with(recipe, keys, values)):
            if place in seen or (place, sentence) in base:
                continue
            seen.add(place)
            guilty = [name for name in knobs if _matters(source, recipe, keys, values, name, knobs[name], place)]
            at = ", ".join(f"{knob_path(name)} {shown(values[name])}" for name in guilty or chosen)
            message = f"the recipe is not valid at {at}: {sentence}"
            yield source.problem(("knobs", (guilty or list(chosen))[0]), message)


def _choices(knobs: dict[str, Space]) -> Iterator[dict[str, Value]]:
    for number in (1, 2):
        for names in combinations(knobs, number):
            for values in product(*(knobs[name].ends() for name in names)):
                yield dict(zip(names, values, strict=True))


def _matters(
    source: Source,
    recipe: dict[str, Any],
    keys: dict[str, KeyPath],
    values: dict[str, Value],
    name: str,
    knob: Space,
    place: KeyPath,
) -> bool:
    """Whether another value of the knob ``name`` would put right what is wrong at ``place``."""
    others = (_with(recipe, keys, {**values, name: value}) for value in knob.ends())
    return any(place not in [fault[0] for fault in recipe_faults(source, other)] for other in others)


def _with(recipe: dict[str, Any], keys: dict[str, KeyPath], values: dict[str, Value]) -> dict[str, Any]:
    for name, value in values.items():
        recipe = put(recipe, keys[name], value)
    return recipe
