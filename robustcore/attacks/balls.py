"""What an attacker may do to an image: stay in a ball of radius eps around it, and inside the pixel box [0, 1]."""

import math
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from robustcore.noise import Noise
from robustcore.types import STRICT, Images, NonNegative

_TINY = 1e-12
_SMALLEST = torch.finfo(torch.float32).tiny


def _within_pixel_range(eps: float) -> float:
    if eps > 1:
        raise ValueError(f"eps is in pixels of [0, 1] and cannot exceed 1, got {eps:g}; did you mean {eps:g}/255?")
    return eps


@dataclass(frozen=True, config=STRICT)
class Linf:
    """No pixel moves by more than ``eps`` (a share of the pixel range [0, 1], written ``4/255``)."""

    eps: Annotated[NonNegative, AfterValidator(_within_pixel_range)]
    kind: Literal["linf"] = "linf"

    def sample(self, images: Images, noise: Noise) -> Images:
        """Uniform in the ball, then clamped to the pixel box."""
        offset = (2 * noise.uniform(tuple(images.shape[1:])) - 1) * self.eps
        return (images + offset).clamp(0, 1)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The direction of norm 1 that climbs fastest: the gradient's sign."""
        return gradient.sign()

    def norm(self, offset: Tensor) -> Tensor:
        """How far each offset goes, (B, 1, 1, 1)."""
        return offset.abs().amax(dim=(1, 2, 3), keepdim=True)

    def shorten(self, offset: Tensor) -> Tensor:
        """The nearest offset in the ball around zero; the box is left out of it."""
        return offset.clamp(-self.eps, self.eps)

    def project(self, perturbed: Images, images: Images) -> Images:
        """The nearest point of ball and box."""
        return torch.clamp(perturbed, images - self.eps, images + self.eps).clamp(0, 1)


@dataclass(frozen=True, config=STRICT)
class L2:
    """The whole image moves by at most ``eps`` in Euclidean distance over pixels of [0, 1]."""

    eps: NonNegative
    kind: Literal["l2"] = "l2"

    def sample(self, images: Images, noise: Noise) -> Images:
        """Uniform in the ball, then clamped to the pixel box."""
        shape = tuple(images.shape[1:])
        direction = self.steepest(noise.normal(shape))
        radius = noise.uniform((1,)) ** (1 / math.prod(shape)) * self.eps
        return (images + direction * radius.reshape(-1, 1, 1, 1)).clamp(0, 1)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The direction of norm 1 that climbs fastest: the gradient, normalised, however small it is."""
        largest = gradient.abs().amax(dim=(1, 2, 3), keepdim=True)
        gradient = gradient / largest.clamp_min(_SMALLEST)  # or its squares underflow
        return gradient / self.norm(gradient).clamp_min(_TINY)

    def norm(self, offset: Tensor) -> Tensor:
        """How far each offset goes, (B, 1, 1, 1)."""
        return offset.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()

    def shorten(self, offset: Tensor) -> Tensor:
        """The nearest offset in the ball around zero; the box is left out of it."""
        return offset * (self.eps / self.norm(offset).clamp_min(_TINY)).clamp_max(1)

    def project(self, perturbed: Images, images: Images) -> Images:
        """Scaled back into the ball, then clamped to the box, which only brings it nearer to ``images``."""
        return (images + self.shorten(perturbed - images)).clamp(0, 1)


Ball = Annotated[Linf | L2, Field(discriminator="kind")]
