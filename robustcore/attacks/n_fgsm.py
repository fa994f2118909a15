"""FGSM from noise that is wider than the ball (N-FGSM, de Jorge et al. 2022, arXiv 2202.01181): for training alone."""

from typing import Literal

from pydantic.dataclasses import dataclass

from robustcore.attacks.balls import Linf
from robustcore.attacks.climb import slope
from robustcore.noise import Noise
from robustcore.types import STRICT, Climb, Images, LossAt, Positive


@dataclass(frozen=True, config=STRICT)
class NFGSM:
    """Uniform noise of ``noise * eps``, then one step of eps at the noisy image; only the pixel box clips.

    The perturbation may therefore reach ``(1 + noise) * eps``: by design, since clipping it back to eps is what lets
    single-step training collapse. A survivor of it would say nothing about the ball, so no evaluation uses it.
    """

    ball: Linf
    noise: Positive = 2.0
    climb: Climb | None = None  # None: the default of the loss that trains
    kind: Literal["n_fgsm"] = "n_fgsm"

    gradients = 1
    random_start = True
    training_only = True

    def __call__(self, loss_at: LossAt, images: Images, noise: Noise) -> Images:
        """Perturbed images in the box, up to ``(1 + noise) * eps`` away."""
        offset = (2 * noise.uniform(tuple(images.shape[1:])) - 1) * (self.noise * self.ball.eps)
        noisy = (images + offset).clamp(0, 1)
        _, gradient = slope(loss_at, noisy)
        return (noisy + self.ball.eps * self.ball.steepest(gradient)).clamp(0, 1)
