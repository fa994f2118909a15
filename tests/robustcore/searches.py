"""Every search that AutoAttack runs, on every ball, and what is shown to them without a model."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from robustcore.attacks import L2, Linf
from robustcore.attacks.apgd import Ascent
from robustcore.attacks.fab import Boundary
from robustcore.attacks.rows import Look, Search
from robustcore.attacks.square import Squares
from robustcore.noise import Noise

SHAPE = (6, 3, 7, 7)
STEPS = 12
BALLS = [Linf(8 / 255), L2(0.5)]
Started = Callable[[Any, Tensor, Noise], Search]
SEARCHES: dict[str, Started] = {
    "apgd": lambda ball, images, noise: Ascent.start(ball, STEPS, images, ball.sample(images, noise)),
    "fab": lambda ball, images, noise: Boundary.start(ball, images),
    "square": Squares.start,
}
WEIGHTS = torch.randn(SHAPE[1:], generator=torch.Generator().manual_seed(2))


def pixels() -> Tensor:
    """Images, the first of which has pixels at both walls of the box."""
    images = torch.rand(SHAPE, generator=torch.Generator().manual_seed(1))
    images[0, 0], images[0, 1] = 0, 1
    return images


def noise(count: int = SHAPE[0]) -> Noise:
    return Noise.of(0, 0, torch.arange(count))


def look_at(points: Tensor) -> Look:
    """A bumpy loss, below zero at first, and what is above zero is wrong."""
    at = points.detach().requires_grad_()
    with torch.enable_grad():
        loss = torch.sin(9 * at * WEIGHTS).sum(dim=(1, 2, 3)) - 2
        (gradient,) = torch.autograd.grad(loss.sum(), at)
    return Look(loss.detach(), gradient, loss.detach() > 0)


def walked(search: Search, looks: int) -> list[Tensor]:
    """The points of so many looks."""
    points = []
    for _ in range(looks):
        points.append(search.points)
        search.saw(look_at(search.points))
    return points
