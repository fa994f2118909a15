"""Images at the size they are stored in, for attacks on the stored pixels: only images of one size share a batch."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from robustcore.data.images import KEEP_DECODED, ImageSet


@dataclass
class NativePixels:
    """The images of one set undistorted. As ``Pixels``, but ``at`` takes images of one size: see ``batches``."""

    images: ImageSet
    room: int = KEEP_DECODED  # bytes for decoded images that are kept
    _sizes: dict[int, tuple[int, int]] = field(default_factory=dict, init=False)
    _kept: dict[int, np.ndarray] = field(default_factory=dict, init=False)

    def __len__(self) -> int:
        return len(self.images.labels)

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) as stored; raises DataError where the image cannot be decoded."""
        if index not in self._sizes:
            self._one(index)
        return self._sizes[index]

    def batches(self, indices: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
        """``indices`` (B,) in batches of images of one size, at most ``batch_size`` each; small images first."""
        sizes = np.array([self.size(int(index)) for index in indices], np.int64).reshape(-1, 2)
        for size in np.unique(sizes, axis=0):
            alike = indices[(sizes == size).all(axis=1)]
            for start in range(0, len(alike), batch_size):
                yield alike[start : start + batch_size]

    def at(self, indices: np.ndarray) -> Tensor:
        """(B, 3, height, width) uint8 of the images at ``indices`` (B,), which must be of one size."""
        assert len({self.size(int(index)) for index in indices}) == 1, "images of one size make a batch"
        pixels = np.stack([self._one(int(index)) for index in indices])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()

    def _one(self, index: int) -> np.ndarray:
        if index in self._kept:
            return self._kept[index]
        pixels = np.asarray(self.images.decode(index))
        self._sizes[index] = (pixels.shape[0], pixels.shape[1])
        if pixels.nbytes <= self.room:
            self.room -= pixels.nbytes
            self._kept[index] = pixels
        return pixels
