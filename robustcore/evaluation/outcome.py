"""What an evaluation found: shares for programs, and image by image who survived what, for tables and intervals."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

CLEAN, WORST = "clean", "worst"


@dataclass(frozen=True)
class Survival:
    """One data set: ``survived[attack]`` (N,) bool, in the order of ``labels`` (N,); ``clean`` is the empty attack."""

    classes: tuple[str, ...]
    labels: np.ndarray
    survived: dict[str, np.ndarray]

    @property
    def worst(self) -> np.ndarray:
        """(N,) bool: who survived all of them."""
        everyone: np.ndarray = np.all(list(self.survived.values()), axis=0)
        return everyone

    def shares(self) -> dict[str, float]:
        """Of the whole set, by attack, and ``worst``."""
        everyone = {**self.survived, WORST: self.worst}
        return {name: float(survived.mean()) for name, survived in everyone.items()}

    def class_shares(self) -> dict[str, dict[str, float]]:
        """By class that has images, then by attack."""
        rows = {name: np.flatnonzero(self.labels == label) for label, name in enumerate(self.classes)}
        return {
            name: Survival(self.classes, self.labels[row], {a: s[row] for a, s in self.survived.items()}).shares()
            for name, row in rows.items()
            if len(row)
        }


@dataclass(frozen=True)
class Outcome:
    """``metrics`` by the names of ``Evaluation.metrics``; ``flags``: why a number may not hold, a sentence by name."""

    metrics: dict[str, float]
    survivals: dict[str, Survival] = field(default_factory=dict)  # by data set
    flags: dict[str, str] = field(default_factory=dict)
    queries: dict[str, tuple[int, int]] = field(default_factory=dict)  # images and captions of each captioned set

    @property
    def samples(self) -> dict[str, int]:
        """The number of images of each data set."""
        return {name: len(survival.labels) for name, survival in self.survivals.items()}


def accuracies(survivals: Mapping[str, Survival]) -> dict[str, float]:
    """``<attack>/<data set>`` for each set, and ``<attack>``, the mean over them; ``clean`` and ``worst`` too."""
    if not survivals:
        return {}
    shares = {name: survival.shares() for name, survival in survivals.items()}
    names = list(next(iter(shares.values())))
    means = {name: float(np.mean([share[name] for share in shares.values()])) for name in names}
    return means | {f"{name}/{dataset}": share[name] for dataset, share in shares.items() for name in names}
