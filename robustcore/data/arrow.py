"""Labelled images in a folder that Hugging Face's ``datasets`` wrote with ``save_to_disk``; read with pyarrow alone.

Arrow files are memory-mapped: a set of any size opens at once, and pixels are read where they are asked for.
"""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from PIL import Image
from pydantic.dataclasses import dataclass

from robustcore.data.images import check_labels, decoded, subset
from robustcore.data.parquet import names_in_metadata
from robustcore.data.rows import is_encoded_image, short
from robustcore.errors import DataError
from robustcore.types import STRICT, DataPath, PositiveCount

END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
USUAL = {
    "image": ("image", "img", "images", "jpg", "png", "webp", "picture"),
    "label": ("label", "labels", "fine_label", "cls", "target", "class", "coarse_label"),
}


@dataclass(frozen=True, config=STRICT)
class HuggingFace:
    """A saved ``Dataset``, or a saved ``DatasetDict`` with a ``split``."""

    path: DataPath
    split: str | None = None
    limit: PositiveCount | None = None  # the same images in every run
    image: str = "image"
    label: str = "label"
    classes: tuple[str, ...] | None = None
    kind: Literal["huggingface"] = "huggingface"

    def open(self) -> "ArrowImages":
        """The images of this split; raises DataError where the folder is not what the recipe says."""
        return ArrowImages(self)


class ArrowImages:
    """See ``ImageSet``."""

    def __init__(self, source: HuggingFace) -> None:
        self.name = source.path + (f" ({source.split})" if source.split else "")
        self._source = source
        folder = _folder(source)
        self._files = _data_files(folder)
        tables = [_table(file) for file in self._files]
        for file, table in zip(self._files, tables, strict=True):
            self._check_columns(file, table.schema)
        self._images = pa.chunked_array([chunk for table in tables for chunk in table.column(source.image).chunks])
        self._starts = np.concatenate([[0], np.cumsum([len(table) for table in tables])]).astype(np.int64)
        labels = np.concatenate([_labels(table, source.label, self.name) for table in tables])
        self._chosen = subset(len(labels), source.limit)
        self.labels = labels[self._chosen]
        self.classes = source.classes or self._class_names(tables[0].schema)
        check_labels(self.labels, self.classes, self.name, "label")
        batches = np.concatenate([[0], np.cumsum([len(chunk) for chunk in self._images.chunks])]).astype(np.int64)
        self.groups = np.unique(np.searchsorted(self._chosen, batches))
        self.fingerprint = self._fingerprint()

    def decode(self, index: int) -> Image.Image:
        """RGB; raises DataError naming file and row."""
        position = int(self._chosen[index])
        number = int(np.searchsorted(self._starts, position, side="right")) - 1
        place = f"{self._files[number]}, row {position - self._starts[number]}"
        cell = self._images[position].as_py()
        if isinstance(cell, dict):
            if cell.get("bytes") is None and cell.get("path"):
                raise DataError(f"{place}: the image is not in the file, which only names {cell['path']}", "path")
            cell = cell.get("bytes")
        return decoded(cell, place, f"the image in column '{self._source.image}'")

    def _check_columns(self, file: Path, schema: pa.Schema) -> None:
        for key in ("image", "label"):
            wanted = getattr(self._source, key)
            if wanted not in schema.names:
                near = next((name for name in USUAL[key] if name in schema.names), None)
                maybe = f"; did you mean '{near}'?" if near else ""
                columns = ", ".join(schema.names)
                message = f"{file} has no column '{wanted}', expected one with the {key}s; its columns are {columns}"
                raise DataError(f"{message}{maybe}", key)
        kind = schema.field(self._source.label).type
        if not pa.types.is_integer(kind):
            raise DataError(f"{file}: column '{self._source.label}' holds {kind}, expected integers", "label")
        kind = schema.field(self._source.image).type
        if not is_encoded_image(kind):
            message = f"{file}: column '{self._source.image}' holds {kind}, expected encoded images as bytes"
            raise DataError(message, "image")

    def _class_names(self, schema: pa.Schema) -> tuple[str, ...]:
        names = names_in_metadata(schema.metadata or {}, self._source.label)
        if names is None:
            message = f"{self._source.path}: the feature '{self._source.label}' names no classes"
            raise DataError(f"{message}; list them under 'classes'", "classes")
        return tuple(names)

    def _fingerprint(self) -> str:
        files = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in self._files]
        source = self._source
        return json.dumps([files, source.limit, source.image, source.label])


def _folder(source: HuggingFace) -> Path:
    """The folder of the split."""
    root = Path(source.path)
    if not root.is_dir():
        raise DataError(f"no such folder: {root}", "path")
    if (root / "dataset_dict.json").is_file():
        splits = [str(name) for name in _read_json(root / "dataset_dict.json").get("splits", [])]
        if source.split not in splits:
            given = f"has no split '{source.split}'" if source.split else "holds several splits"
            raise DataError(f"{root} {given}, expected one of: {', '.join(splits)}", "split")
        return root / str(source.split)
    if not (root / "state.json").is_file():
        hint = ""
        if any(root.rglob("*.parquet")):
            hint = "; it holds Parquet files: use kind: parquet"
        raise DataError(f"{root} was not written by save_to_disk: it has no state.json{hint}", "path")
    saved = _read_json(root / "state.json").get("_split")
    if source.split is not None and saved != source.split:
        raise DataError(f"{root} has no split '{source.split}', it holds {saved or 'one set without a name'}", "split")
    return root


def _data_files(folder: Path) -> list[Path]:
    state = _read_json(folder / "state.json")
    # Releases before 2022 kept the order of a shuffled or filtered set apart from its rows.
    if state.get("_indices_data_files"):
        message = f"{folder} keeps its rows and their order apart; expected a set saved after flatten_indices()"
        raise DataError(message, "path")
    files = [folder / Path(str(entry["filename"])).name for entry in state.get("_data_files", [])]
    if not files:
        raise DataError(f"{folder / 'state.json'} names no data files", "path")
    for file in files:
        if not file.is_file():
            raise DataError(f"{folder} is not whole: {file.name} is missing", "path")
    return files


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not readable JSON ({short(error)})", "path") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no mapping", "path")
    return content


def _table(file: Path) -> pa.Table:
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - len(END)))
        if stream.read() != END:  # pyarrow takes a stream that is cut off between two batches for a short one
            raise DataError(f"{file} is cut off: it lacks the end mark of an Arrow stream", "path")
    try:
        return pa.ipc.open_stream(pa.memory_map(str(file))).read_all()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} is not a whole Arrow file ({short(error)})", "path") from None


def _labels(table: pa.Table, column: str, name: str) -> np.ndarray:
    labels = table.column(column)
    if labels.null_count:
        raise DataError(f"{name} has rows without a label", "label")
    return np.asarray(labels, np.int64)
