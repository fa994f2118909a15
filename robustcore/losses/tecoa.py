"""TeCoA (Mao et al. 2023, arXiv 2212.07016): adversarial cross-entropy against the class prompts."""

from typing import Literal

from pydantic.dataclasses import dataclass

from robustcore.losses.objective import Need, Objective
from robustcore.losses.reference import Reference, cross_entropy, squared_distance
from robustcore.types import STRICT, Embeddings, NonNegative, PerImage


@dataclass(frozen=True, config=STRICT)
class Tecoa(Objective):
    """R = CE at z; K = CE at x, or FARE's ||phi(x) - phi0(x)||^2 with ``clean_term: embedding``; R + alpha K."""

    alpha: NonNegative = 0.0
    prompts: tuple[str, ...] = ("This is a photo of a {}",)
    clean_term: Literal["cross_entropy", "embedding"] = "cross_entropy"
    kind: Literal["tecoa"] = "tecoa"

    @property
    def needs(self) -> frozenset[Need]:
        """The original embeddings only where the clean term compares with them."""
        return frozenset({"original"} if self.clean_term == "embedding" and self.alpha > 0 else ())

    def robust(self, perturbed: Embeddings, reference: Reference) -> PerImage:
        """R, (B,)."""
        return cross_entropy(perturbed, reference)

    def clean(self, clean: Embeddings, reference: Reference) -> PerImage:
        """K, (B,)."""
        return (cross_entropy if self.clean_term == "cross_entropy" else squared_distance)(clean, reference)
