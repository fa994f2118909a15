"""Sets in torchvision's own layouts: labels, names and splits; and what is missing or damaged."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from robustcore.data import Torchvision
from robustcore.data.torchvision import LAYOUTS as KNOWN
from robustcore.errors import DataError
from tests.robustcore.layouts import LAYOUTS, in_folders


def opened(dataset: str, root: Path, **options: Any) -> Any:
    return Torchvision(dataset, str(root), **options).open()  # type: ignore[arg-type]  # a name of the literal


def shades(images: Any) -> list[int]:
    """The greys in tens; JPEG may move them by one."""
    return [round(images.decode(index).getpixel((0, 0))[0] / 10) for index in range(len(images.labels))]


@pytest.mark.parametrize("dataset", LAYOUTS)
def test_a_layout_is_read_as_torchvision_reads_it(dataset: str, tmp_path: Path) -> None:
    write, classes = LAYOUTS[dataset]
    write(tmp_path)
    images = opened(dataset, tmp_path)
    count = 2 * len(classes)
    assert images.classes == classes
    assert images.labels.tolist() == [label for label in range(len(classes)) for _ in range(2)]
    assert sorted(shades(images)) == shades(images) == list(range(count))
    assert images.groups.tolist() == [0, count]


def test_a_limit_takes_the_same_images_and_nicer_names_replace_its_own(tmp_path: Path) -> None:
    LAYOUTS["EuroSAT"][0](tmp_path)
    names = ("crops", "woods", "water")
    images = opened("EuroSAT", tmp_path, limit=3, classes=names)
    assert images.classes == names
    assert images.labels.tolist() == [shade // 2 for shade in shades(images)]
    assert shades(images) == shades(opened("EuroSAT", tmp_path, limit=3))
    assert images.fingerprint != opened("EuroSAT", tmp_path).fingerprint


def test_the_split_is_the_test_images_unless_another_is_named(tmp_path: Path) -> None:
    LAYOUTS["DTD"][0](tmp_path)
    (tmp_path / "dtd" / "dtd" / "labels" / "val1.txt").write_text("woven/image_0002.jpg\n")
    assert len(opened("DTD", tmp_path).labels) == 6
    assert shades(opened("DTD", tmp_path, split="val")) == [5]


@pytest.mark.parametrize(
    ("dataset", "split", "sentence"),
    [
        ("DTD", "dev", "DTD has no split 'dev', expected one of: train, val, test$"),
        ("OxfordIIITPet", "train", "has no split 'train', expected one of: trainval, test$"),
        ("EuroSAT", "test", "EuroSAT has no split 'test', expected none: torchvision does not split it$"),
    ],
)
def test_a_split_that_the_set_does_not_have_is_refused(dataset: str, split: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=sentence) as caught:
        opened(dataset, tmp_path, split=split)
    assert caught.value.key == "split"


@pytest.mark.parametrize("dataset", KNOWN)
def test_what_is_missing_is_named_with_how_to_get_it_and_nothing_is_made(dataset: str, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=f"{dataset} is not in .*: looked for .*; (get it with python|its files)"
    ) as caught:
        opened(dataset, tmp_path)
    assert f"torchvision.datasets.{dataset}" in str(caught.value)
    assert str(tmp_path / KNOWN[dataset].folder) in str(caught.value)
    assert caught.value.key == "root"
    assert list(tmp_path.iterdir()) == []


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such folder: .*nothing; get it with python -c .*download=True"):
        opened("CIFAR10", tmp_path / "nothing")


class Planted:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path("/nothing/unpickled").mkdir, ()


def test_a_pickle_of_another_sum_is_never_read(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("batches.meta", "test_batch", *(f"data_batch_{number}" for number in range(1, 6))):
        (folder / name).write_bytes(pickle.dumps(Planted()))
    with pytest.raises(DataError, match=r"torchvision cannot read CIFAR10 in .*corrupted.*; get it with"):
        opened("CIFAR10", tmp_path)


def test_a_layout_without_its_lists_is_one_sentence(tmp_path: Path) -> None:
    in_folders(tmp_path / "dtd" / "dtd" / "images", ["banded"])
    with pytest.raises(DataError, match="torchvision cannot read DTD in") as caught:
        opened("DTD", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_corrupt_image_is_named_by_its_file(tmp_path: Path) -> None:
    LAYOUTS["Food101"][0](tmp_path)
    (tmp_path / "food-101" / "images" / "ramen" / "image_0001.jpg").write_bytes(b"nothing")
    images = opened("Food101", tmp_path)
    with pytest.raises(DataError, match=r"ramen/image_0001\.jpg: cannot decode the image") as caught:
        images.decode(2)
    assert "\n" not in str(caught.value)
    assert images.decode(3).size == (4, 4)
