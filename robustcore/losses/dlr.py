"""The difference of logits ratio (Croce & Hein 2020, arXiv 2003.01690): what an attacker climbs where softmax is flat.

Neither a shift nor a positive scale of the logits changes it, so a large logit scale does not hide its gradient.
"""

import torch
from torch import Tensor

from robustcore.errors import InputError
from robustcore.losses.reference import Reference
from robustcore.types import Embeddings, Labels, Logits, PerImage

_TINY = 1e-12  # of logits: ties in all the largest are no quotient


def dlr(embeddings: Embeddings, reference: Reference) -> PerImage:
    """-(l_y - max l_j) / (l_1 - l_3), j over the wrong classes, l_1 >= l_2 >= ... all of them sorted; (B,).

    Positive iff the image is classified wrong. Raises InputError for fewer than 3 classes.
    """
    logits = _logits(embeddings, reference)
    _must_have(logits, 3, "DLR")
    top, classes = logits.topk(3, dim=1)
    rival = torch.where(classes[:, 0] == reference.labels, top[:, 1], top[:, 0])
    return (rival - _of(logits, reference.labels)) / (top[:, 0] - top[:, 2]).clamp_min(_TINY)


def targeted_dlr(embeddings: Embeddings, reference: Reference) -> PerImage:
    """-(l_y - l_t) / (l_1 - (l_3 + l_4) / 2), t in ``reference.targets``, l_1 >= l_2 >= ... all sorted; (B,).

    Positive iff the target beats the label, and so the image is classified wrong. Raises InputError for fewer than
    4 classes.
    """
    assert reference.targets is not None, "a targeted attack has targets"
    logits = _logits(embeddings, reference)
    _must_have(logits, 4, "targeted DLR")
    top = logits.topk(4, dim=1).values
    rise = _of(logits, reference.targets) - _of(logits, reference.labels)
    return rise / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2).clamp_min(_TINY)


def worst_targets(logits: Logits, labels: Labels, rank: int) -> Labels:
    """(B,), the ``rank``-th most likely wrong class of each image, from 1; raises InputError where there is none."""
    wrong = logits.shape[1] - 1
    if not 1 <= rank <= wrong:
        raise InputError(f"expected the rank of a wrong class from 1 to {wrong}, got {rank}")
    without_label = logits.scatter(1, labels[:, None], -torch.inf)
    return without_label.argsort(dim=1, descending=True, stable=True)[:, rank - 1]


def _logits(embeddings: Embeddings, reference: Reference) -> Logits:
    assert reference.classifier is not None, "DLR is a function of a classifier's logits"
    return reference.classifier(embeddings)


def _must_have(logits: Logits, classes: int, name: str) -> None:
    if logits.shape[1] < classes:
        raise InputError(
            f"{name} compares the {classes} largest logits; expected at least {classes} classes, got {logits.shape[1]}"
        )


def _of(logits: Logits, classes: Labels) -> Tensor:
    return logits.gather(1, classes[:, None]).squeeze(1)
