"""Random numbers of an image: against SplitMix64 in plain integers, and what is true of any uniform and normal."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from robustcore.noise import Noise

WORD = 2**64
IMAGES = torch.arange(64)
SHAPE = (3, 16, 16)


def mixed(state: int) -> int:
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % WORD
    return state ^ (state >> 31)


def reference(seed: int, stream: int, image: int, draw: int, count: int) -> list[float]:
    golden = 0x9E3779B97F4A7C15
    key = seed
    for part in (stream, image):
        key = mixed((key * golden + part + 1) % WORD)
    states = ((key + (number + (draw << 40)) * golden) % WORD for number in range(1, count + 1))
    return [(mixed(state) >> 40) / 2**24 for state in states]


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**62])
@pytest.mark.parametrize("stream", [-1, 0, 7])
@pytest.mark.parametrize("draw", [0, 1, 3])
def test_uniform_numbers_are_those_of_splitmix64(seed: int, stream: int, draw: int) -> None:
    images = torch.tensor([0, 5, 10**9])
    drawn = Noise.of(seed, stream, images).uniform((7,), draw)
    assert drawn.tolist() == [reference(seed, stream, image, draw, 7) for image in images.tolist()]


def noise(seed: int = 0, stream: int = 0) -> Noise:
    return Noise.of(seed, stream, IMAGES)


def moments(values: Tensor) -> list[float]:
    return [values.double().pow(power).mean().item() for power in (1, 2, 3, 4)]


def test_uniform_numbers_have_the_moments_of_the_uniform_and_stay_below_one() -> None:
    values = noise().uniform(SHAPE)
    assert values.shape == (64, *SHAPE)
    assert values.dtype == torch.float32
    assert values.min() >= 0
    assert values.max() < 1
    assert moments(values) == pytest.approx([1 / 2, 1 / 3, 1 / 4, 1 / 5], abs=0.006)


def test_normal_numbers_have_the_moments_of_the_standard_normal_and_are_finite() -> None:
    values = noise().normal(SHAPE)
    assert values.shape == (64, *SHAPE)
    assert torch.isfinite(values).all()
    assert moments(values) == pytest.approx([0, 1, 0, 3], abs=0.08)
    assert (values.abs() < 1).float().mean().item() == pytest.approx(math.erf(math.sqrt(0.5)), abs=0.01)


def test_neighbouring_images_pixels_steps_seeds_and_draws_are_uncorrelated() -> None:
    many = noise().uniform(SHAPE).flatten(1)
    others = [
        (many[:-1], many[1:]),
        (many[:, :-1], many[:, 1:]),
        *pairwise([noise(seed=seed).uniform(SHAPE) for seed in range(3)]),
        *pairwise([noise(stream=stream).uniform(SHAPE) for stream in (-1, 0, 1)]),
        *pairwise([noise().uniform(SHAPE, draw) for draw in range(3)]),
        *pairwise([noise().normal(SHAPE, draw) for draw in range(3)]),
        (noise().uniform(SHAPE), noise().normal(SHAPE)),
    ]
    for one, other in others:
        together = torch.stack([one.flatten(), other.flatten()])
        assert abs(torch.corrcoef(together)[0, 1].item()) < 0.025


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_an_image_has_its_numbers_whatever_batch_it_is_in(kind: str) -> None:
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    together = getattr(noise(), kind)(SHAPE)
    assert torch.equal(getattr(Noise.of(0, 0, IMAGES[order]), kind)(SHAPE), together[order])
    assert torch.equal(getattr(Noise.of(0, 0, IMAGES[17:18]), kind)(SHAPE), together[17:18])


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    values = noise().normal(SHAPE)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(noise().normal(SHAPE), values)
