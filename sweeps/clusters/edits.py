"""Changes in a manifest's text that leave every other line, and every comment, as it stands; for block style alone."""

import re
from dataclasses import dataclass

from sweeps.source.marked import KeyPath, read_documents


@dataclass(frozen=True)
class Text:
    """A manifest as text; every change gives another one."""

    text: str

    def drop(self, document: int, keys: KeyPath) -> "Text":
        """Without the key or list item, what is below it and the comments above it; ``keys`` must be there."""
        lines = self.text.splitlines(keepends=True)
        first = self._line(document, keys)
        last = _end(lines, first)
        while lines[first - 1].lstrip().startswith("#") and _indent(lines[first - 1]) == _indent(lines[first]):
            first -= 1
        while last < len(lines) and not lines[last].strip() and not lines[first - 1].strip():
            last += 1  # the empty lines that set it apart on both sides
        return Text("".join(lines[:first] + lines[last:]))

    def put(self, document: int, keys: KeyPath, value: str) -> "Text":
        """With another single value at the key, which has one on its own line; what is said beside it stays."""
        lines = self.text.splitlines(keepends=True)
        at = self._line(document, keys)
        name = re.escape(str(keys[-1]))
        changed, count = re.subn(rf"((?:^|[\s{{,\"'-]){name}[\"']?:\s+)([^\s,}}]+)", rf"\g<1>{value}", lines[at], count=1)
        assert count, f"line {at + 1} of a shipped manifest has no {keys[-1]}"
        return Text("".join([*lines[:at], changed, *lines[at + 1 :]]))

    def _line(self, document: int, keys: KeyPath) -> int:
        return read_documents(self.text)[document].lines[keys] - 1


def _end(lines: list[str], first: int) -> int:
    """The line after the last one that belongs to what begins on ``first``."""
    depth, last = _indent(lines[first]), first + 1
    is_item = lines[first].lstrip().startswith("- ")
    for position in range(first + 1, len(lines)):
        line = lines[position]
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if _indent(line) < depth or (_indent(line) == depth and (is_item or not line.lstrip().startswith("- "))):
            break
        last = position + 1
    return last


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
