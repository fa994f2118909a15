"""scikit-learn's 1,797 scans of handwritten digits: the embedded default, real and a few kilobytes."""

from functools import cache, cached_property
from importlib.metadata import distribution
from typing import Literal

import numpy as np
from PIL import Image
from pydantic.dataclasses import dataclass

from robustcore.data.images import subset
from robustcore.types import STRICT, PositiveCount

NUM_TEST = 400
SIZE = 16


@dataclass(frozen=True, config=STRICT)
class Digits:
    """8x8 scans upscaled to 16x16 RGB; 400 stratified test images, the other 1,397 for training."""

    split: Literal["train", "test"] = "train"
    limit: PositiveCount | None = None  # the same images in every run
    kind: Literal["digits"] = "digits"

    def open(self) -> "DigitImages":
        """The images of this split."""
        return DigitImages(self.split, self.limit)


class DigitImages:
    """See ``ImageSet``."""

    classes = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    fingerprint = "digits"

    def __init__(self, split: str, limit: int | None = None) -> None:
        scans, labels, is_test = _scans()
        rows = np.flatnonzero(is_test == (split == "test"))
        rows = rows[subset(len(rows), limit)]
        self.name = f"digits ({split})"
        self.fingerprint = f"digits-{split}-{SIZE}" + (f"-{limit}" if limit else "")
        self.labels = labels[rows]
        self._scans = scans[rows]

    @cached_property
    def groups(self) -> np.ndarray:
        """All in one group."""
        return np.array([0, len(self.labels)])

    def decode(self, index: int) -> Image.Image:
        """(16, 16) RGB."""
        scan = np.round(self._scans[index] * (255 / 16)).astype(np.uint8)
        return Image.fromarray(scan).resize((SIZE, SIZE), Image.Resampling.BILINEAR).convert("RGB")


@cache
def _scans() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # Not by `load_digits`: importing scikit-learn takes two seconds, in every process of a sweep.
    file = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    table = np.loadtxt(str(file), delimiter=",")
    labels = table[:, -1].astype(np.int64)
    return table[:, :-1].reshape(-1, 8, 8), labels, _stratified(labels)


def _stratified(labels: np.ndarray) -> np.ndarray:
    """(N,) bool, true for the test images: of each class its share, drawn with a fixed seed."""
    is_test = np.zeros(len(labels), bool)
    counts = np.bincount(labels)
    share = counts * NUM_TEST / len(labels)
    wanted = np.floor(share).astype(int)
    wanted[np.argsort(wanted - share, kind="stable")[: NUM_TEST - wanted.sum()]] += 1
    generator = np.random.default_rng(0)
    for label, count in enumerate(wanted):
        is_test[generator.permutation(np.flatnonzero(labels == label))[:count]] = True
    return is_test
