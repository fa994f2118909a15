"""A manifest's YAML documents with the line of every key; what is wrong with one is a Problem at its place."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.source import MAX_BYTES, Problem, dotted
from sweeps.source.marked import KeyPath, Marked, UnreadableError, read_documents
from sweeps.stored import RequestError

Fault = tuple[KeyPath, str]  # where in a document, and the sentence

LAUNCHER, UNKNOWN = "ray up", "?"


@dataclass(frozen=True)
class Document:
    """One document of a manifest as plain values."""

    file: str  # as the user named it
    value: dict[str, Any]
    lines: dict[KeyPath, int]
    faults: tuple[Problem, ...] = field(default=(), repr=False)  # what YAML itself says against it

    @property
    def kind(self) -> str:
        """Of Kubernetes objects what they call themselves; ``ray up`` for a file of Ray's cluster launcher."""
        kind = self.value.get("kind")
        if isinstance(kind, str):
            return kind
        return LAUNCHER if {"provider", "cluster_name", "available_node_types"} & self.value.keys() else UNKNOWN

    @property
    def name(self) -> str:
        """``RayCluster sweeps``, or the name of the cluster that ``ray up`` starts."""
        if self.kind == LAUNCHER:
            return text_at(self.value, "cluster_name")
        return f"{self.kind} {text_at(self.value, 'metadata', 'name')}".strip()

    def problem(self, keys: KeyPath, message: str) -> Problem:
        """At ``keys``, or at the nearest key above that is written down."""
        known = next(keys[:end] for end in range(len(keys), -1, -1) if not end or keys[:end] in self.lines)
        line = self.lines.get(known, min(self.lines.values(), default=1))
        return Problem(f"{self.file}:{line}" + (f": {dotted(keys)}" if keys else ""), message, line)

    def texts(self) -> Iterator[tuple[KeyPath, str]]:
        """Every piece of text in it, and where it stands."""
        yield from _texts(self.value, ())


def read_manifest(path: str) -> list[Document]:
    """The documents that have something in them; raises RequestError where there is nothing to go on with."""
    try:
        documents = read_documents(_text(path))
    except UnreadableError as error:
        raise RequestError(f"{path}:{error.line}: {error}") from None
    found = [_document(path, marked) for marked in documents if marked.value is not None]
    if not found:
        raise RequestError(f"{path}: expected a manifest of a cluster, got an empty file")
    return found


def at(value: Any, *keys: str | int) -> Any:
    """The value at ``keys``; None where there is none."""
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:
            return None
    return value


def mapping_at(value: Any, *keys: str | int) -> dict[str, Any]:
    """The mapping at ``keys``; empty where there is none."""
    found = at(value, *keys)
    return found if isinstance(found, dict) else {}


def list_at(value: Any, *keys: str | int) -> list[Any]:
    """The list at ``keys``; empty where there is none."""
    found = at(value, *keys)
    return found if isinstance(found, list) else []


def text_at(value: Any, *keys: str | int) -> str:
    """The text at ``keys``; empty where there is none."""
    found = at(value, *keys)
    return found if isinstance(found, str) else ""


def number_at(value: Any, *keys: str | int) -> float | None:
    """The number at ``keys``; None where there is none."""
    found = at(value, *keys)
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def _document(path: str, marked: Marked) -> Document:
    if not isinstance(marked.value, dict):
        given = f"a {'list' if isinstance(marked.value, list) else 'value'}"
        raise RequestError(f"{path}: expected the keys of a cluster's manifest, got {given}")
    faults = [
        Problem(f"{path}:{line}" + (f": {dotted(keys)}" if keys else ""), message, line)
        for keys, line, message in marked.faults
    ]
    return Document(path, marked.value, marked.lines, tuple(faults))


def _text(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES or b"\0" in content:
            raise RequestError(f"{path}: expected a manifest, got a binary file or more than {MAX_BYTES >> 20} MiB")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RequestError(f"{path}: expected text in UTF-8, got another encoding") from None
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}: cannot be read ({getattr(error, 'strerror', error)})") from None


def _texts(value: Any, keys: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, str):
        yield keys, value
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield from _texts(entry, (*keys, key))
