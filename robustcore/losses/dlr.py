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
    """``dlr_of`` the classifier's logits."""
    return dlr_of(_logits(embeddings, reference), reference.labels)


def targeted_dlr(embeddings: Embeddings, reference: Reference) -> PerImage:
    """``targeted_dlr_of`` the classifier's logits, towards ``reference.targets``."""
    assert reference.targets is not None, "a targeted attack has targets"
    return targeted_dlr_of(_logits(embeddings, reference), reference.labels, reference.targets)


def dlr_of(logits: Logits, labels: Labels) -> PerImage:
    """-(l_y - max l_j) / (l_1 - l_3), j over the wrong classes, l_1 >= l_2 >= ... all of them sorted; (B,).

    Positive iff the image is classified wrong. Raises InputError for fewer than 3 classes.
    """
    _must_have(logits, 3, "DLR")
    top, classes = logits.topk(3, dim=1)
    rival = torch.where(classes[:, 0] == labels, top[:, 1], top[:, 0])
    return (rival - _of(logits, labels)) / (top[:, 0] - top[:, 2]).clamp_min(_TINY)


def targeted_dlr_of(logits: Logits, labels: Labels, targets: Labels) -> PerImage:
    """-(l_y - l_t) / (l_1 - (l_3 + l_4) / 2), t the targets, l_1 >= l_2 >= ... all sorted; (B,).

    Positive iff the target beats the label, and so the image is classified wrong. Raises InputError for fewer than
    4 classes.
    """
    _must_have(logits, 4, "targeted DLR")
    top = logits.topk(4, dim=1).values
    return lead(logits, labels, targets) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2).clamp_min(_TINY)


def lead(logits: Logits, labels: Labels, targets: Labels) -> PerImage:
    """l_t - l_y: how far the targets are ahead of the labels, (B,)."""
    return _of(logits, targets) - _of(logits, labels)


def margin(logits: Logits, labels: Labels) -> PerImage:
    """max l_j - l_y, j over the wrong classes, (B,): positive iff the image is classified wrong."""
    return logits.scatter(1, labels[:, None], -torch.inf).amax(dim=1) - _of(logits, labels)


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
