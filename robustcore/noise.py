"""Random numbers that belong to an image: they depend on (seed, stream, image) alone.

A random start must not change with the batch size, the number of workers or the device, so the numbers come from
a counter-based generator (SplitMix64, Steele et al. 2014) computed with integer tensors, not from a global state.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_FIRST = -4658895280553007687  # 0xBF58476D1CE4E5B9
_SECOND = -7723592293110705685  # 0x94D049BB133111EB


@dataclass(frozen=True)
class Noise:
    """One key an image; every draw from it is a function of the key and the draw's number."""

    keys: Tensor  # (B,), int64

    @staticmethod
    def of(seed: int, stream: int, images: Tensor) -> "Noise":
        """Keys for ``images`` (B,), their int64 positions in the data set; ``stream`` tells uses apart (the step)."""
        key = torch.tensor(seed, dtype=torch.int64, device=images.device)
        for part in (stream, images.to(torch.int64)):
            key = _mix(key * _GOLDEN + part + 1)
        return Noise(key)

    def branch(self, number: int | Tensor) -> "Noise":
        """Other numbers for another use of the same images; ``number``, one or (B,), tells uses apart."""
        return Noise(_mix(self.keys * _GOLDEN + number + 1))

    def uniform(self, shape: tuple[int, ...], draw: int | Tensor = 0) -> Tensor:
        """(B, *shape) float32, uniform in [0, 1). ``draw`` may differ from image to image: (B, 1) int64."""
        count = math.prod(shape)
        counter = torch.arange(1, count + 1, device=self.keys.device) + draw * (1 << 40)
        bits = _mix(self.keys[:, None] + counter * _GOLDEN)
        return (_shift(bits, 40).to(torch.float32) * 2.0**-24).reshape(-1, *shape)

    def normal(self, shape: tuple[int, ...], draw: int = 0) -> Tensor:
        """(B, *shape) float32, standard normal (Box-Muller)."""
        radius = torch.sqrt(-2 * torch.log1p(-self.uniform(shape, 2 * draw + 1)))
        return radius * torch.cos(2 * math.pi * self.uniform(shape, 2 * draw + 2))


def _mix(state: Tensor) -> Tensor:
    state = (state ^ _shift(state, 30)) * _FIRST
    state = (state ^ _shift(state, 27)) * _SECOND
    return state ^ _shift(state, 31)


def _shift(state: Tensor, bits: int) -> Tensor:
    """Shift right without dragging the sign along."""
    return (state >> bits) & ((1 << (64 - bits)) - 1)
