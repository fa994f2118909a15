"""Where a study names files and folders: in its recipe, in the values of its knobs and points, as earlier studies.

What trains reads these on whatever machine it runs on.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sweeps.source.marked import KeyPath

PATH_KEYS = ("path", "root", "weights", "visual")  # of the recipe's components; a test holds them to the types
Visit = Callable[[KeyPath, str], str]


def local_places(plain: dict[str, Any], folder: Path) -> dict[KeyPath, Path]:
    """The paths on a machine's own disks in a plain study, by their keys; ``folder`` is that of the study's file."""
    found: dict[KeyPath, Path] = {}

    def note(keys: KeyPath, text: str) -> str:
        path = local_path(text, keys, folder)
        if path is not None:
            found[keys] = path
        return text

    moved(plain, note)
    return found


def remote_places(plain: dict[str, Any]) -> dict[KeyPath, str]:
    """The URIs that its recipe reads from."""
    found: dict[KeyPath, str] = {}

    def note(keys: KeyPath, text: str) -> str:
        if "://" in text:
            found[keys] = text
        return text

    moved(plain, note)
    return found


def local_path(text: str, keys: KeyPath, folder: Path) -> Path | None:
    """The path that a value stands for. The recipe's are absolute by now; a knob's may be relative to the study."""
    if "://" in text:
        return None
    if keys[0] == "search" and keys[1] == "warm_start":
        return Path(os.path.abspath(text)) if "/" in text else None
    if os.path.isabs(text):
        return Path(text)
    beside = folder / text
    return beside if keys[0] != "recipe" and beside.exists() else None


def moved(plain: dict[str, Any], visit: Visit) -> dict[str, Any]:
    """The study with what ``visit`` answers in the place of each of its paths, tags of weights included."""
    return {key: _moved(value, (key,), visit) for key, value in plain.items()}


def _moved(value: Any, keys: KeyPath, visit: Visit) -> Any:
    if isinstance(value, dict):
        return {key: _moved(entry, (*keys, key), visit) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_moved(entry, (*keys, position), visit) for position, entry in enumerate(value)]
    return visit(keys, value) if isinstance(value, str) and _is_place(keys) else value


def _is_place(keys: KeyPath) -> bool:
    if keys[:2] == ("search", "warm_start"):
        return True
    names = list(_names(keys))
    return keys[0] in ("recipe", "knobs", "search") and bool(names) and names[-1] in PATH_KEYS


def _names(keys: KeyPath) -> Iterator[str]:
    """The words of all keys but positions and those of a knob's own: ``knobs, model.weights, choice, 0``."""
    for key in keys:
        if isinstance(key, str) and key != "choice":
            yield from key.split(".")
