"""How far an encoder has drifted from the original one: squared distances of embeddings, clean and under attack.

The anchor is always phi0(x), the original encoder at the clean image: what FARE's table reports, and what its loss is.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from robustcore.attacks import Climber
from robustcore.data import NativePixels, Pixels
from robustcore.evaluation.conditions import Conditions
from robustcore.losses import CLIMBS, Reference, squared_distance
from robustcore.models import Encoder
from robustcore.precision import autocast, without_weight_gradients
from robustcore.types import Images, PerImage


def drift_names(attack: Climber, datasets: Sequence[str]) -> tuple[str, ...]:
    """``drift/<data set>`` and the mean ``drift``; ``drift/attacked`` likewise, unless the attack is the empty one."""
    prefixes = ("drift",) if attack.kind == "clean" else ("drift", "drift/attacked")
    return tuple(name for prefix in prefixes for name in (prefix, *(f"{prefix}/{each}" for each in datasets)))


def drift_means(found: Mapping[str, float]) -> dict[str, float]:
    """``drift`` and ``drift/attacked``, where sets have them."""
    attacked = [value for name, value in found.items() if name.startswith("drift/attacked/")]
    clean = [value for name, value in found.items() if re.fullmatch("drift/[^/]+", name)]
    means = {"drift": clean, "drift/attacked": attacked}
    return {name: sum(values) / len(values) for name, values in means.items() if values}


def drift(
    encoder: Encoder, attack: Climber, pixels: Pixels | NativePixels, anchors: np.ndarray, conditions: Conditions
) -> tuple[float, float]:
    """Means over the images of ``||phi(x) - phi0(x)||^2`` and ``max over z of ||phi(z) - phi0(x)||^2``.

    ``anchors`` (N, D) are phi0(x). The maximum is what ``attack`` finds from climbing the distance itself, on every
    image, also those that are classified wrong; it is never less than the distance at x, which is in every ball.
    """
    sums = torch.zeros(2, dtype=torch.float64)
    with without_weight_gradients(encoder):
        for batch in conditions.batches(pixels, conditions.share(len(pixels))):
            # Labels are of no account here; the copy is because the mapped file is read-only.
            labels = torch.zeros(len(batch.indices), dtype=torch.int64, device=batch.images.device)
            original = torch.from_numpy(np.array(anchors[batch.indices])).to(batch.images.device)
            reference = Reference(labels, original=original)

            def loss_at(images: Images, reference: Reference = reference) -> PerImage:
                with autocast(images.device, conditions.precision):
                    embeddings = encoder(images)
                return CLIMBS["embedding"](embeddings, reference)

            clean = _distances(encoder, batch.images, reference)
            perturbed = attack(loss_at, batch.images, batch.noise)
            attacked = torch.maximum(clean, _distances(encoder, perturbed, reference))
            sums += torch.stack([clean.double().sum(), attacked.double().sum()]).cpu()
    clean_mean, attacked_mean = (conditions.process.total(sums) / len(pixels)).tolist()
    return clean_mean, attacked_mean


@torch.no_grad()
def _distances(encoder: Encoder, images: Images, reference: Reference) -> Tensor:
    return squared_distance(encoder(images), reference)
