"""Environment variables wherever a manifest sets them: container environments, `docker run` options, shell commands."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sweeps.clusters.manifest import Document, at, mapping_at
from sweeps.source.marked import KeyPath

_ASSIGNED = re.compile(r"(?<![\w$])([A-Z][A-Za-z0-9_]*)=(\"[^\"]*\"|'[^']*'|[^\s;]*)")
_IN_YAML = re.compile(r"^\s*([A-Z][A-Za-z0-9_]*):\s*(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Setting:
    """``name=value`` and where it stands; ``where`` is the piece of text that sets it."""

    keys: KeyPath
    name: str
    value: str
    where: str = ""


def settings(document: Document) -> Iterator[Setting]:
    """Every setting of an environment variable."""
    for keys, text in document.texts():
        if keys[-1] == "value" and isinstance(name := at(document.value, *keys[:-1], "name"), str):
            yield Setting(keys, name, text)
        pattern = _IN_YAML if keys[-1] == "runtimeEnvYAML" else _ASSIGNED
        for match in pattern.finditer(text):
            yield Setting(keys, match[1], match[2].strip("\"'"), text)
    if document.kind == "ConfigMap":
        for name, value in mapping_at(document.value, "data").items():
            yield Setting(("data", name), name, str(value))
