"""Sim-CLIP (Hossain & Imteaj 2024, arXiv 2407.14971): attacked and clean embedding point the same way; no labels."""

from typing import Literal

import torch.nn.functional as F
from pydantic.dataclasses import dataclass

from robustcore.losses.objective import Need, Objective
from robustcore.losses.reference import Reference
from robustcore.types import STRICT, Climb, Embeddings, PerImage


@dataclass(frozen=True, config=STRICT)
class SimClip(Objective):
    """R = 1/2 [C(phi(z), sg phi(x)) + C(phi(x), sg phi(z))], C = -cos, sg = stop-gradient, one shared encoder.

    That is the paper's ``anchor: online``. ``original`` is -1/2 cos(phi(z), phi0(x)), which is what its released code
    optimises: there, the second term has no gradient. There is no clean term. The attacker climbs the squared distance
    to phi0(x), as the paper's command does; R itself is flat at x too.
    """

    anchor: Literal["online", "original"] = "online"
    kind: Literal["sim_clip"] = "sim_clip"

    flat_at_start = True

    @property
    def needs(self) -> frozenset[Need]:
        """What R compares with: phi(x), or phi0(x)."""
        return frozenset({"clean"} if self.anchor == "online" else {"original"})

    @property
    def climb(self) -> Climb:
        """The distance of embeddings, in the paper's command."""
        return "embedding"

    def robust(self, perturbed: Embeddings, reference: Reference) -> PerImage:
        """R, (B,) in [-1, 1], or [-1/2, 1/2] with ``anchor: original``."""
        if self.anchor == "original":
            assert reference.original is not None, "this loss asks for original embeddings"
            return _distance(perturbed, reference.original)
        assert reference.clean is not None, "this loss asks for clean embeddings"
        clean = reference.clean
        return _distance(perturbed, clean.detach()) + _distance(clean, perturbed.detach())


def _distance(one: Embeddings, other: Embeddings) -> PerImage:
    """C / 2."""
    return -0.5 * F.cosine_similarity(one.float(), other.float(), dim=1)
