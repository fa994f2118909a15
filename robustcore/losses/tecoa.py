"""TeCoA (Mao et al. 2023, arXiv 2212.07016): adversarial cross-entropy against the class prompts."""

from typing import Literal

from pydantic.dataclasses import dataclass

from robustcore.losses.reference import Reference, cross_entropy, squared_distance
from robustcore.types import STRICT, Embeddings, NonNegative, PerImage


@dataclass(frozen=True, config=STRICT)
class Tecoa:
    """R = CE at z; K = CE at x, or FARE's ||phi(x) - phi0(x)||^2 with ``clean_term: embedding``; R + alpha K."""

    alpha: NonNegative = 0.0
    prompts: tuple[str, ...] = ("This is a photo of a {}",)
    clean_term: Literal["cross_entropy", "embedding"] = "cross_entropy"
    kind: Literal["tecoa"] = "tecoa"

    flat_at_start = False

    @property
    def needs_original(self) -> bool:
        """Whether the frozen encoder's embeddings of the training images are used at all."""
        return self.clean_term == "embedding" and self.alpha > 0

    def robust(self, perturbed: Embeddings, reference: Reference) -> PerImage:
        """R, (B,)."""
        return cross_entropy(perturbed, reference)

    def clean(self, clean: Embeddings, reference: Reference) -> PerImage:
        """K, (B,)."""
        return (cross_entropy if self.clean_term == "cross_entropy" else squared_distance)(clean, reference)
