"""Square (Andriushchenko et al. 2020, arXiv 1912.00049): random squares that are kept where the loss rises.

It asks for no gradient, so it gets through where gradients are masked. Every row draws its own squares.
"""

import math
from dataclasses import dataclass as rows
from functools import cache

import torch
from torch import Tensor

from robustcore.attacks.balls import Ball, Linf
from robustcore.attacks.climb import Best
from robustcore.attacks.rows import Look, Rows
from robustcore.noise import Noise
from robustcore.types import Images

_FIRST_SHARE = 0.8  # of the pixels are in the first squares
_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # queries
_SMALLEST_L2 = 3  # pixels: an l2 square needs a middle
_TILES = 5  # under l2, tiles along a side at the start
_TINY = 1e-12


@rows
class Squares(Rows):
    """The best point of each image so far, and the one with another square in it; see ``Search``.

    AutoAttack keeps the schedule of 10,000 queries also where it stops after fewer.
    """

    ball: Ball
    images: Images
    best: Best
    points: Images
    keys: Tensor  # of each row's random numbers
    step: Tensor

    @staticmethod
    def start(ball: Ball, images: Images, noise: Noise) -> "Squares":
        """Stripes of one pixel under linf, a tiling of bumps under l2: the first points to look at."""
        offset = _stripes(ball.eps, images, noise) if ball.kind == "linf" else _tiled(ball.eps, images, noise)
        first = (images + offset).clamp(0, 1)
        step = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        return Squares(ball, images, Best(images), first, noise.keys, step)

    def saw(self, look: Look) -> None:
        """Keep the square where the loss has risen; draw the next one."""
        self.best.keep(self.points, look.loss)
        self.step = self.step + 1
        # Draws below 4 are those of the start.
        numbers = Noise(self.keys).uniform((8,), self.step[:, None] + 4)
        change = self._square if isinstance(self.ball, Linf) else self._bump
        self.points = change(numbers)

    def _square(self, numbers: Tensor) -> Images:
        """All pixels of one square go to the rim of the ball, each channel to a random side."""
        rim = (self.images + self.ball.eps * _signs(numbers[:, 4:7])).clamp(0, 1)
        inside = self._window(numbers[:, :2]).inside()
        # Exact at 0 and 1, and several times as fast as ``where`` on a CPU.
        return torch.lerp(self.best.images, rim, inside.to(rim.dtype))

    def _bump(self, numbers: Tensor) -> Images:
        """What one window has of the norm, and what the ball has left of it, goes as a bump into another one."""
        eps, offset = self.ball.eps, self.best.images - self.images
        window = self._window(numbers[:, :2])
        there, given = window.inside(), self._window(numbers[:, 2:4]).inside()
        bump = window.bump(numbers[:, 7]) * _signs(numbers[:, 4:7])
        bump = _unit(bump + _unit(offset * there))
        unused = (eps**2 - offset.square().sum(dim=(1, 2, 3), keepdim=True)).clamp_min(0) / offset.shape[1]
        freed = (offset * (there | given)).square().sum(dim=(2, 3), keepdim=True)
        offset = torch.where(there, bump * (unused + freed).sqrt(), offset * ~given)
        return (self.images + eps * self.ball.steepest(offset)).clamp(0, 1)

    def _window(self, numbers: Tensor) -> "_Window":
        """As large as the schedule says at each row's step, somewhere in the image."""
        return _Window(_schedule(*self.images.shape[2:], self.ball, self.step.device), self.step - 1, numbers)


@rows
class _Schedule:
    """Sides and bumps after so many halvings; on the device once and for all, for a copy would be waited for."""

    height: int
    width: int
    after: Tensor  # (H,) int64: more queries than that
    sides: Tensor  # (H + 1,) int64
    bumps: Tensor  # (H + 1, largest, largest), with zeros around the smaller ones


@cache
def _schedule(height: int, width: int, ball: Ball, device: torch.device) -> _Schedule:
    shares = [_FIRST_SHARE / 2**halvings for halvings in range(len(_HALVED_AFTER) + 1)]
    sides = [_side(share, height, width, ball) for share in shares]
    bumps = torch.zeros(len(sides), max(sides), max(sides))
    for place, side in zip(bumps, sides, strict=True):
        if side > 1:
            place[:side, :side] = bump(side)
    after = torch.tensor(_HALVED_AFTER, device=device)
    return _Schedule(height, width, after, torch.tensor(sides, device=device), bumps.to(device))


def _side(share: float, height: int, width: int, ball: Ball) -> int:
    """Of a square with this share of the pixels; an l2 square is odd, and at least 3."""
    side, limit = round(math.sqrt(share * height * width)), min(height, width)
    if isinstance(ball, Linf):
        return min(max(side, 1), limit)
    side = max(side + 1 - side % 2, _SMALLEST_L2)
    return side if side <= limit else limit - 1 + limit % 2


class _Window:
    """The square of each row after so many ``queries`` (B,); ``numbers`` (B, 2) in [0, 1) say where."""

    def __init__(self, schedule: _Schedule, queries: Tensor, numbers: Tensor) -> None:
        self._halvings = (queries[:, None] > schedule.after).sum(dim=1)
        self._side, self._bumps = schedule.sides[self._halvings][:, None], schedule.bumps
        rows, columns = (torch.arange(size, device=queries.device) for size in (schedule.height, schedule.width))
        self._rows = rows - (numbers[:, :1] * (schedule.height - self._side + 1)).long()
        self._columns = columns - (numbers[:, 1:] * (schedule.width - self._side + 1)).long()

    def inside(self) -> Tensor:
        """(B, 1, H, W) bool."""
        rows, columns = ((axis >= 0) & (axis < self._side) for axis in (self._rows, self._columns))
        return (rows[:, :, None] & columns[:, None, :])[:, None]

    def bump(self, coin: Tensor) -> Tensor:
        """(B, 1, H, W): ``bump`` of its side in the window, zero outside, lying or standing by ``coin`` (B,)."""
        table, halvings = self._bumps, self._halvings[:, None, None]
        rows, columns = (axis.clamp(0, table.shape[1] - 1) for axis in (self._rows, self._columns))
        rows, columns = rows[:, :, None], columns[:, None, :]
        lying, standing = table[halvings, rows, columns], table[halvings, columns, rows]
        return torch.where(coin[:, None, None] < 0.5, lying, standing)[:, None] * self.inside()


def bump(side: int) -> Tensor:
    """(side, side) of norm 1: a positive hill in the upper half and a negative one in the lower half."""
    upper = side // 2
    return _normal(torch.cat([_hill(upper, side), -_hill(side - upper, side)]))


def _hill(height: int, width: int) -> Tensor:
    """Of norm 1, falling from the middle in square rings: ring d has the sum of 1 / k**2 for k from d + 1."""
    rows, columns = torch.arange(height) - height // 2, torch.arange(width) - width // 2
    ring = torch.maximum(rows.abs()[:, None], columns.abs()[None, :])
    terms = 1 / torch.arange(1, max(height, width) // 2 + 2).square()
    return _normal(terms.flip(0).cumsum(0).flip(0)[ring])


def _normal(values: Tensor) -> Tensor:
    return values / values.square().sum().sqrt()


def _stripes(eps: float, images: Images, noise: Noise) -> Tensor:
    _, channels, _, width = images.shape
    return eps * torch.where(noise.uniform((channels, 1, width)) < 0.5, 1.0, -1.0)


def _tiled(eps: float, images: Images, noise: Noise) -> Tensor:
    """A bump in every tile, each channel with a random sign; lying or standing, image by image."""
    channels, height, width = images.shape[1:]
    side = max(min(height, width) // _TILES, 2)
    down, across = height // side, width // side
    signs = torch.where(noise.uniform((channels, down, 1, across, 1)) < 0.5, 1.0, -1.0)
    one = bump(side).to(images.device)
    coin = noise.uniform((1,), 1).reshape(-1, 1, 1) < 0.5
    tile = torch.where(coin, one, one.T)[:, None, None, :, None, :]
    tiles = (signs * tile).reshape(len(images), channels, down * side, across * side)
    offset = torch.zeros_like(images)
    top, left = (height - down * side) // 2, (width - across * side) // 2
    offset[:, :, top : top + down * side, left : left + across * side] = tiles
    return eps * offset / offset.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()


def _signs(numbers: Tensor) -> Tensor:
    return torch.where(numbers < 0.5, 1.0, -1.0).reshape(*numbers.shape, 1, 1)


def _unit(offset: Tensor) -> Tensor:
    """Each channel of norm 1."""
    return offset / offset.square().sum(dim=(2, 3), keepdim=True).sqrt().clamp_min(_TINY)
