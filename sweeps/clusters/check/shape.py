"""Keys and types of a manifest against the shapes in ``shapes/*.yaml``; a shape knows names and types, no meaning."""

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from sweeps.clusters.amounts import amount
from sweeps.clusters.manifest import Document, Fault
from sweeps.source import did_you_mean
from sweeps.source.marked import KeyPath

_EXPECTED = {
    "text": "text",
    "int": "a whole number",
    "number": "a number",
    "bool": "true or false",
    "amount": "a quantity such as 4, 500m or 16Gi",
    "quantity": "a number or text",
    "mode": "a file mode such as 0440",
    "count": "a whole number from 0",
    "port": "a port from 1 to 65535",
    "door": "a port from 1 to 65535, or its name",
    "path": "a path from the root, such as /data",
}


@cache
def shapes(name: str) -> dict[str, Any]:
    """The shapes of one file: ``kubernetes`` or ``launcher``."""
    text = files("sweeps").joinpath("clusters", "check", "shapes", f"{name}.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def shape_faults(document: Document, family: str, name: str) -> Iterator[Fault]:
    """Every key that is not known, every one that is missing, and every value of another type than expected."""
    yield from _faults(document.value, f"${name}", shapes(family), ())


def _faults(value: Any, shape: Any, known: dict[str, Any], keys: KeyPath) -> Iterator[Fault]:
    if isinstance(shape, str) and shape.startswith("$"):
        is_list = shape.endswith("*") and isinstance(value, list)  # one of them, or a list of them
        inner = known[shape.strip("$*")]
        yield from _faults(value, [inner] if is_list else inner, known, keys)
    elif isinstance(shape, dict):
        yield from _mapping(value, _whole(shape, known), known, keys)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield keys, f"expected a list, got {shown(value)}"
            return
        for position, item in enumerate(value):
            yield from _faults(item, shape[0], known, (*keys, position))
    elif not _fits(value, shape):
        words = " or ".join(f"'{word}'" for word in shape[1:].split("|"))
        near = did_you_mean(str(value), shape[1:].split("|"))
        yield keys, f"expected {words if shape[0] == '=' else _EXPECTED[shape]}, got {shown(value)}{near}"


def _whole(shape: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """With the keys of the shape that it says it is like; its own come first."""
    if "$like" not in shape:
        return shape
    own = {key: inner for key, inner in shape.items() if key != "$like"}
    names = {key.removesuffix("!") for key in own}
    like = known[shape["$like"].removeprefix("$")]
    return {**{key: inner for key, inner in like.items() if key.removesuffix("!") not in names}, **own}


def _mapping(value: Any, shape: dict[str, Any], known: dict[str, Any], keys: KeyPath) -> Iterator[Fault]:
    if not isinstance(value, dict):
        yield keys, f"expected a mapping, got {shown(value)}"
        return
    inner = {key.removesuffix("!"): below for key, below in shape.items()}
    for key, entry in value.items():
        below = inner.get(key, inner.get("*"))
        if below is None:
            near = did_you_mean(key, list(inner)) or f", expected one of: {', '.join(sorted(inner))}"
            yield (*keys, key), f"unknown key{near}"
        else:
            yield from _faults(entry, below, known, (*keys, key))
    for key in shape:
        if key.endswith("!") and key[:-1] not in value:
            yield (*keys, key[:-1]), "missing key"


def _fits(value: Any, shape: str) -> bool:
    if shape == "any":
        return True
    if shape.startswith("="):
        return value in shape[1:].split("|")
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if shape == "amount":
        return amount(value) is not None
    if shape == "quantity":
        return is_whole or isinstance(value, float | str)
    if shape == "mode":
        return is_whole or (isinstance(value, str) and re.fullmatch(r"0o?[0-7]+", value) is not None)
    if shape == "count":
        return is_whole and value >= 0
    if shape in ("port", "door"):
        is_name = shape == "door" and isinstance(value, str) and bool(re.search("[a-z]", value))
        return is_name or (is_whole and 0 < value < 2**16)
    if shape == "path":
        return isinstance(value, str) and value.startswith("/")
    kinds = {"text": isinstance(value, str), "int": is_whole, "bool": isinstance(value, bool)}
    return kinds.get(shape, is_whole or isinstance(value, float))


def shown(value: Any) -> str:
    """What came, in a few words."""
    if isinstance(value, dict | list):
        return f"a {'mapping' if isinstance(value, dict) else 'list'}" if value else f"{value}"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nothing"}[value]
    if isinstance(value, int | float):
        return f"the number {value}"
    return repr(value[:60])
