"""The fast gradient sign method (Goodfellow et al. 2015): one step to the rim of the ball."""

from typing import Literal

from pydantic.dataclasses import dataclass

from robustcore.attacks.balls import Ball
from robustcore.attacks.climb import slope
from robustcore.noise import Noise
from robustcore.types import STRICT, Climb, Images, LossAt


@dataclass(frozen=True, config=STRICT)
class FGSM:
    """One step of eps along the steepest direction, from the image itself."""

    ball: Ball
    climb: Climb | None = None  # None: the default of the loss that trains; cross-entropy in an evaluation
    kind: Literal["fgsm"] = "fgsm"

    gradients = 1
    random_start = False
    training_only = False

    def __call__(self, loss_at: LossAt, images: Images, noise: Noise) -> Images:
        """Perturbed images in ball and box."""
        _, gradient = slope(loss_at, images)
        return self.ball.project(images + self.ball.eps * self.ball.steepest(gradient), images)
