"""Watches an attack for stalls: where a gradient is exactly zero, its sign is too, and the pixel never moves."""

import torch
from torch import Tensor

from robustcore.process import Process
from robustcore.types import Images, LossAt, PerImage


class ZeroGradients:
    """The share of pixels with a gradient of exactly zero, over every gradient taken through ``watch``.

    Counts stay on the device: watching costs no synchronisation.
    """

    def __init__(self) -> None:
        self._zeros: Tensor | None = None
        self._pixels = 0

    def watch(self, loss_at: LossAt) -> LossAt:
        """The same loss; whoever takes its gradient is counted."""

        def watched(pixels: Images) -> PerImage:
            if pixels.requires_grad:
                pixels.register_hook(self._count)
            return loss_at(pixels)

        return watched

    def _count(self, gradient: Tensor) -> None:
        zeros = (gradient == 0).sum()
        self._zeros = zeros if self._zeros is None else self._zeros + zeros
        self._pixels += gradient.numel()

    def take(self, process: Process) -> float:
        """The share in [0, 1] over all processes since it was last taken; 0 where no gradient was taken."""
        zeros = torch.zeros(()) if self._zeros is None else self._zeros
        counts = torch.stack([zeros.double(), torch.tensor(float(self._pixels), device=zeros.device)])
        found, seen = process.total(counts).tolist()
        self._zeros, self._pixels = None, 0
        return found / seen if seen else 0.0
