"""Classifiers on top of an encoder: embeddings in, logits out; frozen while the encoder is trained or attacked."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from robustcore.types import Embeddings, Logits


@dataclass(frozen=True)
class ZeroShot:
    """CLIP's own: ``scale * cos(embeddings, rows)``, in float32. Without the scale, attacks are weak."""

    rows: Tensor  # (C, D), unit norm: text embeddings of the class prompts
    scale: float = 100.0  # the checkpoint's own logit scale

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.rows)

    def __call__(self, embeddings: Embeddings) -> Logits:
        """(B, C)."""
        return self.scale * F.normalize(embeddings.float(), dim=-1) @ self.rows.T


@dataclass(frozen=True)
class Probe:
    """A linear classifier fitted on frozen embeddings: ``embeddings @ weight.T + bias``, in float32."""

    weight: Tensor  # (C, D)
    bias: Tensor  # (C,)

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.weight)

    def __call__(self, embeddings: Embeddings) -> Logits:
        """(B, C)."""
        return F.linear(embeddings.float(), self.weight, self.bias)


Classifier = ZeroShot | Probe
