"""Parquet sets of greys: each image is of one grey, its position, which tells them apart."""

from pathlib import Path
from typing import Any

from robustcore.data import Parquet
from tests.support import coloured, write_parquet

NAMES = ("ant", "bee", "cat")


def labels(count: int) -> list[int]:
    return [index % 3 for index in range(count)]


def written(path: Path, count: int = 12, first: int = 0, **options: Any) -> Path:
    """``count`` greys from ``first`` on, labelled 0, 1, 2, 0, ..."""
    return write_parquet(path, [coloured(first + index) for index in range(count)], labels(count), **options)


def opened(path: Path, **options: Any) -> Any:
    return Parquet(str(path), **({"classes": NAMES} | options)).open()


def greys(images: Any) -> list[int]:
    """The grey of every image, which tells them apart."""
    return [images.decode(index).getpixel((0, 0))[0] for index in range(len(images.labels))]
