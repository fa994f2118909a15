"""Projected gradient descent (Madry et al. 2018), the inner loop of every adversarial fine-tuning here."""

from typing import Literal

import torch
from pydantic.dataclasses import dataclass

from robustcore.attacks.balls import Ball
from robustcore.attacks.climb import Best, slope
from robustcore.noise import Noise
from robustcore.types import STRICT, Climb, Flag, Images, LossAt, Positive, PositiveCount


@dataclass(frozen=True, config=STRICT)
class PGD:
    """Climb the loss in strides of ``stride * eps``, returning to the ball after each; keep the best of all points.

    The stride is a share of eps because eps is a knob: the step stays sensible at every radius.
    """

    ball: Ball
    steps: PositiveCount = 10
    stride: Positive = 0.25
    random_start: Flag = True
    climb: Climb | None = None  # None: the default of the loss that trains; cross-entropy in an evaluation
    kind: Literal["pgd"] = "pgd"

    training_only = False

    @property
    def gradients(self) -> int:
        """Gradients it takes for each image."""
        return self.steps

    def __call__(self, loss_at: LossAt, images: Images, noise: Noise) -> Images:
        """Perturbed images in ball and box: per image, the iterate of the highest loss, start and end included."""
        perturbed = self.ball.sample(images, noise) if self.random_start else images
        best = Best(images)
        for _ in range(self.steps):
            loss, gradient = slope(loss_at, perturbed)
            best.keep(perturbed, loss)
            stride = self.stride * self.ball.eps * self.ball.steepest(gradient)
            perturbed = self.ball.project(perturbed + stride, images)
        with torch.no_grad():
            best.keep(perturbed, loss_at(perturbed))
        return best.images
