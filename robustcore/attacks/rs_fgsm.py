"""FGSM from a random start (RS-FGSM, Wong et al. 2020, arXiv 2001.03994): adversarial training at one step."""

from typing import Literal

from pydantic.dataclasses import dataclass

from robustcore.attacks.balls import Ball
from robustcore.attacks.climb import slope
from robustcore.noise import Noise
from robustcore.types import STRICT, Climb, Images, LossAt, Positive


@dataclass(frozen=True, config=STRICT)
class RSFGSM:
    """From a uniform point of the ball, one step of ``stride * eps`` along the steepest direction, back into the ball.

    Training with it may collapse to a model that only this step does not fool (catastrophic overfitting).
    """

    ball: Ball
    stride: Positive = 1.25
    climb: Climb | None = None  # None: the default of the loss that trains; cross-entropy in an evaluation
    kind: Literal["rs_fgsm"] = "rs_fgsm"

    gradients = 1
    random_start = True
    training_only = False

    def __call__(self, loss_at: LossAt, images: Images, noise: Noise) -> Images:
        """Perturbed images in ball and box: where the step ends, better or not."""
        start = self.ball.sample(images, noise)
        _, gradient = slope(loss_at, start)
        return self.ball.project(start + self.stride * self.ball.eps * self.ball.steepest(gradient), images)
