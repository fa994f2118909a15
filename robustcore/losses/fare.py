"""FARE (Schlarmann et al. 2024, arXiv 2402.12336): keep the attacked embedding where the original one was."""

from typing import Literal

from pydantic.dataclasses import dataclass

from robustcore.losses.objective import Objective
from robustcore.losses.reference import Reference, squared_distance
from robustcore.types import STRICT, Embeddings, NonNegative, PerImage


@dataclass(frozen=True, config=STRICT)
class Fare(Objective):
    """R = ||phi(z) - phi0(x)||^2, K = ||phi(x) - phi0(x)||^2, both summed over D; the loss is R + alpha K.

    K is the clean-consistency term of the loss-function study. R has no gradient at x itself, so the attack that
    climbs it must start at random.
    """

    alpha: NonNegative = 0.0
    kind: Literal["fare"] = "fare"

    needs = frozenset({"original"})
    flat_at_start = True

    def robust(self, perturbed: Embeddings, reference: Reference) -> PerImage:
        """R, (B,)."""
        return squared_distance(perturbed, reference)

    def clean(self, clean: Embeddings, reference: Reference) -> PerImage:
        """K, (B,)."""
        return squared_distance(clean, reference)
