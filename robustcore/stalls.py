"""Watches an attack for stalls: where a gradient is exactly zero, its sign is too, and the pixel never moves."""

from threading import Lock

import torch
from torch import Tensor

from robustcore.process import Process
from robustcore.types import Images, LossAt, PerImage


class ZeroGradients:
    """The share of pixels with a gradient of exactly zero, over every gradient taken through ``watch``.

    Counts stay on the device: watching costs no synchronisation.
    """

    def __init__(self) -> None:
        self._found: Tensor | None = None  # pixels without a gradient, and images where most pixels have none
        self._pixels = self._images = 0
        self._lock = Lock()  # several threads may attack at once

    def watch(self, loss_at: LossAt) -> LossAt:
        """The same loss; whoever takes its gradient is counted."""

        def watched(pixels: Images) -> PerImage:
            if pixels.requires_grad:
                pixels.register_hook(self._count)
            return loss_at(pixels)

        return watched

    def _count(self, gradient: Tensor) -> None:
        zeros = (gradient == 0).flatten(1).sum(dim=1)
        found = torch.stack([zeros.sum(), (2 * zeros > gradient[0].numel()).sum()])
        with self._lock:
            self._found = found if self._found is None else self._found + found
            self._pixels += gradient.numel()
            self._images += len(gradient)

    def counts(self) -> dict[str, float]:
        """``zeros`` of ``pixels``, and the gradients ``stalled``, most of whose pixels are zeros, of all ``taken``."""
        zeros, stalled = (0, 0) if self._found is None else self._found.tolist()
        return {"zeros": zeros, "pixels": self._pixels, "stalled": stalled, "taken": self._images}

    def tensor(self, process: Process) -> Tensor | None:
        """What all processes have counted since it was last taken, to be put ``back`` by one of others; None without.

        All processes take gradients at the same steps, so that none has it without the others.
        """
        if self._found is None:
            return None
        return process.total(torch.tensor([*self._found.tolist(), self._pixels, self._images])).long()

    def back(self, counted: Tensor) -> None:
        """Go on counting from there."""
        self._found = counted[:2]
        self._pixels, self._images = counted[2:].tolist()

    def take(self, process: Process) -> float:
        """The share in [0, 1] over all processes since it was last taken; 0 where no gradient was taken."""
        counts = self.counts()
        found, seen = process.total(torch.tensor([counts["zeros"], counts["pixels"]])).tolist()
        self._found, self._pixels, self._images = None, 0, 0
        return found / seen if seen else 0.0
