"""The JSON Schema of a study file, for editors and for the nearest right name of a key."""

from collections.abc import Iterator
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from sweeps.source.marked import KeyPath
from sweeps.study.keys import StudyFile

STUDY_FILE: TypeAdapter[StudyFile] = TypeAdapter(StudyFile)

# Numbers may be written as quotients; YAML hands those over as text.
_AS_TEXT = {
    "type": "string",
    "pattern": r"^\s*[-+]?[0-9.]+([eE][-+]?[0-9]+)?(\s*/\s*[0-9.]+([eE][-+]?[0-9]+)?)?\s*$",
}
_WORDS = {
    "number": "a number",
    "integer": "a whole number",
    "string": "text",
    "array": "a list",
    "object": "a mapping",
}
_LIMITS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def json_schema() -> dict[str, Any]:
    """Draft 2020-12, of a study file as one writes it: its name may be left to the file's."""
    schema: dict[str, Any] = _written(_SCHEMA())
    schema["required"].remove("name")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "A study: one recipe, the knobs that vary in it, and what is asked of it",
    }


def _written(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_written(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    if "oneOf" in schema and "discriminator" in schema:
        return {**schema, "oneOf": [_variant(entry) for entry in schema["oneOf"]]}
    written = {_LIMITS.get(key, key): _written(value) for key, value in schema.items()}
    if written.get("type") in ("number", "integer"):
        return {
            "anyOf": [written, _AS_TEXT],
            **{key: written.pop(key) for key in ("default", "title") if key in written},
        }
    return written


def _variant(reference: dict[str, Any]) -> dict[str, Any]:
    """One member of a union must say which one it is; a model that does not is a CLIP."""
    return reference if reference["$ref"].endswith("/Clip") else {"allOf": [reference], "required": ["kind"]}


@cache
def _SCHEMA() -> dict[str, Any]:  # noqa: N802  # a constant that only errors pay for
    return STUDY_FILE.json_schema()


def known_keys(data: Any, keys: KeyPath) -> list[str]:
    """The keys that the mapping at ``keys`` of the study ``data`` may have; none where any name will do."""
    return list(_at(data, keys).get("properties", {}))


def known_kinds(data: Any, keys: KeyPath) -> list[str]:
    """What ``kind`` may be in the mapping at ``keys``."""
    return list(_child(_at(data, keys[:-1]), keys[-1]).get("discriminator", {}).get("mapping", {}))


def expected_kind(data: Any, keys: KeyPath) -> str:
    """``a number``, ``text``, ..., for the value at ``keys``."""
    return _WORDS.get(_at(data, keys).get("type", "object"), "a value")


def known_paths(data: Any) -> list[str]:
    """Every dotted path into the recipe of the study ``data``, of values rather than mappings."""
    recipe = data.get("recipe") if isinstance(data, dict) else None
    return list(_paths(recipe, _at(data, ("recipe",)), ""))


def _paths(data: Any, schema: dict[str, Any], path: str) -> Iterator[str]:
    given = data if isinstance(data, dict) else {}
    for key in dict.fromkeys([*schema.get("properties", {}), *given]):
        below = _resolved(_child(schema, key), given.get(key))
        if "properties" in below or "additionalProperties" in below:
            yield from _paths(given.get(key), below, f"{path}{key}.")
        elif below:
            yield f"{path}{key}"


def _at(data: Any, keys: KeyPath) -> dict[str, Any]:
    schema = _resolved(_SCHEMA(), data)
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
        schema = _resolved(_child(schema, key), data)
    return schema


def _child(schema: dict[str, Any], key: str | int) -> dict[str, Any]:
    rest = schema.get("additionalProperties")
    child: dict[str, Any] = schema.get("properties", {}).get(key) or (rest if isinstance(rest, dict) else {})
    return child


def _resolved(schema: dict[str, Any], data: Any) -> dict[str, Any]:
    """Behind references, and in the member of a union that ``data`` is."""
    if "$ref" in schema:
        definition: dict[str, Any] = _SCHEMA()["$defs"][schema["$ref"].rpartition("/")[2]]
        return _resolved(definition, data)
    if "discriminator" in schema:
        kind = data.get("kind", "clip") if isinstance(data, dict) else None  # the only kind that need not be said
        mapping = schema["discriminator"]["mapping"]
        return _resolved({"$ref": mapping[kind]}, data) if isinstance(kind, str) and kind in mapping else {}
    for member in schema.get("anyOf", []):
        if "$ref" in member:
            return _resolved(member, data)
    return schema
