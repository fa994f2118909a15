"""Labelled images in WebDataset tar shards: ``<key>.jpg`` beside ``<key>.cls`` or ``<key>.json``; read by byte offset.

Shards are indexed once, then images are read in any order, which needs uncompressed tars on a local disk.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from glob import glob
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from pydantic.dataclasses import dataclass

from robustcore.data.images import check_labels, decoded, subset
from robustcore.data.tars import Member, members, read
from robustcore.errors import DataError
from robustcore.types import STRICT, DataPath, PositiveCount

SUFFIXES = frozenset({"jpg", "jpeg", "png", "webp", "bmp", "ppm", "pgm", "tif", "tiff"})


@dataclass(frozen=True, config=STRICT)
class WebDataset:
    """One shard, a folder of shards (``path/split/*.tar`` where a split is named), or ``shard-{000..012}.tar``.

    Class names come from the recipe or from ``classnames.txt``, one a line, beside the shards or a folder above.
    """

    path: DataPath
    split: str | None = None
    limit: PositiveCount | None = None  # the same images in every run
    classes: tuple[str, ...] | None = None
    kind: Literal["webdataset"] = "webdataset"

    def open(self) -> "WebDatasetImages":
        """The images of this split; raises DataError where the shards are not what the recipe says."""
        return WebDatasetImages(self)


class WebDatasetImages:
    """See ``ImageSet``. Holds labels and places in memory, no pixels."""

    def __init__(self, source: WebDataset) -> None:
        self.name = source.path + (f" ({source.split})" if source.split else "")
        shards = _shards(source)
        found = [(member, label) for shard in shards for member, label in _samples(shard)]
        chosen = [found[index] for index in subset(len(found), source.limit)]
        self._members = [member for member, _ in chosen]
        self.labels = np.array([label for _, label in chosen], np.int64)
        self.classes = source.classes or _class_names(source, shards[0])
        check_labels(self.labels, self.classes, self.name)
        sizes = [len(list(same)) for _, same in groupby(self._members, key=lambda member: member.shard)]
        self.groups = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.fingerprint = _fingerprint(shards, source.limit)

    def decode(self, index: int) -> Image.Image:
        """RGB; raises DataError naming shard and member."""
        member = self._members[index]
        return decoded(read(member), f"{member.shard}, member {member.name}")


def _shards(source: WebDataset) -> list[Path]:
    if "://" in source.path:
        raise DataError(f"{source.path}: tar shards are read by byte offset from a local disk, expected a path", "path")
    root = Path(source.path)
    if root.is_dir():
        return _in_folder(root, source.split)
    if root.is_file():
        found = [root]
    else:
        found = sorted(Path(path) for pattern in _braces(source.path) for path in glob(pattern, recursive=True))
    if not found:
        raise DataError(f"no such file, folder or pattern of shards: {source.path}", "path")
    return _named_for(found, source)


def _in_folder(root: Path, split: str | None) -> list[Path]:
    if split is not None and (root / split).is_dir():
        root = root / split
        split = None
    found = sorted(path for path in root.rglob("*") if path.name.endswith((".tar", ".tar.gz", ".tgz")))
    if not found:
        raise DataError(f"the folder {root} holds no .tar shards", "path")
    return _named_for(found, WebDataset(str(root), split))


def _named_for(found: list[Path], source: WebDataset) -> list[Path]:
    """Those that bear the name of the split, which some must."""
    if source.split is None:
        return found
    named = [
        path for path in found if source.split in re.split(r"[^A-Za-z0-9]+", path.name) or source.split in path.parts
    ]
    if not named:
        message = f"{source.path} has no split '{source.split}': neither a folder nor a shard is named so"
        raise DataError(message, "split")
    return named


def _braces(pattern: str) -> Iterator[str]:
    """``{000..012}`` and ``{a,b}`` written out."""
    match = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", pattern)
    if match is None:
        yield pattern
        return
    first, last, words = match.groups()
    options = words.split(",") if words else [str(i).zfill(len(first)) for i in range(int(first), int(last) + 1)]
    for option in options:
        yield from _braces(pattern[: match.start()] + option + pattern[match.end() :])


def _samples(shard: Path) -> Iterator[tuple[Member, int]]:
    """Image and label of each sample; raises DataError naming shard and member."""
    for key, same in groupby(members(shard), key=lambda member: member.key):
        parts = {member.suffix: member for member in same}
        image = next((parts[suffix] for suffix in parts if suffix in SUFFIXES), None)
        if image is None:
            known = ", ".join(sorted(parts))
            raise DataError(f"{shard}: sample '{key}' has no image, expected jpg, png or webp, got {known}", "path")
        if "cls" not in parts and "json" not in parts:
            raise DataError(f"{shard}: sample '{key}' has no label, expected {key}.cls or {key}.json", "path")
        yield image, _label(parts.get("cls") or parts["json"])


def _label(member: Member) -> int:
    content = read(member)
    try:
        if member.suffix == "cls":
            return int(content)
        label = json.loads(content)["label"]
        if isinstance(label, int) and not isinstance(label, bool):
            return label
    except (ValueError, KeyError, TypeError):
        pass
    expected = "a whole number" if member.suffix == "cls" else '{"label": a whole number}'
    shown = content[:40].decode(errors="replace").strip()
    raise DataError(f"{member.shard}, member {member.name}: expected {expected}, got {shown!r}", "path")


def _class_names(source: WebDataset, shard: Path) -> tuple[str, ...]:
    for folder in (Path(source.path), *shard.parents[:2]):
        file = folder / "classnames.txt"
        if file.is_file():
            return tuple(line.strip() for line in file.read_text("utf-8").splitlines() if line.strip())
    message = f"{source.path} names no classes (no classnames.txt beside the shards); list them under 'classes'"
    raise DataError(message, "classes")


def _fingerprint(shards: list[Path], limit: int | None) -> str:
    """Of names, sizes and times: the bytes of a million images are not read for it."""
    files = [[str(shard), shard.stat().st_size, shard.stat().st_mtime_ns] for shard in shards]
    return hashlib.sha256(json.dumps([files, limit]).encode()).hexdigest()
