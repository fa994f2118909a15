"""Folders of Hugging Face's ``datasets``, in the layout of its ``save_to_disk``; and what each mistake says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from robustcore.data import HuggingFace
from robustcore.errors import DataError
from tests.robustcore.greys import NAMES, greys
from tests.support import coloured

FEATURES = {"image": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}
STRUCT = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def saved(
    folder: Path,
    counts: tuple[int, ...] = (3, 2),
    batch: int = 2,
    cells: list[Any] | None = None,
    labels: Any = None,
    features: dict[str, Any] = FEATURES,
    names: tuple[str, str] = ("image", "label"),
    **state: Any,
) -> Path:
    """A file for each count, in record batches; greys in order, labelled 0, 1, 2, 0, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(counts)
    cells = cells or [{"bytes": coloured(index), "path": None} for index in range(total)]
    kind = STRUCT if isinstance(cells[0], dict) else None
    labels = [index % 3 for index in range(total)] if labels is None else labels
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    table = pa.table(dict(zip(names, (pa.array(cells, kind), labels), strict=True))).replace_schema_metadata(metadata)
    files = [f"data-{number:05}-of-{len(counts):05}.arrow" for number in range(len(counts))]
    first = 0
    for file, count in zip(files, counts, strict=True):
        with pa.OSFile(str(folder / file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table.slice(first, count), max_chunksize=batch)
        first += count
    content = {"_data_files": [{"filename": file} for file in files], "_split": None, **state}
    (folder / "state.json").write_text(json.dumps(content))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def saved_splits(root: Path) -> Path:
    saved(root / "train", (4,))
    saved(root / "test", (2, 1))
    (root / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    return root


def opened(path: Path, **options: Any) -> Any:
    return HuggingFace(str(path), **options).open()


def test_files_are_read_in_the_order_of_the_state_with_the_names_of_the_feature(tmp_path: Path) -> None:
    images = opened(saved(tmp_path))
    assert greys(images) == [0, 1, 2, 3, 4]
    assert images.labels.tolist() == [0, 1, 2, 0, 1]
    assert images.labels.dtype == np.int64
    assert images.groups.tolist() == [0, 2, 3, 5]
    assert images.classes == NAMES


def test_a_split_is_one_of_the_dictionary_or_the_one_that_was_saved(tmp_path: Path) -> None:
    saved_splits(tmp_path / "dict")
    assert len(opened(tmp_path / "dict", split="train").labels) == 4
    assert len(opened(tmp_path / "dict", split="test").labels) == 3
    assert len(opened(saved(tmp_path / "one", _split="test"), split="test").labels) == 5


def test_images_may_be_bare_bytes_and_columns_and_classes_of_other_names(tmp_path: Path) -> None:
    saved(tmp_path, (3,), cells=[coloured(index) for index in range(3)], names=("img", "fine"), features={})
    images = opened(tmp_path, image="img", label="fine", classes=("x", "y", "z"))
    assert greys(images) == [0, 1, 2]
    assert images.classes == ("x", "y", "z")


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_a_limit_takes_the_same_images_every_time_with_their_own_labels(limit: int, tmp_path: Path) -> None:
    images = opened(saved(tmp_path), limit=limit)
    chosen = greys(images)
    assert chosen == greys(opened(tmp_path, limit=limit)) == sorted(chosen)
    assert len(chosen) == min(limit, 5)
    assert images.labels.tolist() == [grey % 3 for grey in chosen]
    assert images.groups[-1] == len(chosen)
    assert (np.diff(images.groups) > 0).all()


def test_the_fingerprint_changes_with_a_file(tmp_path: Path) -> None:
    before = opened(saved(tmp_path)).fingerprint
    assert opened(saved(tmp_path, batch=1)).fingerprint != before


def cut(folder: Path, less: int) -> Path:
    file = folder / "data-00001-of-00002.arrow"
    file.write_bytes(file.read_bytes()[:-less])
    return folder


def without(folder: Path, name: str) -> Path:
    (folder / name).unlink()
    return folder


def broken(folder: Path) -> Path:
    (folder / "state.json").write_text("{")
    return folder


# How the folder is made and opened; the key that is wrong; what the sentence says.
MISTAKES: dict[str, tuple[Callable[[Path], Path], dict[str, Any], str, str]] = {
    "missing": (lambda root: root / "nothing", {}, "path", "no such folder: .*nothing$"),
    "not saved": (lambda root: root, {}, "path", r"was not written by save_to_disk: it has no state\.json$"),
    "no split": (saved_splits, {}, "split", "holds several splits, expected one of: train, test$"),
    "unknown split": (saved_splits, {"split": "val"}, "split", "no split 'val', expected one of: train, test$"),
    "another split": (lambda root: saved(root, _split="train"), {"split": "test"}, "split", "it holds train$"),
    "damaged state": (lambda root: broken(saved(root)), {}, "path", r"state\.json is not readable JSON"),
    "a missing file": (
        lambda root: without(saved(root), "data-00001-of-00002.arrow"),
        {},
        "path",
        r"is not whole: data-00001-of-00002\.arrow is missing$",
    ),
    "cut off": (lambda root: cut(saved(root), 100), {}, "path", r"data-00001-of-00002\.arrow is cut off"),
    "cut between batches": (lambda root: cut(saved(root), 8), {}, "path", r"data-00001-of-00002\.arrow is cut off"),
    "rows in another order": (
        lambda root: saved(root, _indices_data_files=[{"filename": "indices.arrow"}]),
        {},
        "path",
        r"expected a set saved after flatten_indices\(\)$",
    ),
    "other columns": (
        lambda root: saved(root, names=("img", "fine_label")),
        {},
        "image",
        "has no column 'image', .* its columns are img, fine_label; did you mean 'img'?",
    ),
    "another label": (
        lambda root: saved(root, names=("image", "fine_label")),
        {},
        "label",
        "no column 'label', expected one with the labels; .*; did you mean 'fine_label'?",
    ),
    "labels of text": (lambda root: saved(root, labels=["a"] * 5), {}, "label", "holds string, expected integers$"),
    "images of text": (lambda root: saved(root, cells=["a"] * 5), {}, "image", "holds string, expected encoded"),
    "a row without a label": (lambda root: saved(root, labels=[0, None, 1, 1, 1]), {}, "label", "without a label$"),
    "no names": (lambda root: saved(root, features={}), {}, "classes", "names no classes; list them under 'classes'$"),
    "a label beyond the classes": (lambda root: saved(root, labels=[9] * 5), {}, "label", "image 0 has label 9"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_about_its_key(mistake: str, tmp_path: Path) -> None:
    make, options, key, sentence = MISTAKES[mistake]
    with pytest.raises(DataError, match=sentence) as caught:
        opened(make(tmp_path), **options)
    assert "\n" not in str(caught.value)
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ({"bytes": b"nothing", "path": "x.png"}, r"row 1: cannot decode the image in column 'image'"),
        ({"bytes": None, "path": "x.png"}, r"row 1: the image is not in the file, which only names x\.png$"),
        (None, r"row 1: cannot decode"),
    ],
)
def test_a_corrupt_image_is_named_by_its_file_and_row(cell: Any, sentence: str, tmp_path: Path) -> None:
    cells = [{"bytes": coloured(index), "path": None} for index in range(5)]
    cells[4] = cell  # the second row of the second file
    images = opened(saved(tmp_path, cells=cells))
    with pytest.raises(DataError, match=rf"data-00001-of-00002\.arrow, {sentence}") as caught:
        images.decode(4)
    assert "\n" not in str(caught.value)
    assert images.decode(3).size == (4, 4)
