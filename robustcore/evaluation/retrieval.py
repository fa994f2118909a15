"""Image-text retrieval, clean and attacked: whether the nearest captions are an image's own, and the other way round.

An image has several captions of its own, so what an attacker climbs has several right answers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robustcore.attacks import Attack, AutoAttack, Clean, Climber
from robustcore.data import CaptionSet, NativePixels, Pixels
from robustcore.evaluation.conditions import Batch, Conditions
from robustcore.losses import ZeroShot
from robustcore.models import Encoder
from robustcore.precision import autocast, without_weight_gradients
from robustcore.types import Images, Logits, PerImage

CUTOFFS = (1, 5, 10)
DIRECTIONS = ("image_to_text", "text_to_image")
CAPTION_ITSELF = ("{}",)  # the prompt that a caption needs
_CHUNK = 512  # queries that are compared with everything at a time


class CaptionsAsClasses:
    """A caption set as an ``ImageSet`` with every caption for a class; ``labels`` are each image's first caption."""

    def __init__(self, source: CaptionSet) -> None:
        self._source = source
        self.name, self.groups, self.fingerprint = source.name, source.groups, source.fingerprint
        counts = np.array([len(captions) for captions in source.captions], np.int64)
        self.classes = tuple(caption for captions in source.captions for caption in captions)
        self.owners = np.repeat(np.arange(len(counts)), counts)  # (T,) the image of each caption
        self.labels: np.ndarray = np.cumsum(counts) - counts

    def decode(self, index: int) -> Image.Image:
        """See ``ImageSet``."""
        return self._source.decode(index)

    def own(self) -> Tensor:
        """(N, T) bool: which captions say what one of the image's own says; two images may have the same one."""
        numbers = {caption: number for number, caption in enumerate(dict.fromkeys(self.classes))}
        texts = torch.tensor([numbers[caption] for caption in self.classes])
        said = torch.zeros(len(self.labels), len(numbers), dtype=torch.bool)
        said[torch.from_numpy(self.owners), texts] = True
        return said[:, texts]


@dataclass
class Gallery:
    """N images and T captions as they are compared; ``classifier`` has the captions for classes."""

    pixels: Pixels | NativePixels
    classifier: ZeroShot
    own: Tensor  # (N, T) bool


def recall_names(attacks: Mapping[str, Attack], name: str) -> Iterator[str]:
    """``recall_at_1/image_to_text/pgd/flickr``: what ``recalls`` gives for the set ``name``."""
    for attack in ("clean", *retrieval_attacks(attacks)):
        for direction in DIRECTIONS:
            yield from (f"recall_at_{cutoff}/{direction}/{attack}/{name}" for cutoff in CUTOFFS)


def retrieval_attacks(attacks: Mapping[str, Attack]) -> dict[str, Climber]:
    """Those that retrieval can be attacked with: not what compares with one single label, such as DLR."""
    return {
        name: attack
        for name, attack in attacks.items()
        if not isinstance(attack, AutoAttack) and attack.climb in (None, "cross_entropy")
    }


def recalls(
    encoder: Encoder, gallery: Gallery, attacks: Mapping[str, Attack], name: str, conditions: Conditions
) -> dict[str, float]:
    """Recall at 1, 5 and 10 by the names of ``recall_names``: shares of images, and of captions, in [0, 1].

    Image to text: an image counts where one of its own captions is among the K nearest. Text to image: a caption
    counts where its image is, in a gallery whose images are all attacked. Captions are never attacked. A query that
    fails as the images stand fails under every attack, for the clean image is in every ball; and equal similarities
    count against the query, so that an encoder that sees no difference finds nothing.
    """
    ranks: dict[str, dict[str, Tensor]] = {}
    for attack_name, attack in {"clean": Clean(), **retrieval_attacks(attacks)}.items():
        logits = _logits(encoder, gallery, attack, conditions)
        found = {"image_to_text": _ranks(logits, gallery.own), "text_to_image": _ranks(logits.T, gallery.own.T)}
        ranks[attack_name] = {
            direction: torch.maximum(rank, ranks["clean"][direction]) if ranks else rank
            for direction, rank in found.items()
        }
    return {
        f"recall_at_{cutoff}/{direction}/{attack}/{name}": float((rank < cutoff).float().mean())
        for attack, by_direction in ranks.items()
        for direction, rank in by_direction.items()
        for cutoff in CUTOFFS
    }


def multi_positive_cross_entropy(logits: Logits, own: Tensor) -> PerImage:
    """(B,): minus the logarithm of the share of softmax that falls on an image's own captions.

    ``L(z) = log sum_t exp(s cos(phi(z), t)) - log sum_{t in own} exp(s cos(phi(z), t))``, which is cross-entropy where
    an image has one caption; ``logits`` (B, T) are ``s cos``, ``own`` (B, T) bool with at least one an image.
    """
    return logits.logsumexp(dim=1) - logits.masked_fill(~own, -torch.inf).logsumexp(dim=1)


def _logits(encoder: Encoder, gallery: Gallery, attack: Climber, conditions: Conditions) -> Logits:
    """(N, T) on the CPU: every image after ``attack`` with every caption, the same on every process."""
    count, process = len(gallery.own), conditions.process
    embeddings = torch.zeros(count, gallery.classifier.rows.shape[1])
    with without_weight_gradients(encoder):
        for batch in conditions.batches(gallery.pixels, conditions.share(count)):
            perturbed = _attacked(encoder, gallery, attack, batch, conditions)
            with torch.no_grad():
                embeddings[batch.indices] = encoder(perturbed).cpu()
    shared = process.total(embeddings).float()
    return torch.cat([gallery.classifier(some.to(process.device)).cpu() for some in shared.split(_CHUNK)])


def _attacked(encoder: Encoder, gallery: Gallery, attack: Climber, batch: Batch, conditions: Conditions) -> Images:
    own = gallery.own[batch.indices].to(batch.images.device)

    def loss_at(images: Images) -> PerImage:
        with autocast(images.device, conditions.precision):
            embeddings = encoder(images)
        return multi_positive_cross_entropy(gallery.classifier(embeddings), own)

    return attack(loss_at, batch.images, batch.noise)


def _ranks(similarities: Tensor, own: Tensor) -> Tensor:
    """(Q,): how many of the others are at least as near to each query (a row) as the nearest of its own."""
    found = []
    for some, mine in zip(similarities.split(_CHUNK), own.split(_CHUNK), strict=True):
        nearest = some.masked_fill(~mine, -torch.inf).amax(dim=1, keepdim=True)
        # Written so that a NaN counts against the query too.
        found.append((~(some < nearest) & ~mine).sum(dim=1))
    return torch.cat(found)
