"""PMG-AFT (Wang et al. 2024, arXiv 2401.04350): TeCoA, guided by the original encoder's view of the attacked image."""

from typing import Literal

from pydantic.dataclasses import dataclass

from robustcore.losses.distill import distillation
from robustcore.losses.objective import Need, Objective
from robustcore.losses.reference import Reference, cross_entropy, zero_shot
from robustcore.types import STRICT, Climb, Embeddings, NonNegative, PerImage


@dataclass(frozen=True, config=STRICT)
class PmgAft(Objective):
    """R = CE at z + generalization_weight KL(p0(z) || p(z)) + consistency_weight KL(p(x) || p(z)).

    p is the softmax of the scaled logits, p0 that of the original encoder and text. Training descends into p(x) too.
    The authors' code has both weights at 1, takes unscaled cosines, and sums the divergences over the batch where it
    averages the cross-entropy; here all three are per image, at the scale.

    By default the attacker climbs the cross-entropy alone, as the method's own inner loop does; where it climbs all of
    R (``climb: robust``), p0(z) moves with z. A weight of 0 saves the forward pass of its term.
    """

    generalization_weight: NonNegative = 1.0
    consistency_weight: NonNegative = 1.0
    prompts: tuple[str, ...] = ("This is a photo of a {}",)
    kind: Literal["pmg_aft"] = "pmg_aft"

    @property
    def needs(self) -> frozenset[Need]:
        """p0(z) and p(x), each only where its term counts."""
        prior: frozenset[Need] = frozenset({"original_perturbed", "original_classifier"})
        clean: frozenset[Need] = frozenset({"clean"})
        nothing: frozenset[Need] = frozenset()
        return (prior if self.generalization_weight else nothing) | (clean if self.consistency_weight else nothing)

    @property
    def climb(self) -> Climb:
        """Cross-entropy alone, as the method's own inner loop."""
        return "cross_entropy"

    def robust(self, perturbed: Embeddings, reference: Reference) -> PerImage:
        """R, (B,)."""
        loss = cross_entropy(perturbed, reference)
        logits = zero_shot(reference.classifier)(perturbed)
        if self.generalization_weight:
            assert reference.original_perturbed is not None, "this loss asks for phi0(z)"
            prior = zero_shot(reference.original_classifier)(reference.original_perturbed)
            loss = loss + self.generalization_weight * distillation(prior, logits)
        if self.consistency_weight:
            assert reference.clean is not None, "this loss asks for clean embeddings"
            clean = zero_shot(reference.classifier)(reference.clean)
            loss = loss + self.consistency_weight * distillation(clean, logits)
        return loss
