"""What the training loop asks of a loss, with the answers that most of them give: a loss overrides what differs."""

from typing import Literal

from robustcore.losses.reference import Reference
from robustcore.types import Climb, Embeddings, PerImage

# Fields of Reference that cost a forward pass or memory, so that a loss must ask for them.
Need = Literal["original", "original_classifier", "clean", "original_perturbed"]


class Objective:
    """L = R + alpha K, per image and never reduced. Subclasses are frozen pydantic dataclasses with a ``kind``."""

    @property
    def alpha(self) -> float:
        """Weight of the clean term K; at 0 it is never computed."""
        return 0.0

    @property
    def needs(self) -> frozenset[Need]:
        """What R and K read from the reference beside the labels and the classifier."""
        return frozenset()

    @property
    def prompts(self) -> tuple[str, ...]:
        """Templates of the classifier rows that R or K compare with; empty where the loss reads no text."""
        return ()

    @property
    def climb(self) -> Climb:
        """What an attacker climbs by default while this loss trains."""
        return "robust"

    @property
    def flat_at_start(self) -> bool:
        """Whether R has no gradient at the clean images of the original encoder."""
        return False

    def robust(self, perturbed: Embeddings, reference: Reference) -> PerImage:
        """R at phi(z) = ``perturbed`` (B, D), (B,) in float32."""
        raise NotImplementedError

    def clean(self, clean: Embeddings, reference: Reference) -> PerImage:
        """K at phi(x) = ``clean`` (B, D), (B,) in float32."""
        raise NotImplementedError
