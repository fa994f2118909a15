"""Labelled images in a folder, one sub-folder a class; class names are the folders' names, sorted."""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from pydantic.dataclasses import dataclass

from robustcore.data.images import as_rgb, check_labels, subset
from robustcore.errors import DataError
from robustcore.types import STRICT, DataPath, PositiveCount

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
GROUP = 1000  # images that a reader takes from the same neighbourhood


@dataclass(frozen=True, config=STRICT)
class Folder:
    """``path/class/image.png``, or ``path/split/class/image.png`` where a split is named."""

    path: DataPath
    split: str | None = None
    limit: PositiveCount | None = None
    classes: tuple[str, ...] | None = None  # nicer names, in the folders' sorted order
    kind: Literal["folder"] = "folder"

    def open(self) -> "FolderImages":
        """The images of this split; raises DataError where the folder is not what the recipe says."""
        return FolderImages(self)


class FolderImages:
    """See ``ImageSet``."""

    def __init__(self, source: Folder) -> None:
        root = Path(source.path) / (source.split or "")
        if not root.is_dir():
            raise DataError(f"no such folder: {root}", "split" if Path(source.path).is_dir() else "path")
        folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        if source.classes is not None and len(source.classes) != len(folders):
            raise DataError(
                f"{root} has {len(folders)} class folders, expected {len(source.classes)} as listed",
                "classes",
            )
        found = [(path, label) for label, folder in enumerate(folders) for path in _images(folder)]
        chosen = [found[index] for index in subset(len(found), source.limit)]
        self.name = str(root)
        self.classes = source.classes or tuple(folder.name for folder in folders)
        self.labels = np.array([label for _, label in chosen], np.int64)
        self._paths = [path for path, _ in chosen]
        check_labels(self.labels, self.classes, f"the folder {root}")

    @cached_property
    def groups(self) -> np.ndarray:
        """Files have no natural groups; the reader's neighbourhoods stand in."""
        return np.append(np.arange(0, len(self._paths), GROUP), len(self._paths))

    @cached_property
    def fingerprint(self) -> str:
        """Of names, sizes and times: the bytes of a million images are not read for it."""
        digest = hashlib.sha256()
        for path in self._paths:
            status = path.stat()
            digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def decode(self, index: int) -> Image.Image:
        """RGB; raises DataError naming the file."""
        try:
            with Image.open(self._paths[index]) as image:
                return as_rgb(image)
        except Exception as error:  # PIL raises a dozen kinds for a damaged file
            raise DataError(f"{self._paths[index]}: cannot decode the image ({error})", "path") from None


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
