"""What a user can put right: every error here is one sentence, and names the key it speaks of.

InputError             the request is wrong; found before anything starts where possible
├── DataError          a data set is missing, unreadable, empty or not what was described
└── ModelError         an architecture or its weights are unknown, missing or do not fit
NonFiniteLoss          training diverged: the trial has failed, the machine has not
"""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str], likeness: float = 0.5) -> str:
    """``; did you mean 'steps'?`` where one of ``known`` is near, else nothing."""
    close = get_close_matches(name, list(known), 1, likeness)
    return f"; did you mean '{close[0]}'?" if close else ""


class InputError(ValueError):
    """A wrong value that the user gave. ``key`` is its dotted path below the component that raises it."""

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class DataError(InputError):
    """A data set that cannot be used as described."""


class ModelError(InputError):
    """An encoder that cannot be built or loaded as described."""


class NonFiniteLoss(ArithmeticError):
    """The training loss became NaN or infinite."""
