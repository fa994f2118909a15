"""A few images of each class: the few-shot setting, drawn by a seed and the same for every trial that has it."""

import hashlib
from functools import cached_property

import numpy as np
from PIL import Image

from robustcore.data.images import ImageSet
from robustcore.errors import DataError


class FewShot:
    """``shots`` images of each class of another set; see ``ImageSet``. Raises DataError where a class has fewer."""

    def __init__(self, images: ImageSet, shots: int, seed: int) -> None:
        self._images = images
        self._chosen = np.sort(np.concatenate([_drawn(images, label, shots, seed) for label in _labels(images)]))
        self.name = f"{images.name}, {shots} of each class"
        self.classes = images.classes
        self.labels = images.labels[self._chosen]
        self.fingerprint = hashlib.sha256(f"{images.fingerprint}|{shots}|{seed}".encode()).hexdigest()

    @cached_property
    def groups(self) -> np.ndarray:
        """What is stored together stays together."""
        return np.unique(np.searchsorted(self._chosen, self._images.groups))

    def decode(self, index: int) -> Image.Image:
        """See ``ImageSet``."""
        return self._images.decode(int(self._chosen[index]))


def _labels(images: ImageSet) -> range:
    return range(len(images.classes))


def _drawn(images: ImageSet, label: int, shots: int, seed: int) -> np.ndarray:
    """Of one class. More shots under one seed only add to fewer."""
    rows = np.flatnonzero(images.labels == label)
    if len(rows) < shots:
        raise DataError(
            f"{images.name} has {len(rows)} images of class '{images.classes[label]}', expected at least {shots}",
            "shots",
        )
    return np.random.default_rng([seed, label]).permutation(rows)[:shots]
