"""Which images are still classified right after each attack."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from robustcore.attacks import Attack
from robustcore.losses import Reference, cross_entropy, zero_shot_logits
from robustcore.models import Encoder
from robustcore.noise import Noise
from robustcore.precision import autocast, without_weight_gradients
from robustcore.types import Images, PerImage


def survivors(
    encoder: Encoder,
    attacks: Sequence[Attack],
    images: Images,
    reference: Reference,
    noise: Noise,
    precision: torch.dtype = torch.float32,
) -> list[Tensor]:
    """Per attack, bool (B,) on the CPU: right at ``images`` and right after the attack.

    Attacks climb cross-entropy through the zero-shot classifier, whatever trained the encoder. An image that is
    wrong as it stands has not survived any attack (no perturbation is in every ball), so it is not attacked. The
    attack may run in ``precision``; what it finds is judged in float32.
    """
    alive = _right(encoder, images, reference)
    attacked = alive.nonzero().squeeze(1)
    chosen, some = replace(reference, labels=reference.labels[attacked]), images[attacked]

    def loss_at(pixels: Images) -> PerImage:
        with autocast(pixels.device, precision):
            embeddings = encoder(pixels)
        return cross_entropy(embeddings, chosen)

    results = []
    with without_weight_gradients(encoder):
        for attack in attacks:
            survived = torch.zeros_like(alive)
            if len(attacked):
                perturbed = attack(loss_at, some, Noise(noise.keys[attacked]))
                survived[attacked] = _right(encoder, perturbed, chosen)
            results.append(survived.cpu())
    return results


@torch.no_grad()
def _right(encoder: Encoder, images: Images, reference: Reference) -> Tensor:
    assert reference.rows is not None, "a zero-shot evaluation has classifier rows"
    logits = zero_shot_logits(encoder(images), reference.rows, reference.scale)
    return logits.argmax(dim=1) == reference.labels
