"""The random views that SimCLR contrasts: crops, rotations, mirrors, colours and noise, a whole batch at a time."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from robustcore.types import Images


@dataclass(frozen=True)
class Views:
    """How far a view may be from its image; the defaults are SimCLR's for small images (Chen et al. 2020, B.9)."""

    crop: float = 0.2  # smallest share of the image's area that a view shows, resized to the whole
    rotate: float = 0.0  # radians, at most, in both directions
    mirror: bool = True
    jitter: float = 0.4  # of brightness (each channel its own, hence colour) and of contrast, up to this share
    grey: float = 0.2  # share of the views without colour
    noise: float = 0.0  # standard deviation of pixel noise, in pixels of [0, 1]: a smoother encoder

    def __call__(self, images: Images, generator: torch.Generator) -> Images:
        """One view of each image (B, 3, H, W), of the same size; draws come from ``generator``, which is the CPU's."""
        draw = _Draw(len(images), generator, images.device)
        grid = F.affine_grid(self._placement(draw), list(images.shape), align_corners=False)
        seen = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
        seen = self._coloured(seen, draw)
        if self.noise:
            seen = seen + self.noise * torch.randn(images.shape, generator=generator).to(images.device)
        return seen.clamp(0, 1)

    def _placement(self, draw: "_Draw") -> Tensor:
        """(B, 2, 3): where in [-1, 1] x [-1, 1] of the image each point of the view is read."""
        aspect = draw(math.log(3 / 4), math.log(4 / 3)).div(2).exp()
        side = draw(self.crop, 1).sqrt()
        width, height = (side * aspect).clamp_max(1), (side / aspect).clamp_max(1)
        across, down = draw(-1, 1) * (1 - width), draw(-1, 1) * (1 - height)
        angle = draw(-self.rotate, self.rotate)
        if self.mirror:
            width = torch.where(draw(0, 1) < 0.5, -width, width)
        first = torch.stack([width * angle.cos(), -height * angle.sin(), across], dim=1)
        second = torch.stack([width * angle.sin(), height * angle.cos(), down], dim=1)
        return torch.stack([first, second], dim=1)

    def _coloured(self, images: Images, draw: "_Draw") -> Images:
        if self.jitter:
            low, high = 1 - self.jitter, 1 + self.jitter
            mean = images.mean(dim=(1, 2, 3), keepdim=True)
            images = (mean + (images - mean) * draw(low, high, 1, 1, 1)) * draw(low, high, 3, 1, 1)
        if self.grey:
            images = torch.where(draw(0, 1, 1, 1, 1) < self.grey, images.mean(dim=1, keepdim=True), images)
        return images


@dataclass(frozen=True)
class _Draw:
    count: int
    generator: torch.Generator
    device: torch.device

    def __call__(self, low: float, high: float, *shape: int) -> Tensor:
        """(B, *shape), uniform."""
        return (low + (high - low) * torch.rand(self.count, *shape, generator=self.generator)).to(self.device)
