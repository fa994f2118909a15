"""``--set PATH=VALUE``: a path into the study, or its recipe as knobs have it; setting a knob pins it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeps.source import ELSEWHERE, Problem, Source, did_you_mean, dotted
from sweeps.source.marked import KeyPath, UnreadableError, read_yaml

STUDY_KEYS = (
    "name",
    "recipe",
    "knobs",
    "constraints",
    "objectives",
    "search",
    "stop_early",
    "resources",
    "budget",
    "storage",
    "mlflow",
)
# Their keys hold dots and slashes: what follows the first segment is one key.
_FLAT = ("knobs", "constraints", "objectives")
_PATHS = ("path", "weights", "storage")


def knob_path(name: str) -> str:
    """A knob's one spelling: ``recipe.loss.alpha`` is ``loss.alpha``."""
    return name.removeprefix("recipe.")


def apply_setting(source: Source, setting: str) -> None:
    """Change ``source`` as ``setting`` says, or report why it cannot be done."""
    path, equals, text = setting.partition("=")
    path = path.strip()
    if not equals or not all(path.split(".")):
        expected = "expected PATH=VALUE, such as loss.alpha=0.3"
        source.problems.append(Problem(f"--set {setting}", expected, ELSEWHERE))
        return
    try:
        marked = read_yaml(_quoted(text))
        fault = next((message for _, _, message in marked.faults), None)
    except UnreadableError as error:
        fault = str(error)
    if fault:
        source.problems.append(Problem(f"--set {setting}", fault, ELSEWHERE))
        return
    keys = study_keys(source.data, path)
    if keys[0] in _FLAT and len(keys) == 2:
        _put_flat(source, str(keys[0]), str(keys[1]), marked.value, setting)
    else:
        _put(source, keys, _from_here(marked.value, str(keys[-1])), setting)


def study_keys(data: dict[str, Any], path: str) -> KeyPath:
    """Where a dotted path leads: into the study if it begins with one of its keys, else into the recipe."""
    segments = path.split(".")
    if segments[0] not in STUDY_KEYS:
        return ("recipe", *recipe_keys(data.get("recipe"), path))
    if segments[0] in _FLAT and len(segments) > 1:
        return (segments[0], ".".join(segments[1:]))
    if segments[0] == "recipe" and len(segments) > 1:
        return ("recipe", *recipe_keys(data.get("recipe"), ".".join(segments[1:])))
    return tuple(segments)


def recipe_keys(recipe: Any, path: str) -> KeyPath:
    """The keys that a dotted path names; one with dots in itself (a data set ``cifar10.1``) stays whole."""
    keys: KeyPath = ()
    segments, value = path.split("."), recipe
    while segments:
        taken = 1
        if isinstance(value, dict):
            lengths = range(len(segments), 0, -1)
            taken = next((n for n in lengths if ".".join(segments[:n]) in value), 1)
        key: str | int = ".".join(segments[:taken])
        if isinstance(value, list) and str(key).isdecimal():
            key = int(key)
        keys, segments = (*keys, key), segments[taken:]
        value = child(value, key)
    return keys


def child(value: Any, key: str | int) -> Any:
    """``value[key]`` where there is such a thing, else None."""
    if isinstance(value, dict):
        return value.get(key)
    if isinstance(value, list) and isinstance(key, int) and key < len(value):
        return value[key]
    return None


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"loss": {"alpha": 1}}`` -> ``{"loss.alpha": 1}``; lists stay whole."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        inner = flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
        leaves |= inner
    return leaves


def put(data: Any, keys: KeyPath, value: Any) -> Any:
    """``data`` with ``value`` at ``keys``, in a copy that shares the rest; missing mappings are made.

    Raises KeyError with the position in ``keys`` of the first one that its parent cannot have.
    """
    return _put_in(data, keys, value, 0)


def _put_in(data: Any, keys: KeyPath, value: Any, depth: int) -> Any:
    if depth == len(keys):
        return value
    key = keys[depth]
    if isinstance(data, list) and isinstance(key, int) and key < len(data):
        return [*data[:key], _put_in(data[key], keys, value, depth + 1), *data[key + 1 :]]
    if not (data is None or isinstance(data, dict)):
        raise KeyError(depth)
    data = data or {}
    return {**data, key: _put_in(data.get(key), keys, value, depth + 1)}


def _put(source: Source, keys: KeyPath, value: Any, setting: str) -> None:
    is_pin = _pin(source, keys)
    if is_pin and value is None:
        return  # the knob is gone, and the recipe's own value stands
    try:
        source.data = put(source.data, keys, value)
    except KeyError as error:
        depth = error.args[0]
        message = f"expected a path into the study, but '{dotted(keys[:depth])}' is a value and has no keys"
        source.problems.append(Problem(f"--set {setting}", message, ELSEWHERE))
        return
    _originates(source, keys, setting)


def _pin(source: Source, keys: KeyPath) -> bool:
    """Take the knob at ``keys`` out of the search; whether there was one."""
    knobs, path = source.data.get("knobs"), dotted(keys[1:])
    if keys[0] != "recipe" or not isinstance(knobs, dict) or len(_without(knobs, path)) == len(knobs):
        return False
    source.pinned.append(path)
    source.data["knobs"] = _without(knobs, path)
    return True


def _put_flat(source: Source, section: str, name: str, value: Any, setting: str) -> None:
    present = source.data.get(section) or {}
    if not isinstance(present, dict):
        return  # the section itself is reported as no mapping
    name = knob_path(name) if section == "knobs" else name
    rest = _without(present, name)
    if value is None and len(rest) == len(present):
        message = f"nothing to remove: there is no '{name}' in {section}{did_you_mean(name, list(present))}"
        source.problems.append(Problem(f"--set {setting}", message, ELSEWHERE))
        return
    source.data[section] = rest if value is None else {**rest, name: value}
    source.pinned = [path for path in source.pinned if (section, path) != ("knobs", name)]
    _originates(source, (section, name), setting)


def _originates(source: Source, keys: KeyPath, setting: str) -> None:
    """From here on, ``setting`` is the place of everything at ``keys`` and below."""
    source.origins = {known: origin for known, origin in source.origins.items() if known[: len(keys)] != keys}
    for end in range(1, len(keys) + 1):
        source.origins.setdefault(keys[:end], setting)


def _without(knobs: dict[str, Any], path: str) -> dict[str, Any]:
    return {name: knob for name, knob in knobs.items() if knob_path(name) != path}


def _quoted(text: str) -> str:
    """A constraint such as ``>= 0.6`` is text, though YAML reads > as the start of a block."""
    stripped = text.strip()
    return f'"{stripped}"' if stripped[:2] in (">=", "<=") and '"' not in stripped else text


def _from_here(value: Any, key: str) -> Any:
    """What the command line calls by a path that exists is meant from the current folder, not the study's."""
    if isinstance(value, dict):
        return {name: _from_here(entry, name) for name, entry in value.items()}
    if isinstance(value, str) and key in _PATHS and _is_here(value, key):
        return str(Path(value).absolute())
    return value


def _is_here(value: str, key: str) -> bool:
    path = Path(value)
    if key == "weights" and path.is_dir() and "/" not in value:
        return any(path.glob("*config.json"))  # a folder of results may carry the name of a tag
    return bool(value) and "://" not in value and path.exists()
