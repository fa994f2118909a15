"""Captioned images: several texts an image, and what each mistake says."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from robustcore.data import ParquetCaptions
from robustcore.errors import DataError
from tests.support import coloured

TEXTS = [["a dog", "a hound"], ["a cat"], ["one", "two", "three"], ["a sea"]]


def written(path: Path, captions: Any = TEXTS, images: list[bytes] | None = None, **columns: Any) -> Path:
    images = images or [coloured(index) for index in range(len(captions))]
    pq.write_table(pa.table({"image": images, "captions": captions, **columns}), path, row_group_size=3)
    return path


def greys(images: Any) -> list[int]:
    return [images.decode(index).getpixel((0, 0))[0] for index in range(len(images.captions))]


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.large_list(pa.large_string())])
def test_every_image_keeps_all_its_captions(kind: pa.DataType, tmp_path: Path) -> None:
    images = ParquetCaptions(str(written(tmp_path / "a.parquet", pa.array(TEXTS, kind)))).open()
    assert images.captions == tuple(map(tuple, TEXTS))
    assert images.groups.tolist() == [0, 3, 4]
    assert greys(images) == [0, 1, 2, 3]


def test_a_column_of_single_texts_is_one_caption_an_image(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", text=["a", "b", "c", "d"])
    assert ParquetCaptions(str(path), captions="text").open().captions == (("a",), ("b",), ("c",), ("d",))


def test_split_and_limit_take_images_with_their_own_captions(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", split=["test", "train", "test", "test"])
    images = ParquetCaptions(str(path), split="test").open()
    assert (greys(images), images.captions[1]) == ([0, 2, 3], ("one", "two", "three"))
    few = ParquetCaptions(str(path), split="test", limit=2).open()
    chosen = greys(few)
    assert len(chosen) == 2
    assert few.captions == tuple(tuple(TEXTS[grey]) for grey in chosen)
    assert few.fingerprint != images.fingerprint


@pytest.mark.parametrize(
    ("captions", "options", "key", "sentence"),
    [
        (TEXTS, {"captions": "caption"}, "captions", "has no column 'caption', expected one with the captions; its"),
        (TEXTS, {"split": "test"}, "split", "has no split 'test'"),
        ([1, 2], {}, "captions", "column 'captions' holds int64, expected lists of texts$"),
        ([["a"], []], {}, "captions", "image 1 has no caption$"),
        ([["a"], [" "]], {}, "captions", "image 1 has no caption$"),
        ([["a"], None], {}, "captions", "has rows without captions$"),
        (pa.array([], pa.list_(pa.string())), {}, "path", "has no images$"),
    ],
)
def test_a_mistake_is_one_sentence_about_its_key(
    captions: Any, options: dict[str, Any], key: str, sentence: str, tmp_path: Path
) -> None:
    images = [coloured(0)] * len(captions) or pa.array([], pa.binary())
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": images, "captions": captions}), path)
    with pytest.raises(DataError, match=sentence) as caught:
        ParquetCaptions(str(path), **options).open()
    assert caught.value.key == key


def test_a_corrupt_image_is_named_by_its_row(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", images=[coloured(0), coloured(1), b"nothing", coloured(3)])
    with pytest.raises(DataError, match=r"a\.parquet, row 2: cannot decode the image in column 'image'"):
        ParquetCaptions(str(path)).open().decode(2)
