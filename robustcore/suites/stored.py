"""A data source from a path alone: what kind of files lie there, and which split of them is to evaluate on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from robustcore.data import Data, Folder, HuggingFace, Parquet, WebDataset
from robustcore.errors import DataError

TO_EVALUATE = ("test", "val", "validation", "valid")


def stored_at(path: str, limit: int | None = None) -> Data:
    """The images at ``path``: of its test or validation split where it has one, at most ``limit`` of them.

    Parquet, tar shards, a Hugging Face folder, or a folder of images by class. Raises DataError where there is nothing
    of the kind.
    """
    place = Path(path)
    if not place.exists():
        raise DataError(f"no such file or folder: {path}", "path")
    source = _kind(place)
    for split in TO_EVALUATE:
        try:
            replace(source, split=split).open()
        except DataError as error:
            if error.key == "split":
                continue
            raise
        source = replace(source, split=split)
        break
    found: Data = replace(source, limit=limit)
    found.open()
    return found


def _kind(place: Path) -> Any:
    if place.suffix == ".tar" or _holds(place, ".tar"):
        return WebDataset(str(place))
    if (place / "dataset_dict.json").is_file() or (place / "state.json").is_file():
        return HuggingFace(str(place))
    if place.is_file() or _holds(place, ".parquet"):
        return Parquet(str(place))
    return Folder(str(place))


def _holds(place: Path, suffix: str) -> bool:
    return place.is_dir() and any(next(place.glob(f"{pattern}{suffix}"), None) for pattern in ("*", "*/*"))
