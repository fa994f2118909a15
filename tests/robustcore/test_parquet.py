"""Parquet sets: files, shards, splits, names and limits; and what each mistake says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from robustcore.data import Parquet
from robustcore.errors import DataError
from tests.robustcore.greys import NAMES, greys, labels, opened, written
from tests.support import coloured, write_parquet


def test_a_file_is_read_in_its_order(tmp_path: Path) -> None:
    images = opened(written(tmp_path / "a.parquet", row_group_size=5))
    assert greys(images) == list(range(12))
    assert images.labels.tolist() == labels(12)
    assert images.labels.dtype == np.int64
    assert images.groups.tolist() == [0, 5, 10, 12]
    assert images.classes == NAMES


def test_a_folder_of_shards_is_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for number, first in enumerate((0, 6, 12)):
        written(tmp_path / f"part-{number}.parquet", 6, first)
    (tmp_path / "README.md").write_text("not a shard")
    images = opened(tmp_path)
    assert greys(images) == list(range(18))
    assert images.groups.tolist() == [0, 6, 12, 18]


@pytest.mark.parametrize("form", ["file", "uri"])
def test_a_set_may_be_named_by_its_uri(form: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet")
    images = Parquet(path.as_uri() if form == "uri" else str(path), classes=NAMES).open()
    assert greys(images) == list(range(12))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_a_split_takes_the_rows_that_bear_its_name(kind: pa.DataType, tmp_path: Path) -> None:
    splits = pa.array(["train", "test", "train"] * 4).cast(kind)
    path = written(tmp_path / "a.parquet", split=splits, row_group_size=5)
    assert greys(opened(path, split="test")) == [1, 4, 7, 10]
    assert greys(opened(path, split="train")) == [0, 2, 3, 5, 6, 8, 9, 11]
    assert greys(opened(path)) == list(range(12))


@pytest.mark.parametrize("names", ["{}-00000-of-00002.parquet", "{}.parquet", "{}/0000.parquet"])
def test_a_split_takes_the_shards_that_bear_its_name(names: str, tmp_path: Path) -> None:
    written(tmp_path / names.format("train"), 3)
    written(tmp_path / names.format("test"), 2, first=50)
    assert greys(opened(tmp_path, split="test")) == [50, 51]
    assert greys(opened(tmp_path, split="train")) == [0, 1, 2]


@pytest.mark.parametrize("folder", [True, False])
def test_a_split_that_nothing_names_is_refused_rather_than_ignored(folder: bool, tmp_path: Path) -> None:
    path = written(tmp_path / "set" / "images.parquet")
    with pytest.raises(DataError, match="has no split 'test'") as caught:
        opened(path.parent if folder else path, split="test")
    assert caught.value.key == "split"


def test_a_group_without_a_row_of_the_split_is_not_among_the_groups(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", split=["train"] * 8 + ["test"] * 4, row_group_size=4)
    assert opened(path, split="test").groups.tolist() == [0, 4]


@pytest.mark.parametrize("wrapped", [{"bytes": pa.binary(), "path": pa.string()}, {"bytes": pa.binary()}])
def test_the_image_struct_of_hugging_face_is_read(wrapped: dict[str, pa.DataType], tmp_path: Path) -> None:
    cells = [{name: coloured(index) if name == "bytes" else None for name in wrapped} for index in range(3)]
    path = write_parquet(tmp_path / "a.parquet", pa.array(cells, pa.struct(wrapped)), labels(3))
    assert greys(opened(path)) == [0, 1, 2]


def test_large_binary_images_and_small_integer_labels_are_read(tmp_path: Path) -> None:
    images = pa.array([coloured(index) for index in range(3)], pa.large_binary())
    path = write_parquet(tmp_path / "a.parquet", images, pa.array([2, 1, 0], pa.uint8()))
    assert greys(opened(path)) == [0, 1, 2]
    assert opened(path).labels.tolist() == [2, 1, 0]


HUGGING_FACE = json.dumps({"info": {"features": {"label": {"_type": "ClassLabel", "names": NAMES}}}})


@pytest.mark.parametrize(
    ("metadata", "columns"),
    [
        ({"class_names": json.dumps(NAMES)}, {}),
        ({"huggingface": HUGGING_FACE}, {}),
        (None, {"label_name": [NAMES[label] for label in labels(12)]}),
    ],
    ids=["class_names", "hugging face", "label_name"],
)
@pytest.mark.parametrize("shards", [1, 2])
def test_classes_come_from_the_metadata_or_the_column_of_names(
    metadata: dict[str, str] | None, columns: dict[str, Any], shards: int, tmp_path: Path
) -> None:
    for shard in range(shards):
        written(tmp_path / f"{shard}.parquet", metadata=metadata, row_group_size=2, **columns)
    assert opened(tmp_path, classes=None).classes == NAMES


def test_classes_of_the_recipe_come_before_those_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", metadata={"class_names": json.dumps(NAMES)})
    assert opened(path, classes=("x", "y", "z")).classes == ("x", "y", "z")


def test_other_columns_are_named_in_the_recipe(tmp_path: Path) -> None:
    images = [coloured(index) for index in range(3)]
    metadata = {"class_names": json.dumps(NAMES)}
    path = write_parquet(tmp_path / "a.parquet", [b""] * 3, [9] * 3, metadata=metadata, img=images, fine=[2, 1, 0])
    read = opened(path, image="img", label="fine")
    assert greys(read) == [0, 1, 2]
    assert read.labels.tolist() == [2, 1, 0]


@pytest.mark.parametrize("limit", [1, 5, 12, 100])
def test_a_limit_takes_the_same_images_every_time_with_their_own_labels(limit: int, tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", row_group_size=4)
    images = opened(path, limit=limit)
    chosen = greys(images)
    assert chosen == greys(opened(path, limit=limit)) == sorted(chosen)
    assert len(chosen) == min(limit, 12)
    assert images.labels.tolist() == [grey % 3 for grey in chosen]
    assert images.groups[-1] == len(chosen)
    assert (np.diff(images.groups) > 0).all()


def damage(path: Path) -> None:
    """Overwrite a stretch of the first column's pages; the footer stays whole."""
    content = bytearray(path.read_bytes())
    content[10:200] = b"\xff" * 190
    path.write_bytes(content)


def names(count: int = 12) -> list[str]:
    return [NAMES[label] for label in labels(count)]


def two_shards(root: Path) -> Path:
    """Of which the second lacks two columns."""
    written(root / "mixed" / "0.parquet", split=["train"] * 12, label_name=names())
    return written(root / "mixed" / "1.parquet").parent


def text(path: Path) -> Path:
    path.write_text("label,image")
    return path


# What is written below a folder and how it is opened; the key that is wrong; what the sentence says.
MISTAKES: dict[str, tuple[Callable[[Path], Path], dict[str, Any], str, str]] = {
    "missing file": (lambda root: root / "nothing.parquet", {}, "path", "no such file or folder: .*nothing.parquet$"),
    "unknown scheme": (lambda root: root, {"path": "ftp://host/a"}, "path", "cannot reach ftp://host/a"),
    "not Parquet": (
        lambda root: text(root / "a.parquet"),
        {},
        "path",
        "a.parquet is not a readable Parquet file",
    ),
    "no shards": (lambda root: root, {}, "path", "the folder .* holds no .parquet files$"),
    "no images": (
        lambda root: write_parquet(root / "a.parquet", pa.array([], pa.binary()), pa.array([], pa.int64())),
        {},
        "label",
        "a.parquet has no images$",
    ),
    "no image column": (
        lambda root: written(root / "a.parquet"),
        {"image": "img"},
        "image",
        "has no column 'img', expected one with the images; its columns are image, label$",
    ),
    "no label column": (
        lambda root: written(root / "a.parquet"),
        {"label": "fine"},
        "label",
        "has no column 'fine', expected one with the labels",
    ),
    "images of text": (
        lambda root: write_parquet(root / "a.parquet", ["a", "b", "c"], labels(3)),
        {},
        "image",
        "column 'image' holds string, expected encoded images as bytes$",
    ),
    "labels of text": (
        lambda root: write_parquet(root / "a.parquet", [coloured(0)], ["ant"]),
        {},
        "label",
        "column 'label' holds string, expected integers$",
    ),
    "a row without a label": (
        lambda root: write_parquet(root / "a.parquet", [coloured(0)] * 2, [0, None]),
        {},
        "label",
        "a.parquet has rows without a label$",
    ),
    "unknown split": (
        lambda root: written(root / "a.parquet", split=["train", "val"] * 6),
        {"split": "test"},
        "split",
        "a.parquet has no split 'test', expected one of: train, val$",
    ),
    "a label beyond the classes": (
        lambda root: written(root / "a.parquet"),
        {"classes": ("ant", "bee")},
        "label",
        "image 2 has label 2, expected one of the 2 classes 0 to 1$",
    ),
    "no class names": (
        lambda root: written(root / "a.parquet"),
        {"classes": None},
        "classes",
        "names no classes .*; list them under 'classes'$",
    ),
    "a class without a name": (
        lambda root: written(root / "a.parquet", 3, label_name=["ant", None, "cat"]),
        {"classes": None},
        "classes",
        "names no classes",
    ),
    "names with a gap": (
        lambda root: write_parquet(root / "a.parquet", [coloured(0)] * 2, [0, 2], label_name=["ant", "cat"]),
        {"classes": None},
        "classes",
        "names no classes",
    ),
    "a shard without the split column": (
        two_shards,
        {"split": "train"},
        "split",
        "1.parquet has no column 'split', nor",
    ),
    "a shard without the name column": (two_shards, {"classes": None}, "classes", "mixed names no classes"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_about_its_key(mistake: str, tmp_path: Path) -> None:
    write, options, key, sentence = MISTAKES[mistake]
    with pytest.raises(DataError, match=sentence) as caught:
        Parquet(**({"path": str(write(tmp_path)), "classes": NAMES} | options)).open()
    assert "\n" not in str(caught.value)
    assert caught.value.key == key


@pytest.mark.parametrize("cell", [b"not an image", b"", None, coloured(0)[:40]])
@pytest.mark.parametrize("split", [None, "test"])
def test_a_corrupt_image_is_named_by_its_file_and_its_row_in_it(
    cell: bytes | None, split: str | None, tmp_path: Path
) -> None:
    cells = [cell if index == 7 else coloured(index) for index in range(12)]
    splits = ["train"] * 5 + ["test"] * 7
    path = write_parquet(tmp_path / "a.parquet", cells, labels(12), split=splits, row_group_size=3)
    images = opened(path, split=split)
    wrong = 7 if split is None else 2
    with pytest.raises(DataError, match=r"a\.parquet, row 7: cannot decode the image in column 'image'") as caught:
        images.decode(wrong)
    assert "\n" not in str(caught.value)
    assert caught.value.key == "path"
    assert images.decode(wrong + 1).size == (4, 4)


def test_a_damaged_row_group_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet")
    damage(path)
    with pytest.raises(DataError, match=r"a\.parquet: row group 0 is damaged"):
        opened(path).decode(0)


@pytest.mark.parametrize("change", [{"split": "train"}, {"limit": 3}, {"label": "other"}])
def test_the_fingerprint_changes_with_the_rows_that_are_taken(change: dict[str, Any], tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", split=["train"] * 12, other=[0] * 12)
    assert opened(path).fingerprint == opened(path).fingerprint
    assert opened(path, **change).fingerprint != opened(path).fingerprint


def test_the_fingerprint_changes_with_the_file(tmp_path: Path) -> None:
    before = opened(written(tmp_path / "a.parquet")).fingerprint
    assert opened(written(tmp_path / "a.parquet", first=1)).fingerprint != before
