"""The order of training images: a function of seed and step, whoever and however many read it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from robustcore.data import Digits, Parquet, Pixels, Preprocessing
from robustcore.data.loaders import epoch_order, training_batches
from robustcore.errors import DataError
from tests.support import coloured, write_parquet


class Greys:
    """Images of one grey each, in groups of the given sizes."""

    name, classes, fingerprint = "greys", ("only",), "greys"

    def __init__(self, *sizes: int) -> None:
        self.groups = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.labels = np.zeros(sum(sizes), np.int64)

    def decode(self, index: int) -> Image.Image:
        return Image.new("RGB", (2, 2), (index % 256,) * 3)


def batches(images: Any, batch_size: int, steps: range, rank: int = 0, world_size: int = 1, seed: int = 0) -> Any:
    return list(training_batches(Pixels(images, Preprocessing(2)), batch_size, seed, steps, rank, world_size))


SETS = [Greys(100), Greys(40, 40, 23), Greys(*[5] * 20), Greys(*range(1, 15))]
every_set = pytest.mark.parametrize("images", SETS, ids=lambda images: f"{len(images.groups) - 1} groups")


@every_set
@pytest.mark.parametrize("batch_size", [1, 7, 10, 16, 48, 100])
def test_an_epoch_has_each_image_at_most_once_and_leaves_out_less_than_a_batch(images: Greys, batch_size: int) -> None:
    count = len(images.labels)
    order = epoch_order(images, batch_size, 0, 0)
    assert order.shape == (count // batch_size, batch_size)
    assert len(set(order.flatten().tolist())) == order.size
    assert set(order.flatten().tolist()) <= set(range(count))


@every_set
def test_epochs_and_seeds_differ_in_order_and_in_what_they_leave_out(images: Greys) -> None:
    orders = [epoch_order(images, 16, seed, epoch) for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1)]]
    assert len({order.tobytes() for order in orders}) == 4
    assert np.array_equal(orders[1], epoch_order(images, 16, 0, 1))
    left_out = {frozenset(range(len(images.labels))) - frozenset(order.flatten().tolist()) for order in orders}
    assert len(left_out) > 1


@every_set
@pytest.mark.parametrize("world_size", [2, 3, 4])
@pytest.mark.parametrize("batch_size", [10, 16, 32])
def test_the_shares_of_all_workers_are_the_batch_of_one(images: Greys, world_size: int, batch_size: int) -> None:
    steps = range(2, 2 + 2 * (len(images.labels) // batch_size))  # into the next epochs
    alone = batches(images, batch_size, steps)
    shares = [batches(images, batch_size, steps, rank, world_size) for rank in range(world_size)]
    for number, batch in enumerate(alone):
        parts = [share[number] for share in shares]
        assert {part.step for part in parts} == {batch.step}
        assert np.array_equal(np.concatenate([part.indices for part in parts]), batch.indices)
        assert torch.equal(torch.cat([part.pixels for part in parts]), batch.pixels)
        sizes = [len(part.indices) for part in parts]
        assert max(sizes) - min(sizes) <= 1


def test_a_run_that_goes_on_in_mid_epoch_sees_what_it_would_have_seen() -> None:
    images = Greys(40, 40, 23)
    whole, rest = batches(images, 16, range(20)), batches(images, 16, range(9, 20))
    assert [batch.step for batch in rest] == list(range(9, 20))
    for one, other in zip(whole[9:], rest, strict=True):
        assert np.array_equal(one.indices, other.indices)
        assert torch.equal(one.pixels, other.pixels)


def test_pixels_belong_to_their_indices() -> None:
    for batch in batches(Greys(100), 16, range(6)):
        assert batch.pixels[:, 0, 0, 0].tolist() == batch.indices.tolist()


def test_a_batch_mixes_distant_parts_of_a_sorted_set() -> None:
    """Sorted by class is how many sets are stored; a batch of neighbours would hold one class."""
    images = Greys(*[16] * 64)
    for indices in epoch_order(images, 64, 0, 0):
        assert len(set(indices // 16)) >= 14


def test_digits_are_mixed_by_class() -> None:
    images = Digits("train").open()
    for indices in epoch_order(images, 64, 0, 0):
        assert len(set(images.labels[indices])) >= 8


def test_a_corrupt_image_reaches_who_trains_as_its_own_error(tmp_path: Path) -> None:
    cells = [coloured(index) for index in range(32)]
    cells[20] = b"cut off"
    path = write_parquet(tmp_path / "a.parquet", cells, [0] * 32)
    with pytest.raises(DataError, match="row 20"):
        batches(Parquet(str(path), classes=("only",)).open(), 8, range(4))


def test_a_batch_larger_than_the_set_is_refused() -> None:
    with pytest.raises(DataError, match="greys has 100 images, expected at least one batch of 101"):
        batches(Greys(100), 101, range(1))


def test_more_workers_than_images_in_a_batch_still_share_it() -> None:
    shares = [batches(Greys(10), 2, range(3), rank, 3) for rank in range(3)]
    assert [sum(len(batch.indices) for batch in share) for share in shares] == [0, 3, 3]
