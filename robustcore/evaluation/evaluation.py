"""What is to be measured: the component of a recipe that says which attacks meet which images."""

from typing import Annotated

from annotated_types import MinLen
from pydantic import model_validator
from pydantic.dataclasses import dataclass

from robustcore.attacks import Attack
from robustcore.data import Data
from robustcore.errors import InputError
from robustcore.losses import MAX_TARGETS, num_targets
from robustcore.types import STRICT, PositiveCount

TAKEN = ("clean", "worst", "loss", "training")  # by other numbers of the results


@dataclass(frozen=True, config=STRICT)
class Evaluation:
    """What is measured, every ``every`` steps and at the end: each attack on each data set.

    The result has ``clean`` and every attack by its name, the share of images that survive it (a mean over data
    sets), ``<attack>/<data set>`` for each set, ``worst``: the share that survives all of them, and
    ``zero_gradient/<attack>``: the share of pixels whose gradient was exactly zero, which stalls an attack.
    """

    datasets: Annotated[dict[str, Data], MinLen(1)]
    attacks: dict[str, Attack]
    every: PositiveCount = 500
    prompts: Annotated[tuple[str, ...], MinLen(1)] = ("a photo of a {}.",)
    batch_size: PositiveCount = 256

    @model_validator(mode="after")
    def _attacks_measure(self) -> "Evaluation":
        for name, attack in self.attacks.items():
            if name in TAKEN:
                message = f"the name '{name}' is taken by the results, expected another attack name"
                raise InputError(message, f"attacks.{name}")
            key, message = _misuse(attack)
            if message:
                raise InputError(message, f"attacks.{name}{key}")
        return self

    def metrics(self) -> tuple[str, ...]:
        """The names of everything an evaluation reports."""
        names = ("clean", *self.attacks, "worst")
        stalls = (f"zero_gradient/{name}" for name, attack in self.attacks.items() if attack.gradients)
        return (*names, *(f"{name}/{dataset}" for name in names for dataset in self.datasets), *stalls, "loss")

    def gradients(self) -> int:
        """Image gradients that attack one image of each set with every attack, at most."""
        return sum(attack.gradients * num_targets(attack.climb, MAX_TARGETS + 1) for attack in self.attacks.values())


def _misuse(attack: Attack) -> tuple[str, str]:
    """Why nothing is measured with it, and which key says so; empty if something is."""
    if attack.training_only:
        return ".kind", f"'{attack.kind}' is for training only; expected an attack that stays in its ball, such as pgd"
    if attack.climb == "robust":
        return ".climb", "an evaluation has no training loss to climb; expected cross_entropy, dlr, ..."
    if attack.climb == "embedding" and not attack.random_start:
        flat = f"the distance of embeddings has no gradient at the clean image, so the attack '{attack.kind}'"
        return "", f"{flat} would never move; expected one with a random start"
    return "", ""
