"""pydantic's errors as sentences at their place in the study: what is expected, what came, what is near."""

import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from robustcore.errors import InputError
from sweeps.source import did_you_mean
from sweeps.source.marked import KeyPath
from sweeps.source.settings import STUDY_KEYS, child
from sweeps.study.schema import expected_kind, known_keys, known_kinds

Fault = tuple[KeyPath, str]  # where in the study, and the sentence

_KINDS = {
    "dataclass_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dict_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
    "string_type": "text",
    "float_type": "a number",
    "int_type": "a whole number",
    "bool_type": "true or false",
}
_LIMITS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("of at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("of at most", "le"),
}


def faults(error: ValidationError, study: dict[str, Any], prefix: KeyPath = ()) -> list[Fault]:
    """Every error of a value that stands at ``prefix`` of ``study``, each once."""
    return list(dict.fromkeys(_faults(error, study, prefix)))


def _faults(error: ValidationError, study: dict[str, Any], prefix: KeyPath) -> Iterator[Fault]:
    value: Any = study
    for key in prefix:
        value = child(value, key)
    for detail in error.errors(include_url=False):
        keys = (*prefix, *_written_keys(detail, value))
        yield _sentence(detail, keys, study)


def _written_keys(detail: ErrorDetails, value: Any) -> KeyPath:
    """pydantic's location without the members of unions, which nobody wrote."""
    keys: KeyPath = ()
    last = len(detail["loc"]) - 1
    for position, key in enumerate(detail["loc"]):
        is_written = key in value if isinstance(value, dict) else isinstance(value, list) and isinstance(key, int)
        if is_written or (position == last and detail["type"] == "missing"):
            keys, value = (*keys, key), child(value, key)
    return keys


def _sentence(detail: ErrorDetails, keys: KeyPath, study: dict[str, Any]) -> Fault:
    kind, context, given = detail["type"], detail.get("ctx", {}), detail["input"]
    if kind == "unexpected_keyword_argument":
        return keys, unknown_key(str(keys[-1]), keys, study)
    if kind == "missing":
        return _missing(keys, given, study)
    if kind == "value_error":
        cause = context["error"]
        key = cause.key.split(".") if isinstance(cause, InputError) and cause.key else ()
        return (*keys, *key), str(cause)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _unknown_kind(kind, context, given, keys, study)
    if kind in _KINDS:
        return keys, f"expected {_KINDS[kind]}, got {shown(given)}"
    if kind in _LIMITS:
        words, name = _LIMITS[kind]
        return keys, f"expected a number {words} {context[name]:g}, got {shown(given)}"
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", context["expected"])
        expected = _either(known) if known else context["expected"]  # numbers have no quotes
        return keys, f"expected {expected}, got {shown(given)}{did_you_mean(str(given), known)}"
    if kind in ("too_short", "too_long"):
        bound = context.get("min_length", context.get("max_length"))
        words = "at least" if kind == "too_short" else "at most"
        return keys, f"expected {words} {bound} entries, got {context['actual_length']}"
    message = detail["msg"]
    return keys, f"{message[:1].lower()}{message[1:]}, got {shown(given)}"


def unknown_key(key: str, keys: KeyPath, study: dict[str, Any]) -> str:
    """The sentence about a key that the mapping around it cannot have."""
    known = known_keys(study, keys[:-1])
    near = did_you_mean(key, known)
    if len(keys) == 1 and key in known_keys(study, ("recipe",)):
        near = f"; did you mean 'recipe.{key}'?"
    elif len(keys) == 1 and key in known_keys(study, ("search",)):
        near = f"; did you mean 'search.{key}'?"
    elif keys[:-1] == ("recipe",) and not near:
        near = did_you_mean(key, STUDY_KEYS)
    return "unknown key" + (near or f", expected one of: {', '.join(known)}")


def _missing(keys: KeyPath, parent: Any, study: dict[str, Any]) -> Fault:
    if isinstance(keys[-1], int):
        return keys[:-1], f"expected more entries, got {shown(parent)}"
    return keys, f"missing key, expected {expected_kind(study, keys)}"


def _unknown_kind(kind: str, context: dict[str, Any], given: Any, keys: KeyPath, study: dict[str, Any]) -> Fault:
    known = context.get("expected_tags") or ", ".join(f"'{name}'" for name in known_kinds(study, keys))
    if kind == "union_tag_not_found":
        return (*keys, "kind"), f"missing key, expected one of {known}"
    near = did_you_mean(str(context["tag"]), re.findall(r"'([^']*)'", known))
    return (*keys, "kind"), f"unknown kind, expected one of {known}, got {shown(given['kind'])}{near}"


def shown(value: Any) -> str:
    """A given value as YAML shows it, on one line and not too long."""
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else f"{value[:57]}...")
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):  # a component, or an integer of thousands of digits
        return f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _either(known: list[str]) -> str:
    quoted = [f"'{name}'" for name in known]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"
