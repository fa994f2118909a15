"""YAML text -> plain values and the lines of its keys; no tags, no key twice, a bounded size."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

KeyPath = tuple[str | int, ...]  # where a value is: keys of mappings, positions in lists

MAX_VALUES = 10_000
MAX_DEPTH = 40
_MERGE = "tag:yaml.org,2002:merge"


class UnreadableError(ValueError):
    """Text that is not YAML at all; ``line`` counts from 1."""

    def __init__(self, message: str, line: int = 1) -> None:
        super().__init__(message)
        self.line = line


@dataclass
class Marked:
    """Plain values with the line of each; ``faults`` are mistakes that left the rest readable."""

    value: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    faults: list[tuple[KeyPath, int, str]] = field(default_factory=list)


def read_yaml(text: str) -> Marked:
    """The one document in ``text``; raises UnreadableError."""
    return _marked(_composed(text, lambda: yaml.compose(text, Loader=_Loader)))


def read_documents(text: str) -> list[Marked]:
    """Every document in ``text``, as ``---`` parts them; raises UnreadableError."""
    return [_marked(node) for node in _composed(text, lambda: list(yaml.compose_all(text, Loader=_Loader)))]


def _composed(text: str, compose: Callable[[], Any]) -> Any:
    try:
        return compose()
    except yaml.MarkedYAMLError as error:
        raise _unreadable(error) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UnreadableError(f"expected text, got the character {error.character:#x}", line) from None
    except RecursionError:
        raise UnreadableError(f"nested more than {MAX_DEPTH} deep") from None


def _marked(node: yaml.Node | None) -> Marked:
    reader = _Reader()
    marked = reader.marked
    marked.value = reader.read(node, ()) if node is not None else None
    return marked


def _unreadable(error: yaml.MarkedYAMLError) -> UnreadableError:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark is not None else 1
    problem = error.problem or "cannot be read"
    if "'\\t'" in problem:
        return UnreadableError("a tab cannot indent YAML; expected spaces", line)
    if "expected a single document" in str(error.context):
        return UnreadableError("a second document begins here (---); expected one study in a file", line)
    hint = "" if "alias" in problem else "; text with special characters needs quotes"
    return UnreadableError(f"not valid YAML: {problem}{hint}", line)


class _Loader(yaml.SafeLoader):
    """Reads the scalars of YAML 1.2: ``on`` and ``2024-01-01`` are text, ``1e-5`` is a number."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's own way to start afresh


for _kind, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.inf|\.nan",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), _first)

_SCALARS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": int,
    "float": lambda text: float(text.replace(".inf", "inf").replace(".nan", "nan")),
    "bool": lambda text: text.lower() == "true",
    "null": lambda _: None,
}


class _Reader:
    """Walks the nodes that PyYAML composed; an alias is walked as often as it is used, hence the bounds."""

    def __init__(self) -> None:
        self.marked = Marked()
        self._num_values = 0

    def read(self, node: yaml.Node, keys: KeyPath) -> Any:
        self._num_values += 1
        if self._num_values > MAX_VALUES or len(keys) > MAX_DEPTH:
            raise UnreadableError(
                f"expected at most {MAX_VALUES} values, aliases counted each time, {MAX_DEPTH} deep",
                _line(node),
            )
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, keys)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            for position, item in enumerate(node.value):
                self.marked.lines[*keys, position] = _line(item)
            return [self.read(item, (*keys, position)) for position, item in enumerate(node.value)]
        return self._scalar(node, keys)

    def _scalar(self, node: yaml.Node, keys: KeyPath) -> Any:
        read = _SCALARS.get(node.tag.removeprefix("tag:yaml.org,2002:"))
        if read is None or not isinstance(node, yaml.ScalarNode):
            self._fault(keys, node, f"expected a plain value, got one with the tag '{node.tag}'")
            return None
        try:
            return read(node.value)
        except ValueError:
            self._fault(keys, node, f"expected {node.tag.rpartition(':')[2]}, got {node.value[:40]!r}")
            return None

    def _mapping(self, node: yaml.MappingNode, keys: KeyPath) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        seen: dict[str, int] = {}
        for key_node, value_node in sorted(node.value, key=lambda pair: pair[0].tag != _MERGE):
            if key_node.tag == _MERGE:
                merged = {**self._merged(value_node, keys), **merged}
                continue
            key = self._key(key_node, keys)
            if key in seen:
                # The other value is a mistake of its own kind, so it is not looked at.
                message = f"the key stands twice, first on line {seen[key]}; expected it once"
                self._fault((*keys, key), key_node, message)
            elif key is not None:
                seen[key] = self.marked.lines[*keys, key] = _line(key_node)
                own[key] = self.read(value_node, (*keys, key))
        return {**merged, **own}

    def _merged(self, node: yaml.Node, keys: KeyPath) -> dict[str, Any]:
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for source in reversed(sources):
            value = self.read(source, (*keys, "<<"))
            if not isinstance(value, dict):
                self._fault(keys, node, "expected a mapping after <<")
                continue
            merged |= value
        return merged

    def _key(self, node: yaml.Node, keys: KeyPath) -> str | None:
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:str":
            return str(node.value)
        given = f"{node.value}" if isinstance(node, yaml.ScalarNode) else "a list or mapping"
        self._fault(keys, node, f"expected text as a key, got {given[:40]}; quote it if it is a name")
        return None

    def _fault(self, keys: KeyPath, node: yaml.Node, message: str) -> None:
        self.marked.faults.append((keys, _line(node), message))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
