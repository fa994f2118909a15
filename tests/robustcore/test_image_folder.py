"""Images in folders: classes by name, splits, and what each mistake says."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustcore.data import Folder
from robustcore.errors import DataError


def filled(root: Path, **counts: int) -> Path:
    """So many greys a class, told apart by their shade."""
    shade = 0
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (4, 4), (shade,) * 3).save(root / name / f"{number}.png")
            shade += 10
    return root


def test_classes_are_the_folders_in_the_order_of_their_names(tmp_path: Path) -> None:
    images = Folder(str(filled(tmp_path, cat=2, ant=1, bee=3))).open()
    assert images.classes == ("ant", "bee", "cat")
    assert images.labels.tolist() == [0, 1, 1, 1, 2, 2]
    assert [images.decode(index).getpixel((0, 0)) for index in (0, 1, 4)] == [(20,) * 3, (30,) * 3, (0,) * 3]


def test_a_split_is_a_folder_above_the_classes(tmp_path: Path) -> None:
    filled(tmp_path / "train", ant=2)
    filled(tmp_path / "test", ant=1, bee=1)
    assert Folder(str(tmp_path), split="train").open().labels.tolist() == [0, 0]
    assert Folder(str(tmp_path), split="test").open().classes == ("ant", "bee")


def test_nicer_names_replace_those_of_the_folders(tmp_path: Path) -> None:
    source = Folder(str(filled(tmp_path, n01=1, n02=1)), classes=("tench", "goldfish"))
    assert source.open().classes == ("tench", "goldfish")


def test_other_files_and_hidden_folders_are_passed_over(tmp_path: Path) -> None:
    filled(tmp_path, ant=1)
    (tmp_path / "ant" / "notes.txt").write_text("not an image")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "LICENSE").write_text("")
    images = Folder(str(tmp_path)).open()
    assert images.classes == ("ant",)
    assert len(images.labels) == 1


@pytest.mark.parametrize("limit", [1, 4, 6, 60])
def test_a_limit_takes_the_same_images_every_time(limit: int, tmp_path: Path) -> None:
    source = Folder(str(filled(tmp_path, ant=3, bee=3)), limit=limit)
    one, other = source.open(), source.open()
    assert len(one.labels) == min(6, limit)
    assert np.array_equal(one.labels, other.labels)
    assert one.groups[-1] == len(one.labels)
    assert one.fingerprint == other.fingerprint


def test_the_fingerprint_changes_with_a_file(tmp_path: Path) -> None:
    source = Folder(str(filled(tmp_path, ant=2)))
    before = source.open().fingerprint
    os.utime(tmp_path / "ant" / "0.png", ns=(0, 0))
    assert source.open().fingerprint != before


@pytest.mark.parametrize(
    ("source", "key", "sentence"),
    [
        ({"path": "nothing"}, "path", "^no such folder: nothing$"),
        ({"split": "val"}, "split", "^no such folder: .*val$"),
        ({"classes": ("a", "b", "c")}, "classes", "has 2 class folders, expected 3 as listed$"),
        ({"split": "ant"}, "path", "^the folder .*ant has no images$"),
    ],
)
def test_a_mistake_is_one_sentence_about_its_key(
    source: dict[str, str], key: str, sentence: str, tmp_path: Path
) -> None:
    filled(tmp_path, ant=1, bee=1)
    with pytest.raises(DataError, match=sentence) as caught:
        Folder(**({"path": str(tmp_path)} | source)).open()  # type: ignore[arg-type]  # classes are a tuple
    assert caught.value.key == key


def test_a_corrupt_image_is_named(tmp_path: Path) -> None:
    filled(tmp_path, ant=2)
    (tmp_path / "ant" / "1.png").write_bytes(b"not an image")
    images = Folder(str(tmp_path)).open()
    assert images.decode(0).size == (4, 4)
    with pytest.raises(DataError, match=r"1\.png: cannot decode the image"):
        images.decode(1)
