"""Labelled images in Parquet, a file or a folder of shards, here or on object storage; read by row group, never whole.

Columns: ``image`` (PNG or JPEG bytes, or the Hugging Face struct with ``bytes``), ``label`` (integer), and where one
file holds several splits, ``split``. Class names come from the recipe, the schema's metadata, or ``label_name``.
"""

import json
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from PIL import Image
from pydantic.dataclasses import dataclass

from robustcore.data.images import check_labels
from robustcore.data.rows import ParquetRows
from robustcore.errors import DataError
from robustcore.types import STRICT, DataPath, PositiveCount


@dataclass(frozen=True, config=STRICT)
class Parquet:
    """Where the images are and which of them to take."""

    path: DataPath
    split: str | None = None
    limit: PositiveCount | None = None  # the same images in every run
    image: str = "image"
    label: str = "label"
    classes: tuple[str, ...] | None = None
    kind: Literal["parquet"] = "parquet"

    def open(self) -> "ParquetImages":
        """The images of this split; raises DataError where the file is not what the recipe says."""
        return ParquetImages(self)


class ParquetImages:
    """See ``ImageSet``. Holds labels and a few row groups in memory, whatever the size of the set."""

    def __init__(self, source: Parquet) -> None:
        self._source = source
        self._rows = ParquetRows(source.path, source.split, source.limit, source.image, {"label": source.label})
        self.name, self.groups = self._rows.name, self._rows.groups
        self.labels = self._labels()
        self.classes = self._class_names()
        check_labels(self.labels, self.classes, self.name, "label")
        self.fingerprint = self._rows.fingerprint()

    def decode(self, index: int) -> Image.Image:
        """RGB; raises DataError naming file and row."""
        return self._rows.decode(index)

    def _labels(self) -> np.ndarray:
        column = self._rows.values["label"]
        if column is None:
            return np.empty(0, np.int64)
        if not pa.types.is_integer(column.type):
            name = self._source.label
            raise DataError(f"{self._source.path}: column '{name}' holds {column.type}, expected integers", "label")
        return np.asarray(column).astype(np.int64)  # a copy: torch warns of arrays that it may not write to

    def _class_names(self) -> tuple[str, ...]:
        if self._source.classes is not None:
            return self._source.classes
        schemas = [file.schema_arrow for file in self._rows.files]
        names = names_in_metadata(schemas[0].metadata or {}, self._source.label)
        if names is None and all("label_name" in schema.names for schema in schemas):
            names = self._names_by_label()
        if names is None:
            raise DataError(
                f"{self._source.path} names no classes (no class_names in its metadata, no column 'label_name'); "
                "list them under 'classes'",
                "classes",
            )
        return tuple(names)

    def _names_by_label(self) -> list[str] | None:
        found: dict[int, str | None] = {}
        for table in self._rows.tables([self._source.label, "label_name"]):
            pairs = table.group_by([self._source.label, "label_name"]).aggregate([])
            found.update(zip(*(pairs.column(i).to_pylist() for i in range(2)), strict=True))
        names = [name for label, name in sorted(found.items()) if isinstance(name, str)]
        return names if sorted(found) == list(range(len(names))) else None


def names_in_metadata(metadata: dict[bytes, bytes], label: str) -> list[str] | None:
    """The class names in a schema's metadata, ours or those of Hugging Face's feature of the column ``label``."""
    try:
        if b"class_names" in metadata:
            return [str(name) for name in json.loads(metadata[b"class_names"])]
        features: Any = json.loads(metadata[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[label]["names"]]
    except (KeyError, TypeError, ValueError):
        return None
