"""The embedded digits: a fixed, stratified split of scikit-learn's scans."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from robustcore.data import Digits

SCANS = load_digits()


def test_there_are_1397_images_for_training_and_400_for_the_test() -> None:
    train, test = Digits("train").open(), Digits("test").open()
    assert (len(train.labels), len(test.labels)) == (1397, 400)
    assert len(train.classes) == 10
    for images in (train, test):
        assert images.groups.tolist() == [0, len(images.labels)]
        assert images.labels.dtype == np.int64


def test_each_class_has_its_share_of_the_test_images() -> None:
    counts = np.bincount(Digits("test").open().labels)
    shares = np.bincount(SCANS.target) * 400 / 1797
    assert (np.abs(counts - shares) < 1).all()


def test_the_two_splits_share_no_scan_and_together_are_all_of_them() -> None:
    splits = [Digits("train").open(), Digits("test").open()]
    decoded = [np.asarray(images.decode(i)).tobytes() for images in splits for i in range(len(images.labels))]
    assert len(set(decoded)) == len({scan.tobytes() for scan in SCANS.images}) == 1797


def test_the_split_is_the_same_for_ever() -> None:
    labels = Digits("test").open().labels
    assert np.array_equal(labels, Digits("test").open().labels)
    assert labels[:12].tolist() == [1, 5, 9, 2, 4, 6, 7, 9, 3, 4, 6, 8]


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_image_is_the_scan_enlarged_in_grey_with_its_own_label(split: str) -> None:
    images = Digits("train" if split == "train" else "test").open()
    for index in (0, 1, len(images.labels) - 1):
        pixels = np.asarray(images.decode(index)).astype(float)
        assert pixels.shape == (16, 16, 3)
        assert (pixels == pixels[..., :1]).all()
        small = pixels[..., 0].reshape(8, 2, 8, 2).mean(axis=(1, 3)) / 255 * 16
        nearest = np.square(SCANS.images - small).sum(axis=(1, 2)).argmin()
        assert SCANS.target[nearest] == images.labels[index]
