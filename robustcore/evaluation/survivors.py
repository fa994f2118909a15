"""Which images are still classified right after each attack."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from robustcore.attacks import Climber
from robustcore.losses import CLIMBS, Reference, num_targets, worst_targets
from robustcore.models import Encoder
from robustcore.noise import Noise
from robustcore.precision import autocast, without_weight_gradients
from robustcore.stalls import ZeroGradients
from robustcore.types import Climb, Embeddings, Images, LossAt, PerImage


def survivors(
    encoder: Encoder,
    attacks: Sequence[Climber],
    images: Images,
    reference: Reference,
    noise: Noise,
    precision: torch.dtype = torch.float32,
    watches: Sequence[ZeroGradients] = (),
) -> list[Tensor]:
    """Per attack, bool (B,) on the CPU: right at ``images`` and right after the attack.

    Attacks climb cross-entropy through the reference's classifier, whatever trained the encoder, or what their
    ``climb`` says: ``embedding`` is the distance to this encoder's own clean embeddings, ``targeted_dlr`` one attack
    for each of the most likely wrong classes. An image that is wrong as it stands has not survived any attack (no
    perturbation is in every ball), so it is not attacked. The attack may run in ``precision``; what it finds is
    judged in float32. ``watches``, one an attack, count its zero gradients.
    """
    assert reference.classifier is not None, "an evaluation classifies"
    with torch.no_grad():
        clean = encoder(images)
        logits = reference.classifier(clean)
    alive = logits.argmax(dim=1) == reference.labels
    chosen = alive.nonzero().squeeze(1)
    known = replace(reference, original=clean).at(chosen)
    results = []
    with without_weight_gradients(encoder):
        for number, attack in enumerate(attacks):
            watch = watches[number] if watches else ZeroGradients()
            survived = torch.zeros_like(alive)
            some, keys = images[chosen], Noise(noise.keys[chosen])
            survived[chosen] = _withstanding(encoder, attack, some, known, logits[chosen], keys, precision, watch)
            results.append(survived.cpu())
    return results


def _withstanding(
    encoder: Encoder,
    attack: Climber,
    images: Images,
    reference: Reference,
    logits: Tensor,
    noise: Noise,
    precision: torch.dtype,
    watch: ZeroGradients,
) -> Tensor:
    """Bool (b,): which of the right images no round of the attack fools; each round sees what the last one left."""
    alive = torch.ones(len(images), dtype=torch.bool, device=images.device)
    climb: Climb = attack.climb or "cross_entropy"
    for aimed in _rounds(climb, reference, logits):
        left = alive.nonzero().squeeze(1)
        if len(left) == 0:
            break
        known = aimed.at(left)
        loss_at = watch.watch(_loss_at(encoder, climb, known, precision))
        perturbed = attack(loss_at, images[left], Noise(noise.keys[left]))
        alive[left] = _right(encoder, perturbed, known)
    return alive


def _rounds(climb: Climb, reference: Reference, logits: Tensor) -> Iterator[Reference]:
    if climb != "targeted_dlr":
        yield reference
        return
    for rank in range(1, num_targets(climb, logits.shape[1]) + 1):
        yield replace(reference, targets=worst_targets(logits, reference.labels, rank))


def _loss_at(encoder: Encoder, climb: Climb, reference: Reference, precision: torch.dtype) -> LossAt:
    def loss_at(pixels: Images) -> PerImage:
        with autocast(pixels.device, precision):
            embeddings: Embeddings = encoder(pixels)
        return CLIMBS[climb](embeddings, reference)

    return loss_at


@torch.no_grad()
def _right(encoder: Encoder, images: Images, reference: Reference) -> Tensor:
    assert reference.classifier is not None, "an evaluation classifies"
    return reference.classifier(encoder(images)).argmax(dim=1) == reference.labels
