"""Named suites in an evaluation: each set with its own classes and prompts; what is missing is said."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from robustcore.attacks import Clean
from robustcore.data import Digits, ImageSet
from robustcore.errors import DataError
from robustcore.evaluation import Evaluation, NamedSuite, Suite
from robustcore.losses import Classifier, ZeroShot
from robustcore.models import Clip
from robustcore.process import Process
from robustcore.suites import set_info, suite_sets
from tests.support import png, write_parquet

CLIP = Clip(weights="digits").load()


def stored(root: Path, set_id: str, count: int) -> None:
    """So many images of noise, labelled in turn."""
    classes = len(set_info(set_id).classes)
    noise = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)
    labels = [classes - 1, *(index % classes for index in range(1, count))]
    names = [set_info(set_id).classes[label] for label in labels]
    images = [png(Image.fromarray(pixels)) for pixels in noise]
    write_parquet(root / f"{set_id}.parquet", images, labels, label_name=names, split=["test"] * count)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    stored(folder, "cifar10", 20)
    stored(folder, "stl10", 12)
    return folder


def test_every_set_is_measured_with_its_own_classes_and_prompts(root: Path) -> None:
    asked: dict[str, tuple[Any, Any]] = {}

    def classifier_of(images: ImageSet, prompts: tuple[str, ...]) -> Classifier:
        asked[Path(images.name).name] = (images.classes, prompts)
        return ZeroShot(CLIP.text.rows(images.classes, prompts[:1]).detach())

    suite = NamedSuite("clip14", str(root), limit=11, only=("cifar10", "stl10"))
    evaluation = Evaluation(suite=suite, datasets={"digits": Digits("test", 5)}, attacks={"none": Clean()})
    measured = Suite(evaluation, classifier_of, CLIP.preprocessing, 0, torch.float32)
    outcome = measured(CLIP.encoder, Process())
    assert outcome.samples == {"digits": 5, "cifar10": 11, "stl10": 11}
    assert {*outcome.metrics, "loss"} == set(evaluation.metrics())
    for set_id in ("cifar10", "stl10"):
        info = set_info(set_id)
        (name,) = [name for name in asked if name.startswith(set_id)]
        classes, prompts = asked[name]
        assert set(classes) == set(info.classes)
        assert prompts == info.templates
    assert asked["digits (test)"][1] == evaluation.prompts


def test_without_a_choice_all_of_its_sets_are_meant(root: Path) -> None:
    suite = NamedSuite("clip14", str(root))
    assert suite.names() == suite_sets("clip14")
    sentences = suite.missing()
    assert len(sentences) == len(suite.names()) - 2
    assert all("get it with" in sentence for sentence in sentences)


def test_a_missing_set_is_an_error_with_its_name(root: Path) -> None:
    evaluation = Evaluation(suite=NamedSuite("clip14", str(root), only=("pets",)), attacks={})
    with pytest.raises(DataError, match="pets: not found below"):
        list(evaluation.sets())


@pytest.mark.parametrize(
    ("suite", "sentence"),
    [
        ({"name": "clip41"}, "unknown suite 'clip41'.*did you mean 'clip14'"),
        ({"name": "clip14", "only": ["cifar10", "mnist"]}, "'mnist' is not in the suite clip14"),
        ({"name": "clip14", "only": []}, "expected at least one set"),
    ],
)
def test_an_unknown_name_is_refused(suite: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Evaluation(suite={"root": "data", **suite}, attacks={})  # type: ignore[arg-type]


def test_a_data_set_cannot_take_the_name_of_one_of_the_suite() -> None:
    with pytest.raises(ValidationError, match="the suite digits has a set of that name"):
        Evaluation(suite=NamedSuite("digits", "data"), datasets={"digits": Digits("test")}, attacks={})


def test_few_digits_are_some_of_them_and_always_the_same() -> None:
    few, whole = Digits("test", 7).open(), Digits("test").open()
    everything = [(whole.decode(i).tobytes(), whole.labels[i]) for i in range(len(whole.labels))]
    assert len({few.decode(i).tobytes() for i in range(7)}) == len(few.labels) == 7
    assert all((few.decode(i).tobytes(), few.labels[i]) in everything for i in range(7))
    assert few.fingerprint == Digits("test", 7).open().fingerprint != whole.fingerprint
