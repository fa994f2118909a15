"""What every gradient attack shares: the slope of the loss at some pixels, and the best pixels seen so far."""

import torch
from torch import Tensor

from robustcore.attacks.rows import Rows
from robustcore.types import Images, LossAt, PerImage


def slope(loss_at: LossAt, perturbed: Images) -> tuple[PerImage, Tensor]:
    """Loss and its gradient in the pixels. ``autograd.grad``, so that no gradient ever reaches a weight."""
    pixels = perturbed.detach().requires_grad_()
    with torch.enable_grad():
        loss = loss_at(pixels)
        (gradient,) = torch.autograd.grad(loss.sum(), pixels)
    return loss.detach(), gradient


class Best(Rows):
    """The pixels of the highest loss so far, image by image."""

    def __init__(self, images: Images) -> None:
        self.images = images.detach()
        self.loss = torch.full((len(images),), -torch.inf, device=images.device)

    def keep(self, perturbed: Images, loss: PerImage) -> Tensor:
        """Take over each image whose loss is higher here; which ones, bool (B, 1, 1, 1)."""
        better = loss > self.loss
        self.loss = torch.where(better, loss, self.loss)
        better = better.reshape(-1, 1, 1, 1)
        self.images = torch.where(better, perturbed.detach(), self.images)
        return better
