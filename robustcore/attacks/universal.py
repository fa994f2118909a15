"""One perturbation for all images: the inner maximisation of AdvCLIP-LoRA (arXiv 2505.15130).

The training loop keeps delta across batches, workers and resumes through ``start``, ``gradient``, ``ascend`` and
``apply``; a call is one batch that starts over.
"""

from typing import Literal

from pydantic.dataclasses import dataclass
from torch import Tensor

from robustcore.attacks.balls import Ball
from robustcore.attacks.climb import slope
from robustcore.noise import Noise
from robustcore.types import STRICT, Climb, Images, LossAt, Positive, PositiveCount


@dataclass(frozen=True, config=STRICT)
class Universal:
    """``steps`` ascents a batch of ``stride * eps`` each, on the mean loss, by one delta in the ball.

    What a batch gets depends on the batches before it and on the images beside it, so no evaluation uses it.
    """

    ball: Ball
    steps: PositiveCount = 1
    stride: Positive = 1.0
    climb: Climb | None = None  # None: the default of the loss that trains
    kind: Literal["universal"] = "universal"

    random_start = False
    training_only = True

    @property
    def gradients(self) -> int:
        """Gradients it takes for each image."""
        return self.steps

    def __call__(self, loss_at: LossAt, images: Images, noise: Noise) -> Images:
        """Perturbed images in ball and box, by what ``steps`` ascents make of a delta of zero."""
        delta = self.start(images)
        for _ in range(self.steps):
            delta = self.ascend(delta, self.gradient(loss_at, images, delta))
        return self.apply(images, delta)

    def start(self, images: Images) -> Tensor:
        """The delta before the first batch: zeros, (3, H, W)."""
        return images.new_zeros(images.shape[1:])

    def gradient(self, loss_at: LossAt, images: Images, delta: Tensor) -> Tensor:
        """(3, H, W), summed over the images, so that workers may add up theirs; the length does not matter.

        The box is not differentiated through: a pixel that it clips in every image still knows the way back.
        """
        _, gradient = slope(loss_at, self.apply(images, delta))
        return gradient.sum(dim=0)

    def ascend(self, delta: Tensor, gradient: Tensor) -> Tensor:
        """One step along the steepest direction of ``gradient`` (3, H, W), back into the ball."""
        step = self.stride * self.ball.eps * self.ball.steepest(gradient[None])
        return self.ball.shorten(delta[None] + step)[0]

    def apply(self, images: Images, delta: Tensor) -> Images:
        """``images + delta``, clamped to the pixel box."""
        return (images + delta).clamp(0, 1)
