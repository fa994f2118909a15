"""Under which conditions everything of one evaluation is measured: whose share of the images, in which batches."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from robustcore.data import NativePixels, Pixels
from robustcore.data.images import as_pixels
from robustcore.noise import Noise
from robustcore.process import Process
from robustcore.types import Images

# Keeps the random starts of an evaluation apart from those of every training step.
_STREAM = -1


@dataclass(frozen=True)
class Batch:
    """Some images as they are shown to an encoder."""

    indices: np.ndarray  # (B,) positions in the set
    images: Images
    noise: Noise  # theirs, whatever batch they are in


@dataclass(frozen=True)
class Conditions:
    """``batch_size`` is an upper limit: at native resolution, only images of one size share a batch."""

    process: Process
    batch_size: int
    seed: int
    precision: torch.dtype  # of the attacks; what they find is judged in float32

    def share(self, count: int) -> np.ndarray:
        """The positions that this process measures, out of ``count``."""
        return np.arange(self.process.rank, count, self.process.world_size)

    def batches(self, pixels: Pixels | NativePixels, indices: np.ndarray) -> Iterator[Batch]:
        """The images at ``indices``, each once."""
        for chosen in pixels.batches(indices, self.batch_size):
            yield self.batch(pixels, chosen)

    def batch(self, pixels: Pixels | NativePixels, indices: np.ndarray) -> Batch:
        """The images at ``indices``, which must be of one size."""
        return Batch(indices, as_pixels(pixels.at(indices), self.process.device), self.noise(indices))

    def noise(self, indices: np.ndarray) -> Noise:
        """That of the images at ``indices``."""
        return Noise.of(self.seed, _STREAM, torch.from_numpy(indices).to(self.process.device))
