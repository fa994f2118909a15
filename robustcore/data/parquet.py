"""Labelled images in Parquet, a file or a folder of shards, here or on object storage; read by row group, never whole.

Columns: ``image`` (PNG or JPEG bytes, or the Hugging Face struct with ``bytes``), ``label`` (integer), and where one
file holds several splits, ``split``. Class names come from the recipe, the schema's metadata, or ``label_name``.
"""

import io
import json
import threading
from collections import OrderedDict
from dataclasses import dataclass as plain_dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet as pq
from PIL import Image
from pydantic.dataclasses import dataclass

from robustcore.data.images import as_rgb, check_labels, subset
from robustcore.errors import DataError
from robustcore.types import STRICT, DataPath, PositiveCount

# A training batch draws from sixteen places of the epoch at once, an evaluation from one.
OPEN_GROUPS = 24


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


@plain_dataclass(frozen=True)
class _Group:
    """One row group: where it is, and which of its rows belong to the set."""

    shard: int
    number: int
    rows: np.ndarray


class ParquetImages:
    """See ``ImageSet``. Holds labels and a few row groups in memory, whatever the size of the set."""

    def __init__(self, source: Parquet) -> None:
        self.name = f"{source.path}" + (f" ({source.split})" if source.split else "")
        self._source = source
        self._lock = threading.Lock()
        self._open: OrderedDict[int, pa.Array] = OrderedDict()
        self._filesystem, self._root, self._shards = _shards(source)
        self._files = [self._file(shard) for shard in self._shards]
        self._check_columns()
        self._index()
        self.classes = self._class_names()
        check_labels(self.labels, self.classes, self.name, "label")
        self.fingerprint = self._fingerprint()

    def decode(self, index: int) -> Image.Image:
        """RGB; raises DataError naming file and row."""
        number = int(np.searchsorted(self.groups, index, side="right")) - 1
        group, row = self._groups[number], index - self.groups[number]
        cell = self._cells(number)[int(row)].as_py()
        if isinstance(cell, dict):  # Hugging Face's image feature
            cell = cell.get("bytes")
        try:
            return as_rgb(Image.open(io.BytesIO(cell)))
        except Exception as error:  # PIL raises a dozen kinds for a damaged file
            place = f"{self._shards[group.shard].path}, row {self._row_in_file(group, int(row))}"
            raise DataError(
                f"{place}: cannot decode the image in column '{self._source.image}' ({error})", "path"
            ) from None

    def _row_in_file(self, group: _Group, row: int) -> int:
        metadata = self._files[group.shard].metadata
        before: int = sum(metadata.row_group(i).num_rows for i in range(group.number))
        return before + int(group.rows[row])

    def _cells(self, number: int) -> pa.Array:
        with self._lock:
            if number not in self._open:
                group = self._groups[number]
                file, path = self._files[group.shard], self._shards[group.shard].path
                table = _read(file, group.number, [self._source.image], path)
                column = table.column(0).take(pa.array(group.rows))
                self._open[number] = column.combine_chunks()
            self._open.move_to_end(number)
            while len(self._open) > OPEN_GROUPS:
                self._open.popitem(last=False)
            return self._open[number]

    def _file(self, shard: pyarrow.fs.FileInfo) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self._filesystem.open_input_file(shard.path))
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{shard.path} is not a readable Parquet file ({_short(error)})", "path") from None

    def _check_columns(self) -> None:
        for shard, file in zip(self._shards, self._files, strict=True):
            present = file.schema_arrow.names
            for key in ("image", "label"):
                wanted = getattr(self._source, key)
                if wanted not in present:
                    raise DataError(
                        f"{shard.path} has no column '{wanted}', expected one with the {key}s; its columns are "
                        f"{', '.join(present)}",
                        key,
                    )
            kind = file.schema_arrow.field(self._source.label).type
            if not pa.types.is_integer(kind):
                raise DataError(f"{shard.path}: column '{self._source.label}' holds {kind}, expected integers", "label")
            kind = file.schema_arrow.field(self._source.image).type
            if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or _is_image_struct(kind)):
                raise DataError(
                    f"{shard.path}: column '{self._source.image}' holds {kind}, expected encoded images as bytes",
                    "image",
                )

    def _index(self) -> None:
        """Which rows belong to the set, group by group; reads the two small columns only."""
        source, groups, labels, splits = self._source, [], [], set()
        by_column = source.split is not None and self._rows_name_splits()
        names = [source.label, "split"] if by_column else [source.label]
        for shard, file in enumerate(self._files):
            for number in range(file.num_row_groups):
                table = _read(file, number, names, self._shards[shard].path)
                column = table.column(source.label)
                if column.null_count:
                    raise DataError(f"{self._shards[shard].path} has rows without a label", "label")
                chosen = np.arange(len(table))
                if by_column:
                    splits |= {str(name) for name in pc.unique(table.column("split")).to_pylist()}
                    chosen = np.flatnonzero(np.asarray(table.column("split")) == source.split)
                groups.append(_Group(shard, number, chosen))
                labels.append(np.asarray(column, np.int64)[chosen])
        if by_column and source.split not in splits:
            raise DataError(
                f"{source.path} has no split '{source.split}', expected one of: {', '.join(sorted(splits))}",
                "split",
            )
        self._take(groups, labels)

    def _rows_name_splits(self) -> bool:
        """Whether a column says which split a row is of; it must, where the names of the files do not."""
        source = self._source
        lacking = [
            shard.path
            for shard, file in zip(self._shards, self._files, strict=True)
            if "split" not in file.schema_arrow.names
        ]
        if lacking and not all(_is_named_for(shard, self._root, source.split) for shard in self._shards):
            raise DataError(
                f"{source.path} has no split '{source.split}': {lacking[0]} has no column 'split', nor is it named so",
                "split",
            )
        return not lacking

    def _take(self, groups: list[_Group], labels: list[np.ndarray]) -> None:
        """Keep the rows that ``limit`` leaves, and drop the groups it empties."""
        count = sum(map(len, labels))
        kept = np.zeros(count, bool)
        kept[subset(count, self._source.limit)] = True
        starts = np.concatenate([[0], np.cumsum([len(part) for part in labels])]).astype(np.int64)
        self._groups = []
        sizes, chosen = [], []
        for group, part, start in zip(groups, labels, starts, strict=False):
            mask = kept[start : start + len(part)]
            if mask.any():
                self._groups.append(_Group(group.shard, group.number, group.rows[mask]))
                sizes.append(int(mask.sum()))
                chosen.append(part[mask])
        self.labels = np.concatenate(chosen) if chosen else np.empty(0, np.int64)
        self.groups = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def _class_names(self) -> tuple[str, ...]:
        if self._source.classes is not None:
            return self._source.classes
        schema = self._files[0].schema_arrow
        names = _names_in_metadata(schema.metadata or {}, self._source.label)
        if names is None and all("label_name" in file.schema_arrow.names for file in self._files):
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
        for shard, file in zip(self._shards, self._files, strict=True):
            for number in range(file.num_row_groups):
                table = _read(file, number, [self._source.label, "label_name"], shard.path)
                pairs = table.group_by([self._source.label, "label_name"]).aggregate([])
                found.update(zip(*(pairs.column(i).to_pylist() for i in range(2)), strict=True))
        names = [name for label, name in sorted(found.items()) if isinstance(name, str)]
        return names if sorted(found) == list(range(len(names))) else None

    def _fingerprint(self) -> str:
        files = [[info.path, info.size, info.mtime_ns] for info in self._shards]
        source = self._source
        return json.dumps([files, source.split, source.limit, source.image, source.label])


def _shards(source: Parquet) -> tuple[pyarrow.fs.FileSystem, PurePosixPath, list[pyarrow.fs.FileInfo]]:
    """The files of the set, and the folder that they are in."""
    try:
        if "://" in source.path:
            filesystem, path = pyarrow.fs.FileSystem.from_uri(source.path)
        else:
            filesystem, path = pyarrow.fs.LocalFileSystem(), source.path
        info = filesystem.get_file_info(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"cannot reach {source.path} ({_short(error)})", "path") from None
    if info.type == pyarrow.fs.FileType.NotFound:
        raise DataError(f"no such file or folder: {source.path}", "path")
    if info.type == pyarrow.fs.FileType.File:
        return filesystem, PurePosixPath(path).parent, [info]
    shards = [
        entry
        for entry in filesystem.get_file_info(pyarrow.fs.FileSelector(path, recursive=True))
        if entry.type == pyarrow.fs.FileType.File and entry.path.endswith(".parquet")
    ]
    if not shards:
        raise DataError(f"the folder {source.path} holds no .parquet files", "path")
    root, shards = PurePosixPath(path), sorted(shards, key=lambda entry: entry.path)
    return filesystem, root, [shard for shard in shards if _is_named_for(shard, root, source.split)] or shards


def _is_named_for(shard: pyarrow.fs.FileInfo, root: PurePosixPath, split: str | None) -> bool:
    """Hugging Face has ``train-00000-of-00002.parquet``, ``train.parquet`` or ``train/0000.parquet``."""
    *folders, name = PurePosixPath(shard.path).relative_to(root).parts
    return split is not None and (split in folders or name.startswith((f"{split}-", f"{split}.")))


def _read(file: pq.ParquetFile, number: int, columns: list[str], path: str) -> pa.Table:
    try:
        return file.read_row_group(number, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: row group {number} is damaged ({_short(error)})", "path") from None


def _names_in_metadata(metadata: dict[bytes, bytes], label: str) -> list[str] | None:
    try:
        if b"class_names" in metadata:
            return [str(name) for name in json.loads(metadata[b"class_names"])]
        features: Any = json.loads(metadata[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[label]["names"]]
    except (KeyError, TypeError, ValueError):
        return None


def _is_image_struct(kind: pa.DataType) -> bool:
    return bool(pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0)


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
