"""The rows of Parquet files, in one file or a folder of shards, here or on object storage; what is labelled and what is
captioned reads them alike. Images are read by row group, never whole; the small columns are held in memory.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet as pq
from PIL import Image

from robustcore.data.images import decoded, subset
from robustcore.errors import DataError

# A training batch draws from sixteen places of the epoch at once, an evaluation from one.
OPEN_GROUPS = 24


@dataclass(frozen=True)
class _Group:
    """One row group: where it is, and which of its rows belong to the set."""

    shard: int
    number: int
    first: int  # of its rows, counted in the file
    rows: np.ndarray


class ParquetRows:
    """The rows of one split, at most ``limit`` of them. Raises DataError where the files are not as described.

    ``columns`` are the small columns by the key that names each in the recipe; ``values`` has them by that key.
    """

    def __init__(self, path: str, split: str | None, limit: int | None, image: str, columns: dict[str, str]) -> None:
        self.name = path + (f" ({split})" if split else "")
        self._path, self._split, self._limit, self._image, self._columns = path, split, limit, image, columns
        self._lock = threading.Lock()
        self._open: OrderedDict[int, pa.Array] = OrderedDict()
        self._filesystem, self._root, self._shards = _shards(path, split)
        self.files = [self._file(shard) for shard in self._shards]
        self._check_columns()
        self._index()

    def decode(self, index: int) -> Image.Image:
        """RGB; raises DataError naming file and row."""
        number = int(np.searchsorted(self.groups, index, side="right")) - 1
        group, row = self._groups[number], int(index - self.groups[number])
        cell = self._cells(number)[row].as_py()
        if isinstance(cell, dict):  # Hugging Face's image feature
            cell = cell.get("bytes")
        place = f"{self._shards[group.shard].path}, row {group.first + int(group.rows[row])}"
        return decoded(cell, place, f"the image in column '{self._image}'")

    def tables(self, columns: list[str]) -> Iterator[pa.Table]:
        """``columns`` of every row group, also of other splits."""
        for shard, file in zip(self._shards, self.files, strict=True):
            for number in range(file.num_row_groups):
                yield _read(file, number, columns, shard.path)

    def fingerprint(self) -> str:
        """Of names, sizes and times: the bytes of a million images are not read for it."""
        files = [[info.path, info.size, info.mtime_ns] for info in self._shards]
        return json.dumps([files, self._split, self._limit, self._image, *self._columns.values()])

    def _cells(self, number: int) -> pa.Array:
        with self._lock:
            if number not in self._open:
                group = self._groups[number]
                file, path = self.files[group.shard], self._shards[group.shard].path
                table = _read(file, group.number, [self._image], path)
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
            raise DataError(f"{shard.path} is not a readable Parquet file ({short(error)})", "path") from None

    def _check_columns(self) -> None:
        for shard, file in zip(self._shards, self.files, strict=True):
            present = file.schema_arrow.names
            for key, wanted in {"image": self._image, **self._columns}.items():
                if wanted not in present:
                    raise DataError(
                        f"{shard.path} has no column '{wanted}', expected one with the {key.removesuffix('s')}s; "
                        f"its columns are {', '.join(present)}",
                        key,
                    )
            kind = file.schema_arrow.field(self._image).type
            if not is_encoded_image(kind):
                raise DataError(
                    f"{shard.path}: column '{self._image}' holds {kind}, expected encoded images as bytes", "image"
                )

    def _index(self) -> None:
        """Which rows belong to the set, group by group; reads the small columns only."""
        groups, tables, splits = [], [], set()
        by_column = self._split is not None and self._rows_name_splits()
        names = [*self._columns.values(), *(["split"] if by_column else [])]
        for shard, file in enumerate(self.files):
            first = 0
            for number in range(file.num_row_groups):
                table = _read(file, number, names, self._shards[shard].path)
                self._check_filled(table, self._shards[shard].path)
                chosen = np.arange(len(table))
                if by_column:
                    splits |= {str(name) for name in pc.unique(table.column("split")).to_pylist()}
                    chosen = np.flatnonzero(np.asarray(table.column("split")) == self._split)
                groups.append(_Group(shard, number, first, chosen))
                first += len(table)
                tables.append(table.select(list(self._columns.values())).take(pa.array(chosen)))
        if by_column and self._split not in splits:
            raise DataError(
                f"{self._path} has no split '{self._split}', expected one of: {', '.join(sorted(splits))}", "split"
            )
        self._take(groups, tables)

    def _check_filled(self, table: pa.Table, path: str) -> None:
        for key, column in self._columns.items():
            if table.column(column).null_count:
                raise DataError(f"{path} has rows without {'a ' if key == 'label' else ''}{key}", key)

    def _rows_name_splits(self) -> bool:
        """Whether a column says which split a row is of; it must, where the names of the files do not."""
        lacking = [
            shard.path
            for shard, file in zip(self._shards, self.files, strict=True)
            if "split" not in file.schema_arrow.names
        ]
        if lacking and not all(_is_named_for(shard, self._root, self._split) for shard in self._shards):
            raise DataError(
                f"{self._path} has no split '{self._split}': {lacking[0]} has no column 'split', nor is it named so",
                "split",
            )
        return not lacking

    def _take(self, groups: list[_Group], tables: list[pa.Table]) -> None:
        """Keep the rows that ``limit`` leaves, and drop the groups it empties."""
        count = sum(map(len, tables))
        kept = np.zeros(count, bool)
        kept[subset(count, self._limit)] = True
        starts = np.concatenate([[0], np.cumsum([len(table) for table in tables])]).astype(np.int64)
        self._groups = []
        sizes = []
        for group, start in zip(groups, starts, strict=False):
            mask = kept[start : start + len(group.rows)]
            if mask.any():
                self._groups.append(replace(group, rows=group.rows[mask]))
                sizes.append(int(mask.sum()))
        self.groups = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        chosen = self._together(tables).take(pa.array(np.flatnonzero(kept))) if tables else None
        self.values: dict[str, pa.ChunkedArray | None] = {
            key: None if chosen is None else chosen.column(column) for key, column in self._columns.items()
        }

    def _together(self, tables: list[pa.Table]) -> pa.Table:
        try:
            return pa.concat_tables(tables, promote_options="permissive")
        except pa.ArrowException as error:
            key = next(iter(self._columns))
            raise DataError(f"the files of {self._path} disagree on their columns ({short(error)})", key) from None


def is_encoded_image(kind: pa.DataType) -> bool:
    """Bytes, or Hugging Face's image feature: a struct with ``bytes``."""
    is_struct = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    return bool(is_struct or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def short(error: Exception) -> str:
    """The first line of what went wrong."""
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def _shards(path: str, split: str | None) -> tuple[pyarrow.fs.FileSystem, PurePosixPath, list[pyarrow.fs.FileInfo]]:
    """The files of the set, and the folder that they are in."""
    try:
        if "://" in path:
            filesystem, place = pyarrow.fs.FileSystem.from_uri(path)
        else:
            filesystem, place = pyarrow.fs.LocalFileSystem(), path
        info = filesystem.get_file_info(place)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"cannot reach {path} ({short(error)})", "path") from None
    if info.type == pyarrow.fs.FileType.NotFound:
        raise DataError(f"no such file or folder: {path}", "path")
    if info.type == pyarrow.fs.FileType.File:
        return filesystem, PurePosixPath(place).parent, [info]
    shards = [
        entry
        for entry in filesystem.get_file_info(pyarrow.fs.FileSelector(place, recursive=True))
        if entry.type == pyarrow.fs.FileType.File and entry.path.endswith(".parquet")
    ]
    if not shards:
        raise DataError(f"the folder {path} holds no .parquet files", "path")
    root, shards = PurePosixPath(place), sorted(shards, key=lambda entry: entry.path)
    return filesystem, root, [shard for shard in shards if _is_named_for(shard, root, split)] or shards


def _is_named_for(shard: pyarrow.fs.FileInfo, root: PurePosixPath, split: str | None) -> bool:
    """Hugging Face has ``train-00000-of-00002.parquet``, ``train.parquet`` or ``train/0000.parquet``."""
    *folders, name = PurePosixPath(shard.path).relative_to(root).parts
    return split is not None and (split in folders or name.startswith((f"{split}-", f"{split}.")))


def _read(file: pq.ParquetFile, number: int, columns: list[str], path: str) -> pa.Table:
    try:
        return file.read_row_group(number, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: row group {number} is damaged ({short(error)})", "path") from None
