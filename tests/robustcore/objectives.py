"""Random embeddings with all that a loss may compare them with, and gradients by central differences in float64."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from robustcore.losses.classifiers import ZeroShot
from robustcore.losses.reference import Reference

Array = NDArray[np.float64]
EMBEDDINGS = ("original", "clean", "original_perturbed")


def batch(images: int = 5, dim: int = 4, classes: int = 3, scale: float = 4.0) -> tuple[Tensor, Reference]:
    """phi(z), and a reference with nothing missing; no two embeddings have the same length."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    reference = Reference(
        labels=torch.arange(images) % classes,
        original=normal(images, dim),
        classifier=ZeroShot(F.normalize(normal(classes, dim)), scale),
        original_classifier=ZeroShot(F.normalize(normal(classes, dim)), scale),
        clean=normal(images, dim),
        original_perturbed=normal(images, dim),
    )
    return normal(images, dim), reference


def with_embeddings(reference: Reference, change: Callable[[Tensor], Tensor]) -> Reference:
    """``change`` applied to every embedding; rows and labels stay."""
    changed: dict[str, Any] = {name: change(getattr(reference, name)) for name in EMBEDDINGS}
    return replace(reference, **changed)


def with_rows(reference: Reference, change: Callable[[Tensor], Tensor]) -> Reference:
    """``change`` applied to the rows of both classifiers."""
    changed: dict[str, Any] = {}
    for name in ("classifier", "original_classifier"):
        classifier = getattr(reference, name)
        changed[name] = replace(classifier, rows=change(classifier.rows))
    return replace(reference, **changed)


def one_image(reference: Reference, index: int) -> Reference:
    """What is known of one image alone."""
    here = slice(index, index + 1)
    return replace(with_embeddings(reference, lambda all_of: all_of[here]), labels=reference.labels[here])


def rotation(dim: int = 4) -> Tensor:
    """A random orthogonal matrix."""
    orthogonal: Tensor = torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(1)))[0]
    return orthogonal


def central_differences(function: Callable[[Array], Array], at: Array, step: float = 1e-6) -> Array:
    """The gradient of the sum of ``function`` at ``at``, entry by entry."""
    gradient = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        nudge = np.zeros_like(at)
        nudge[index] = step
        gradient[index] = (function(at + nudge) - function(at - nudge)).sum() / (2 * step)
    return gradient


def as64(tensor: Tensor | None) -> Array:
    """``tensor`` as float64, detached."""
    assert tensor is not None
    array: Array = tensor.detach().double().numpy()
    return array


def logits64(embeddings: Array, classifier: Any) -> Array:
    """Scaled cosines, in numpy."""
    logits: Array = classifier.scale * embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(logits @ as64(classifier.rows).T)


def softmax64(logits: Array) -> Array:
    """Plain exponentials: right for the small logits of a test."""
    return np.asarray(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))


def divergence64(teacher: Array, student: Array) -> Array:
    """KL(softmax(teacher) || softmax(student)), (B,)."""
    p, q = softmax64(teacher), softmax64(student)
    return np.asarray((p * np.log(p / q)).sum(axis=1))


def entropy64(logits: Array, labels: Tensor) -> Array:
    """Cross-entropy, (B,)."""
    return np.asarray(-np.log(softmax64(logits)[np.arange(len(labels)), labels.numpy()]))
