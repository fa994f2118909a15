"""The cached original embeddings: computed once for one encoder, one set and one preprocessing."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from robustcore.data import Digits, Pixels, Preprocessing
from robustcore.data.references import original_embeddings

CPU = torch.device("cpu")


class Embed:
    """The mean of each channel and quarter, counting the images it is shown; breaks after ``breaks_after``."""

    def __init__(self, breaks_after: int = 10**9) -> None:
        self.seen, self._breaks_after = 0, breaks_after

    def __call__(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        if self.seen > self._breaks_after:
            raise InterruptedError
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


def pixels(size: int = 16, split: str = "test") -> Pixels:
    return Pixels(Digits("test" if split == "test" else "train").open(), Preprocessing(size))


def test_embeddings_are_those_of_the_encoder_in_the_order_of_the_set(tmp_path: Path) -> None:
    found = original_embeddings(Embed(), "phi0", pixels(), tmp_path, CPU)
    assert found.shape == (400, 12)
    assert found.dtype == np.float32
    images = pixels().at(np.array([0, 399])).float() / 255
    torch.testing.assert_close(torch.from_numpy(found[[0, 399]]), Embed()(images))


def test_they_are_computed_once_and_mapped_read_only_by_all(tmp_path: Path) -> None:
    first, second = Embed(), Embed()
    one = original_embeddings(first, "phi0", pixels(), tmp_path / "new", CPU)
    other = original_embeddings(second, "phi0", pixels(), tmp_path / "new", CPU)
    assert (first.seen, second.seen) == (400, 0)
    assert isinstance(one, np.memmap)
    assert np.array_equal(one, other)
    assert not one.flags.writeable


@pytest.mark.parametrize(
    ("fingerprint", "other"),
    [("phi1", pixels()), ("phi0", pixels(12)), ("phi0", pixels(split="train"))],
    ids=["weights", "preprocessing", "data"],
)
def test_they_are_computed_anew_for_other_weights_data_or_preprocessing(
    fingerprint: str, other: Pixels, tmp_path: Path
) -> None:
    original_embeddings(Embed(), "phi0", pixels(), tmp_path, CPU)
    again = Embed()
    original_embeddings(again, fingerprint, other, tmp_path, CPU)
    assert again.seen == len(other)


def test_an_interrupted_computation_leaves_nothing_that_is_taken_for_whole(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        original_embeddings(Embed(breaks_after=300), "phi0", pixels(), tmp_path, CPU)
    again = Embed()
    found = original_embeddings(again, "phi0", pixels(), tmp_path, CPU)
    assert again.seen == 400
    assert np.array_equal(found, original_embeddings(Embed(), "phi0", pixels(), tmp_path / "elsewhere", CPU))


def test_of_several_who_ask_at_once_one_computes(tmp_path: Path) -> None:
    embeds = [Embed() for _ in range(4)]
    threads = [
        threading.Thread(target=original_embeddings, args=(embed, "phi0", pixels(), tmp_path, CPU)) for embed in embeds
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(embed.seen for embed in embeds) == [0, 0, 0, 400]
