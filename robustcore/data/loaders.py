"""The order of training images: a function of (seed, step) alone, whatever the number of workers.

A batch draws equal parts from sixteen places of the epoch. Each worker takes one stretch of every batch, hence reads
only its own part of the stored row groups, one after the other; the images of a batch do not change with the workers.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from torch import Tensor

from robustcore.data.images import ImageSet, Pixels
from robustcore.errors import DataError

STREAMS = 16


@dataclass(frozen=True)
class Batch:
    """One worker's share of one global batch."""

    step: int
    indices: np.ndarray  # (b,) positions in the set
    pixels: Tensor  # (b, 3, H, W) uint8


def training_batches(
    pixels: Pixels, batch_size: int, seed: int, steps: range, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """Batches for ``steps``, decoded one ahead on a thread. ``batch_size`` counts all workers together.

    Raises DataError where the set does not fill one batch, or an image cannot be decoded.
    """

    def load(place: tuple[int, np.ndarray]) -> Batch:
        step, indices = place
        return Batch(step, indices, pixels.at(indices))

    places = _places(pixels.images, batch_size, seed, steps, rank, world_size)
    with ThreadPoolExecutor(max_workers=1) as reader:
        ahead = [reader.submit(load, place) for place in islice(places, 2)]
        while ahead:
            batch = ahead.pop(0).result()
            ahead += [reader.submit(load, place) for place in islice(places, 1)]
            yield batch


def _places(
    images: ImageSet, batch_size: int, seed: int, steps: range, rank: int, world_size: int
) -> Iterator[tuple[int, np.ndarray]]:
    count = len(images.labels)
    if batch_size > count:
        raise DataError(f"{images.name} has {count} images, expected at least one batch of {batch_size}")
    epoch_steps = steps_per_epoch(images, batch_size)
    share = slice(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)
    epoch, order = -1, np.empty((0, 0), np.int64)
    for step in steps:
        if step // epoch_steps != epoch:
            epoch = step // epoch_steps
            order = epoch_order(images, batch_size, seed, epoch)
        yield step, order[step % epoch_steps, share]


def steps_per_epoch(images: ImageSet, batch_size: int) -> int:
    """Whole batches alone."""
    return len(images.labels) // batch_size


def epoch_order(images: ImageSet, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """(steps, batch_size): every image at most once; the few that do not fill a batch differ from epoch to epoch."""
    generator = np.random.default_rng([seed, epoch])
    starts, sizes = images.groups[:-1], np.diff(images.groups)
    order = np.concatenate(
        [starts[group] + generator.permutation(sizes[group]) for group in generator.permutation(len(sizes))]
    )
    steps, streams = steps_per_epoch(images, batch_size), math.gcd(batch_size, STREAMS)
    places = order[: steps * batch_size].reshape(streams, steps, batch_size // streams)
    return places.transpose(1, 0, 2).reshape(steps, batch_size)
