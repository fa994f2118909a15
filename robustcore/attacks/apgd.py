"""Auto-PGD (Croce & Hein 2020, arXiv 2003.01690): steps that find their own length, image by image.

Everything that differs between images is a row of a tensor, also the number of the step: the loop asks the device for
no number, and images may join and leave in the middle (``Ascent`` is what AutoAttack runs, too).
"""

from dataclasses import dataclass as rows
from typing import Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from robustcore.attacks.balls import Ball
from robustcore.attacks.climb import Best, slope
from robustcore.attacks.rows import Look, Rows
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
        ascent = Ascent.start(
            self.ball, self.steps, images, self.ball.sample(images, noise) if self.random_start else images
        )
        for _ in range(self.steps):
            ascent.saw(Look(*slope(loss_at, ascent.points)))
        with torch.no_grad():
            ascent.best.keep(ascent.points, loss_at(ascent.points))
        return ascent.best.images


@rows
class Ascent(Rows):
    """Where each image is, how far it steps, and the best point it has seen; see ``Search``."""

    ball: Ball
    gaps: Tensor  # (B, steps + 1) int64: where a step has a checkpoint, the steps since the one before, else 0
    images: Images
    points: Images
    previous: Images
    best: Best
    gradient_at_best: Tensor
    pace: "Pace"
    step: Tensor

    @staticmethod
    def start(ball: Ball, steps: int, images: Images, start: Images) -> "Ascent":
        """Rows that go on from ``start``, for ``steps`` steps."""
        images, start = images.detach(), start.detach()
        best, step = Best(images), torch.zeros(len(images), dtype=torch.int64, device=images.device)
        gaps = torch.zeros(len(images), steps + 1, dtype=torch.int64, device=images.device)
        for number, gap in checkpoints(steps).items():
            gaps[:, number] = gap
        pace = Pace.start(2 * ball.eps, -best.loss)
        return Ascent(ball, gaps, images, start, start, best, torch.zeros_like(images), pace, step)

    def saw(self, look: Look) -> None:
        """One step up; at a checkpoint, images that are stuck go on from their best point at half the stride."""
        assert look.gradient is not None, "it climbs along the gradient"
        gradient, first = look.gradient, self.step == 0
        self.gradient_at_best = torch.where(self.best.keep(self.points, look.loss), gradient, self.gradient_at_best)
        self.pace.saw(look.loss, first)
        gap = self.gaps.gather(1, self.step[:, None].clamp_max(self.gaps.shape[1] - 1)).squeeze(1)
        stuck = _wide(self.pace.halve(self.best.loss, gap))
        points = torch.where(stuck, self.best.images, self.points)
        gradient = torch.where(stuck, self.gradient_at_best, gradient)
        plain = self._projected(points + self.pace.stride * self.ball.steepest(gradient))
        moved = points + (1 - _INERTIA) * (plain - points) + _INERTIA * (points - self.previous)
        self.previous, self.points = points, torch.where(_wide(first), plain, self._projected(moved))
        self.step = self.step + 1

    def _projected(self, points: Images) -> Images:
        return self.ball.project(points, self.images)


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


@rows
class Pace(Rows):
    """How far each image steps, and whether that still gets it higher."""

    stride: Tensor  # (B, 1, 1, 1)
    rises: PerImage
    halved: Tensor
    best: PerImage
    last: PerImage

    @staticmethod
    def start(stride: float, loss: PerImage) -> "Pace":
        """``loss`` is the one at the start; infinite where it is still to be seen."""
        strides = torch.full((len(loss), 1, 1, 1), stride, device=loss.device)
        return Pace(strides, torch.zeros_like(loss), torch.zeros_like(loss, dtype=torch.bool), loss, loss)

    def saw(self, loss: PerImage, first: Tensor) -> None:
        """The loss after one more step, or, where it is the ``first``, (B,) bool, at the start."""
        self.rises = self.rises + (loss > self.last)
        self.best = torch.where(first, loss, self.best)
        self.last = loss

    def halve(self, best: PerImage, gap: Tensor) -> Tensor:
        """Where ``gap`` (B,) is not 0, a checkpoint after so many steps: which images are stuck, bool (B,).

        They step half as far from now. Stuck: too few of the steps rose, or neither the stride nor the best loss is
        another than at the last one.
        """
        checked = gap > 0
        stuck = checked & ((self.rises < _RISING * gap) | (~self.halved & (best <= self.best)))
        self.rises = torch.where(checked, 0, self.rises)
        self.halved = torch.where(checked, stuck, self.halved)
        self.best = torch.where(checked, best, self.best)
        self.last = torch.where(stuck, best, self.last)
        self.stride = torch.where(_wide(stuck), self.stride / 2, self.stride)
        return stuck


def _wide(per_image: Tensor) -> Tensor:
    return per_image.reshape(-1, 1, 1, 1)
