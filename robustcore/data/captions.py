"""Captioned images for retrieval: several captions an image. Not part of ``Data``, whose images have one label each."""

from typing import Literal, Protocol

import numpy as np
import pyarrow as pa
from PIL import Image
from pydantic.dataclasses import dataclass

from robustcore.data.rows import ParquetRows
from robustcore.errors import DataError
from robustcore.types import STRICT, DataPath, PositiveCount


class CaptionSet(Protocol):
    """N captioned images in storage order."""

    @property
    def name(self) -> str:
        """Where it comes from, for messages."""
        ...

    @property
    def captions(self) -> tuple[tuple[str, ...], ...]:
        """Of each of the N images at least one; images may have different numbers of them."""
        ...

    @property
    def groups(self) -> np.ndarray:
        """(G + 1,) int64: images groups[g]:groups[g + 1] are stored, and cheap to read, together."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes when the images or the captions change."""
        ...

    def decode(self, index: int) -> Image.Image:
        """The image at ``index`` in RGB; raises DataError naming its row where it cannot be decoded."""
        ...


@dataclass(frozen=True, config=STRICT)
class ParquetCaptions:
    """Parquet files as of ``Parquet``, with a list of texts (or one text) in the column ``captions``."""

    path: DataPath
    split: str | None = None
    limit: PositiveCount | None = None  # the same images in every run
    image: str = "image"
    captions: str = "captions"
    kind: Literal["captions"] = "captions"

    def open(self) -> "CaptionedRows":
        """The images of this split; raises DataError where the file is not what the recipe says."""
        return CaptionedRows(self)


class CaptionedRows:
    """See ``CaptionSet``."""

    def __init__(self, source: ParquetCaptions) -> None:
        rows = ParquetRows(source.path, source.split, source.limit, source.image, {"captions": source.captions})
        self._rows = rows
        self.name, self.groups, self.fingerprint = rows.name, rows.groups, rows.fingerprint()
        self.captions = tuple(_texts(rows.values["captions"], f"{rows.name}: column '{source.captions}'"))
        if not self.captions:
            raise DataError(f"{rows.name} has no images", "path")

    def decode(self, index: int) -> Image.Image:
        """RGB; raises DataError naming file and row."""
        return self._rows.decode(index)


# A union of one, so that a second way to store captions is one word.
Captions = ParquetCaptions


def _texts(column: pa.ChunkedArray | None, place: str) -> list[tuple[str, ...]]:
    if column is None:
        return []
    kind = column.type
    if _is_text(kind):
        column = pa.chunked_array([pa.array([[text] for text in column.to_pylist()], pa.list_(pa.string()))])
    elif not ((pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _is_text(kind.value_type)):
        raise DataError(f"{place} holds {kind}, expected lists of texts", "captions")
    captions = [tuple(text for text in texts if text and text.strip()) for texts in column.to_pylist()]
    if () in captions:
        raise DataError(f"{place}: image {captions.index(())} has no caption", "captions")
    return captions


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
