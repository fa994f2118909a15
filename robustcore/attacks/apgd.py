"""Auto-PGD (Croce & Hein 2020, arXiv 2003.01690): steps that find their own length, image by image.

Everything that differs between images is a tensor: the loop asks the device for no number, so it never waits for it.
"""

from typing import Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from robustcore.attacks.balls import Ball
from robustcore.attacks.climb import Best, slope
from robustcore.noise import Noise
from robustcore.types import STRICT, Climb, Flag, Images, LossAt, PerImage, PositiveCount

_INERTIA = 0.25  # the share of the step before in each step
_RISING = 0.75  # of the steps between two checkpoints: at least this share must climb


@dataclass(frozen=True, config=STRICT)
class APGD:
    """PGD with momentum, a first step of 2 eps, and checkpoints where images that climb no more go on at half a step.

    They go on from their best point so far. The checkpoints depend on ``steps``, so fewer steps are not the first
    steps of more.
    """

    ball: Ball
    steps: PositiveCount = 10
    random_start: Flag = True
    climb: Climb | None = None  # None: the default of the loss that trains; cross-entropy in an evaluation
    kind: Literal["apgd"] = "apgd"

    training_only = False

    @property
    def gradients(self) -> int:
        """Gradients it takes for each image."""
        return self.steps

    def __call__(self, loss_at: LossAt, images: Images, noise: Noise) -> Images:
        """Perturbed images in ball and box: per image, the iterate of the highest loss, start and end included."""
        start = self.ball.sample(images, noise) if self.random_start else images
        loss, gradient = slope(loss_at, start)
        best, pace = Best(images), Pace(2 * self.ball.eps, loss)
        gradient_at_best = torch.where(best.keep(start, loss), gradient, 0)
        previous, perturbed = start, self._climbed(start, gradient, pace.stride, images)
        gaps = checkpoints(self.steps)
        for step in range(1, self.steps):
            loss, gradient = slope(loss_at, perturbed)
            gradient_at_best = torch.where(best.keep(perturbed, loss), gradient, gradient_at_best)
            pace.saw(loss)
            if step in gaps:
                stuck = pace.halve(best.loss, gaps[step])
                perturbed = torch.where(stuck, best.images, perturbed)
                gradient = torch.where(stuck, gradient_at_best, gradient)
            plain = self._climbed(perturbed, gradient, pace.stride, images)
            moved = perturbed + (1 - _INERTIA) * (plain - perturbed) + _INERTIA * (perturbed - previous)
            previous, perturbed = perturbed, self.ball.project(moved, images)
        with torch.no_grad():
            best.keep(perturbed, loss_at(perturbed))
        return best.images

    def _climbed(self, perturbed: Images, gradient: Tensor, stride: Tensor, images: Images) -> Images:
        return self.ball.project(perturbed + stride * self.ball.steepest(gradient), images)


def checkpoints(steps: int) -> dict[int, int]:
    """Each step after which the pace is checked, and the number of steps since the check before.

    At 22 % of the steps, then after 19 %, 16 %, ... and at last every 6 %, rounded up. In whole percents, because
    0.57 * 100 is a little more than 57.
    """
    gaps: dict[int, int] = {}
    percent, gap, last = 22, 22, 0
    while (step := -(-percent * steps // 100)) < steps:
        if step > last:
            gaps[step], last = step - last, step
        gap = max(gap - 3, 6)
        percent += gap
    return gaps


class Pace:
    """How far each image steps, and whether that still gets it higher."""

    def __init__(self, stride: float, loss: PerImage) -> None:
        self.stride = torch.full((len(loss), 1, 1, 1), stride, device=loss.device)
        self._rises = torch.zeros_like(loss)
        self._halved = torch.zeros_like(loss, dtype=torch.bool)
        self._best = self._last = loss

    def saw(self, loss: PerImage) -> None:
        """The loss after one more step."""
        self._rises += loss > self._last
        self._last = loss

    def halve(self, best: PerImage, gap: int) -> Tensor:
        """A checkpoint after ``gap`` steps: which images are stuck, bool (B, 1, 1, 1), and step half as far from now.

        Stuck: too few of the steps rose, or neither the stride nor the best loss is another than at the last one.
        """
        stuck = (self._rises < _RISING * gap) | (~self._halved & (best <= self._best))
        self._rises = torch.zeros_like(self._rises)
        self._halved, self._best = stuck, best
        self._last = torch.where(stuck, best, self._last)
        stuck = stuck.reshape(-1, 1, 1, 1)
        self.stride = torch.where(stuck, self.stride / 2, self.stride)
        return stuck
