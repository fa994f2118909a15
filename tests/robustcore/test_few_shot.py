"""A few images of each class: how many, which ones, in which order, and that training sees no others."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from robustcore.data import Digits, FewShot, Folder, ImageSet, Parquet
from robustcore.errors import DataError
from robustcore.finetune import finetune
from robustcore.models import Encoder
from robustcore.process import Process
from robustcore.recipe import TrainingData
from tests.robustcore.greys import NAMES, written
from tests.support import small_recipe

SHOTS = (1, 2, 4, 8, 16)


def parquet(root: Path) -> Parquet:
    """Groups of 7, the last one shorter."""
    return Parquet(str(written(root / "greys.parquet", 60, row_group_size=7)), classes=NAMES)


def folder(root: Path) -> Folder:
    """Twenty files of each class."""
    for number in range(60):
        place = root / "greys" / NAMES[number // 20]
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (number,) * 3).save(place / f"{number}.png")
    return Folder(str(root / "greys"))


def digits_source(root: Path) -> Digits:
    return Digits("test")


SOURCES: dict[str, Callable[[Path], Parquet | Folder | Digits]] = {
    "parquet": parquet,
    "folder": folder,
    "digits": digits_source,
}


@pytest.fixture(params=SOURCES)
def whole(request: pytest.FixtureRequest, tmp_path: Path) -> ImageSet:
    """Sixteen images and more of each class, all different."""
    return SOURCES[request.param](tmp_path).open()


def content(images: ImageSet) -> list[bytes]:
    return [images.decode(index).tobytes() for index in range(len(images.labels))]


def places(few: ImageSet, whole: ImageSet) -> list[int]:
    """Where each of the few is in the whole set, told by its pixels."""
    position = {pixels: index for index, pixels in enumerate(content(whole))}
    assert len(position) == len(whole.labels)
    return [position[pixels] for pixels in content(few)]


@pytest.mark.parametrize("shots", SHOTS)
def test_there_are_exactly_so_many_of_each_class(shots: int, whole: ImageSet) -> None:
    few = FewShot(whole, shots, seed=0)
    assert few.classes == whole.classes
    assert np.bincount(few.labels).tolist() == [shots] * len(whole.classes)
    assert few.labels.dtype == np.int64


@pytest.mark.parametrize("shots", SHOTS)
def test_labels_and_pixels_are_those_of_the_whole_set_in_its_order(shots: int, whole: ImageSet) -> None:
    few = FewShot(whole, shots, seed=3)
    found = places(few, whole)
    assert found == sorted(set(found))
    assert np.array_equal(few.labels, whole.labels[found])


def test_the_seed_draws_them(whole: ImageSet) -> None:
    one, again, other = (places(FewShot(whole, 4, seed), whole) for seed in (0, 0, 1))
    assert one == again
    assert one != other


def test_more_shots_only_add_to_fewer(whole: ImageSet) -> None:
    drawn = [set(places(FewShot(whole, shots, seed=5), whole)) for shots in SHOTS]
    assert all(fewer < more for fewer, more in pairwise(drawn))


def test_every_class_is_drawn_on_its_own() -> None:
    """One permutation for all classes would take the same place of each."""
    whole = Digits("test").open()
    ranks = np.empty(400, np.int64)
    for label in range(10):
        ranks[whole.labels == label] = np.arange((whole.labels == label).sum())
    assert len(set(ranks[places(FewShot(whole, 1, seed=0), whole)])) > 3


@pytest.mark.parametrize("shots", SHOTS)
def test_a_group_is_what_is_left_of_one_group_of_the_whole_set(shots: int, whole: ImageSet) -> None:
    few = FewShot(whole, shots, seed=0)
    assert few.groups[0] == 0
    assert few.groups[-1] == len(few.labels)
    assert (np.diff(few.groups) > 0).all()
    group = np.repeat(np.arange(len(whole.groups) - 1), np.diff(whole.groups))[places(few, whole)]
    homes = [set(group[start:end].tolist()) for start, end in zip(few.groups[:-1], few.groups[1:], strict=True)]
    assert all(len(home) == 1 for home in homes)
    assert len(set.union(*homes)) == len(homes)


def test_the_fingerprint_changes_with_set_shots_and_seed_alone(tmp_path: Path) -> None:
    def few(split: str = "test", shots: int = 2, seed: int = 0) -> str:
        return FewShot(Digits("test" if split == "test" else "train").open(), shots, seed).fingerprint

    assert few() == few()
    assert len({few(), few(split="train"), few(shots=4), few(seed=1), Digits("test").open().fingerprint}) == 5


def test_a_class_with_too_few_is_named_with_what_it_has(tmp_path: Path) -> None:
    path = written(tmp_path / "greys.parquet", 11)  # four ants, four bees, three cats
    data = TrainingData(Parquet(str(path), classes=NAMES), shots=4)
    with pytest.raises(DataError, match=r"greys\.parquet has 3 images of class 'cat', expected at least 4$") as caught:
        data.open(0)
    assert caught.value.key == "shots"
    assert len(TrainingData(data.train, shots=2).open(0).labels) == 6


def test_a_class_without_any_image_is_named_too(tmp_path: Path) -> None:
    path = written(tmp_path / "greys.parquet", 12)
    with pytest.raises(DataError, match="has 0 images of class 'dog', expected at least 1"):
        FewShot(Parquet(str(path), classes=(*NAMES, "dog")).open(), 1, 0)


def test_without_shots_all_images_are_there() -> None:
    assert len(TrainingData(Digits("test")).open(0).labels) == 400


@pytest.fixture
def trained_on() -> Iterator[set[bytes]]:
    """The different images that the encoder is trained on, in bytes."""
    seen: set[bytes] = set()

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, Encoder) and torch.is_grad_enabled():
            seen.update((image * 255).round().byte().permute(1, 2, 0).numpy().tobytes() for image in inputs[0])

    hook = register_module_forward_pre_hook(note)
    yield seen
    hook.remove()


def test_training_sees_the_few_shots_and_nothing_else(digits: Path, tmp_path: Path, trained_on: set[bytes]) -> None:
    recipe = small_recipe(
        digits,
        data__shots=2,
        data__batch_size=5,
        loss={"kind": "tecoa"},
        attack={"kind": "clean"},
        evaluation__attacks={},
        optim={"lr": 1e-4, "steps": 8},
        seed=7,
    )
    list(finetune(recipe, Process(cache=tmp_path)))  # two epochs
    whole = recipe.data.train.open()
    assert len(whole.labels) == 67
    assert trained_on == set(content(FewShot(whole, 2, 7)))
    assert len(trained_on) == 20


def test_only_the_few_shots_are_embedded_by_the_original_encoder(digits: Path, tmp_path: Path) -> None:
    for shots in (1, 2):
        list(finetune(small_recipe(digits, data__shots=shots, data__batch_size=10), Process(cache=tmp_path)))
    assert sorted(len(np.load(path)) for path in tmp_path.glob("*.npy")) == [10, 20]
