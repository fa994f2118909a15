"""TIMA's image side (arXiv 2405.17678v1): class margins that grow with the likeness of the texts, and distillation."""

from typing import Annotated, Literal

import torch.nn.functional as F
from annotated_types import Ge, Le
from pydantic.dataclasses import dataclass
from torch import Tensor

from robustcore.losses.classifiers import ZeroShot
from robustcore.losses.distill import distillation
from robustcore.losses.objective import Need, Objective
from robustcore.losses.reference import Reference, cross_entropy, squared_distance, zero_shot
from robustcore.types import STRICT, Embeddings, Labels, NonNegative, Number, PerImage, Positive

_TINY = 1e-6


@dataclass(frozen=True, config=STRICT)
class Tima(Objective):
    """R = TAM + distill_weight TAKD; K = CE at x, or ||phi(x) - phi0(x)||^2 with ``clean_term: embedding``.

    The authors published neither code nor complete equations: this is the best-grounded formulation.

    - TAM, the text-distance adaptive margin, is the cross-entropy of s (cos(phi(z), t_k) + m_yk) against y. Soft,
      m_yk = margin max(0, cos(t_y, t_k) - threshold) / (1 - threshold); hard, m_yk = margin wherever that cosine
      exceeds the threshold; m_yy = 0. ``margin`` is a cosine: at s = 100, 0.05 is 5 logits.
    - TAKD = tau^2 KL(softmax(s cos(phi0(x), T0) / tau) || softmax(s cos(phi(z), T) / tau)), tau = ``temperature``.

    T are the rows as tuned by the text stage, T0 the original ones, the same where no text is tuned. ``threshold`` is
    in [-1, 1]; at 1, no class has a margin. The rows that CLIP gives to the names of one data set are much alike, and
    those that the text stage has spread are less so: its default is no more than a start for a search.
    """

    alpha: NonNegative = 0.0
    margin: NonNegative = 0.05
    threshold: Annotated[Number, Ge(-1), Le(1)] = 0.7
    margins: Literal["soft", "hard"] = "soft"
    distill_weight: NonNegative = 1.0
    temperature: Positive = 1.0
    prompts: tuple[str, ...] = ("This is a photo of a {}",)
    clean_term: Literal["cross_entropy", "embedding"] = "cross_entropy"
    kind: Literal["tima"] = "tima"

    @property
    def needs(self) -> frozenset[Need]:
        """The original only where a term that counts compares with it."""
        if self.distill_weight:
            return frozenset({"original", "original_classifier"})
        return frozenset({"original"} if self.clean_term == "embedding" and self.alpha > 0 else ())

    def robust(self, perturbed: Embeddings, reference: Reference) -> PerImage:
        """R, (B,)."""
        classifier = zero_shot(reference.classifier)
        logits = classifier(perturbed)
        margins = classifier.scale * self._margins(classifier, reference.labels)
        loss = F.cross_entropy(logits + margins, reference.labels, reduction="none")
        if self.distill_weight:
            assert reference.original is not None, "this loss asks for original embeddings"
            teacher = zero_shot(reference.original_classifier)(reference.original)
            loss = loss + self.distill_weight * distillation(teacher, logits, self.temperature)
        return loss

    def clean(self, clean: Embeddings, reference: Reference) -> PerImage:
        """K, (B,)."""
        return (cross_entropy if self.clean_term == "cross_entropy" else squared_distance)(clean, reference)

    def _margins(self, classifier: ZeroShot, labels: Labels) -> Tensor:
        """m_yk, (B, C): only the rows of the labels at hand, which no more depend on the batch than the logits do."""
        likeness = (classifier.rows[labels] @ classifier.rows.T).float().clamp_max(1)
        excess = likeness - self.threshold
        share = (excess > 0).float() if self.margins == "hard" else excess.clamp_min(0) / max(1 - self.threshold, _TINY)
        return self.margin * share.scatter(1, labels[:, None], 0.0)
