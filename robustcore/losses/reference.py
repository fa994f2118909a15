"""What is known about a batch beside the embeddings that a loss is given, and the functions of it that losses share."""

from dataclasses import dataclass, fields, replace

import torch.nn.functional as F
from torch import Tensor

from robustcore.losses.classifiers import Classifier, ZeroShot
from robustcore.types import Embeddings, Labels, PerImage


@dataclass(frozen=True)
class Reference:
    """Everything a loss may compare an embedding with. What a loss does not ask for (``Objective.needs``) may be None.

    phi is the encoder as it is now, phi0 the original, frozen one; x the clean images, z the perturbed ones.
    """

    labels: Labels  # (B,)
    original: Embeddings | None = None  # (B, D), phi0(x)
    classifier: Classifier | None = None  # over the classes of ``labels``; with tuned text, its rows are the tuned ones
    original_classifier: Classifier | None = None  # the same with the original text
    clean: Embeddings | None = None  # (B, D), phi(x): with its gradient where training descends
    original_perturbed: Embeddings | None = None  # (B, D), phi0(z): with its gradient in z where the attacker climbs
    targets: Labels | None = None  # (B,), the wrong classes that a targeted attack goes for

    def at(self, indices: Tensor) -> "Reference":
        """What is known about some of the images; ``indices`` (b,) int64."""
        per_image = (entry.name for entry in fields(self) if not entry.name.endswith("classifier"))
        chosen = {name: getattr(self, name)[indices] for name in per_image if getattr(self, name) is not None}
        return replace(self, **chosen)


def cross_entropy(embeddings: Embeddings, reference: Reference) -> PerImage:
    """Cross-entropy of the classifier's logits against the labels, (B,)."""
    assert reference.classifier is not None, "this loss asks for a classifier"
    return F.cross_entropy(reference.classifier(embeddings), reference.labels, reduction="none")


def squared_distance(embeddings: Embeddings, reference: Reference) -> PerImage:
    """Squared Euclidean distance to the original embedding, summed over D, (B,)."""
    assert reference.original is not None, "this loss asks for original embeddings"
    return (embeddings.float() - reference.original.float()).square().sum(dim=1)


def zero_shot(classifier: Classifier | None) -> ZeroShot:
    """``classifier`` as the zero-shot one that text-based losses speak of."""
    assert isinstance(classifier, ZeroShot), "this loss asks for classifier rows"
    return classifier
