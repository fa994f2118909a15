"""What is known about a batch before anyone attacks it, and the accuracy-side functions of it."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from robustcore.types import Embeddings, Labels, Logits, PerImage


@dataclass(frozen=True)
class Reference:
    """Everything a loss may compare an embedding with. What a loss does not ask for may be None."""

    labels: Labels  # (B,)
    original: Embeddings | None = None  # (B, D), the frozen encoder at the clean images
    rows: Tensor | None = None  # (C, D), unit norm: the classifier
    scale: float = 100.0  # the checkpoint's own logit scale


def zero_shot_logits(embeddings: Embeddings, rows: Tensor, scale: float) -> Logits:
    """``scale * cos(embeddings, rows)``, (B, C), in float32. Without the scale, attacks are weak."""
    return scale * F.normalize(embeddings.float(), dim=-1) @ rows.T


def cross_entropy(embeddings: Embeddings, reference: Reference) -> PerImage:
    """Cross-entropy of the zero-shot logits against the labels, (B,)."""
    assert reference.rows is not None, "this loss asks for classifier rows"
    return F.cross_entropy(
        zero_shot_logits(embeddings, reference.rows, reference.scale), reference.labels, reduction="none"
    )


def squared_distance(embeddings: Embeddings, reference: Reference) -> PerImage:
    """Squared Euclidean distance to the original embedding, summed over D, (B,)."""
    assert reference.original is not None, "this loss asks for original embeddings"
    return (embeddings.float() - reference.original.float()).square().sum(dim=1)
