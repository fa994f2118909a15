"""What an attacker climbs other than the training loss's own R: per-image functions of embeddings and reference."""

from collections.abc import Callable

from robustcore.errors import InputError
from robustcore.losses.dlr import dlr, targeted_dlr
from robustcore.losses.reference import Reference, cross_entropy, squared_distance
from robustcore.types import Climb, Embeddings, PerImage

CLIMBS: dict[Climb, Callable[[Embeddings, Reference], PerImage]] = {
    "cross_entropy": cross_entropy,
    "dlr": dlr,
    "targeted_dlr": targeted_dlr,
    "embedding": squared_distance,
}
MAX_TARGETS = 9  # AutoAttack's: the most likely wrong classes, one after the other
_LEAST_CLASSES: dict[Climb, int] = {"cross_entropy": 2, "dlr": 3, "targeted_dlr": 4}


def check_climb(climb: Climb, num_classes: int, key: str) -> None:
    """InputError where there are too few classes for it."""
    least = _LEAST_CLASSES.get(climb, 1)
    if num_classes < least:
        raise InputError(f"'{climb}' compares at least {least} classes, got {num_classes}", key)


def num_targets(climb: Climb | None, num_classes: int) -> int:
    """How many attacks a climb stands for in an evaluation: one, or one for each target."""
    return min(MAX_TARGETS, num_classes - 1) if climb == "targeted_dlr" else 1
