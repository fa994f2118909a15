"""Mistakes of published robust fine-tuning code, written as replacements for what is right in robustcore."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustcore.attacks import PGD, Linf
from robustcore.attacks.climb import Best, slope
from robustcore.data import Pixels
from robustcore.data.images import as_pixels
from robustcore.descent import Descent
from robustcore.evaluation import survivors
from robustcore.losses import Reference
from robustcore.models import Encoder, batch_statistics
from robustcore.models.lora import dropped
from robustcore.noise import Noise
from robustcore.types import Images, LossAt, PerImage

CPU = torch.device("cpu")


def in_normalised_space(encoder: Encoder, images: Images, eps: float) -> Images:
    """The attack is given what the normaliser has made: 1, and its box clamps that."""
    normalised, noise = (images - encoder.mean) / encoder.std, Noise.of(0, 0, torch.arange(len(images)))
    attack = PGD(Linf(eps), steps=2, stride=2)
    perturbed = attack(lambda at: encoder.visual(at).square().sum(dim=1), normalised, noise)
    return perturbed * encoder.std + encoder.mean


def by_backward(loss_at: LossAt, perturbed: Images) -> tuple[PerImage, Tensor]:
    """For ``slope``: 3."""
    pixels = perturbed.detach().requires_grad_()
    loss = loss_at(pixels)
    loss.sum().backward()
    assert pixels.grad is not None
    return loss.detach(), pixels.grad


def attacked_under_another_mask(self: Descent, *given: Any) -> Images:
    """For ``Descent._attacked``: dropout of its own, 4."""
    with dropped(self._encoder, 1, 99):
        return _attacked(self, *given)


_attacked = Descent._attacked


def training_mode_to_descend(self: Descent, update: bool) -> Any:
    """For ``Descent._statistics``: attacks in evaluation mode, 4."""
    return batch_statistics(self._encoder, update) if update else _statistics(self, update)


_statistics = Descent._statistics


def keep_the_last(self: Best, perturbed: Images, loss: PerImage) -> Tensor:
    """For ``Best.keep``: 5."""
    self.images, self.loss = perturbed.detach(), loss
    return torch.ones(len(loss), 1, 1, 1, dtype=torch.bool)


def keep_by_argmax(encoder: Encoder, labels: Tensor) -> Callable[..., Tensor]:
    """For ``Best.keep``: an embedding taken for logits, 5."""

    def keep(self: Best, perturbed: Images, loss: PerImage) -> Tensor:
        fooled = (encoder(perturbed).argmax(dim=1) != labels).reshape(-1, 1, 1, 1)
        self.images = torch.where(fooled, perturbed.detach(), self.images)
        return fooled

    return keep


def momentum_of_signs(share: float) -> Callable[..., Tensor]:
    """For ``Linf.steepest``: 6."""
    velocity = torch.zeros(())

    def steepest(self: Linf, gradient: Tensor) -> Tensor:
        nonlocal velocity
        velocity = ((1 - share) * gradient.sign() + share * velocity).sign()
        return velocity

    return steepest


def fewer_for_attacks(encoder: Encoder, attacks: Any, images: Images, reference: Reference, *rest: Any) -> Any:
    """For ``survivors``: attacked accuracy on a part of the images, 10."""
    few, (noise, precision, watches) = torch.arange(len(images) // 2 + 1), rest
    (clean,) = survivors(encoder, attacks[:1], images, reference, noise, precision, watches[:1])
    some = images[few], reference.at(few), Noise(noise.keys[few]), precision, watches[1:]
    return [clean, *(torch.cat([one, clean[len(few) :]]) for one in survivors(encoder, attacks[1:], *some))]


def asking_whether_it_is_a_number(loss_at: LossAt, perturbed: Images) -> tuple[PerImage, Tensor]:
    """For ``slope``: 11."""
    loss, gradient = slope(loss_at, perturbed)
    if gradient.isnan().any():
        raise ArithmeticError
    return loss, gradient


def written_by_mask(loss_at: LossAt, perturbed: Images) -> tuple[PerImage, Tensor]:
    """For ``slope``: 11."""
    loss, gradient = slope(loss_at, perturbed)
    gradient[gradient.abs() < 1e-12] = 0
    return loss, gradient


def embedding_again(self: Descent, batch: Any) -> None:
    """Beside ``Descent._reference``: 12."""
    with torch.no_grad():
        deepcopy(self._encoder)(as_pixels(batch.pixels, CPU))


def of_these_weights(encoder: Encoder) -> Callable[..., Any]:
    """For ``original_embeddings``: the reference is hard-coded, 13."""

    @torch.no_grad()
    def embeddings(embed: Any, fingerprint: str, pixels: Pixels, *rest: Any) -> Any:
        return encoder(as_pixels(pixels.at(np.arange(len(pixels))), CPU)).numpy()

    return embeddings
