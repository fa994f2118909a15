"""Changes in a manifest's text that leave every other line, and every comment, as it stands; for block style alone."""

import re
from collections.abc import Iterable, Mapping

Line = int  # of a document as it was read, from 1


def edited(text: str, values: Mapping[tuple[Line, str], str], drops: Iterable[Line]) -> str:
    """With other single values of the keys on those lines, and without what begins on the lines of ``drops``.

    What is said beside a value stays; what is dropped takes all that is below it, and the comments above it, along.
    """
    lines = text.splitlines(keepends=True)
    for (line, key), value in values.items():
        lines[line - 1] = _with_value(lines[line - 1], key, value)
    for line in sorted(drops, reverse=True):  # from the end: the lines before stay where they are
        first, last = _extent(lines, line - 1)
        del lines[first:last]
    return "".join(lines)


def _with_value(line: str, key: str, value: str) -> str:
    pattern = rf"((?:^|[\s{{,\"'-]){re.escape(key)}[\"']?:\s+)[^\s,}}]+"
    changed, count = re.subn(pattern, lambda match: match[1] + value, line, count=1)
    assert count, f"a shipped manifest has no {key} in {line!r}"
    return changed


def _extent(lines: list[str], first: int) -> tuple[int, int]:
    """From the comments above what begins on ``first`` to the line after its end."""
    depth, last = _indent(lines[first]), first + 1
    is_item = lines[first].lstrip().startswith("- ")
    for position in range(first + 1, len(lines)):
        line = lines[position]
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if _indent(line) < depth or (_indent(line) == depth and (is_item or not line.lstrip().startswith("- "))):
            break
        last = position + 1
    while lines[first - 1].lstrip().startswith("#") and _indent(lines[first - 1]) == depth:
        first -= 1
    before = lines[first - 1]
    while last < len(lines) and not lines[last].strip() and (not before.strip() or _indent(before) < depth):
        last += 1  # the empty lines that set it apart
    return first, last


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
