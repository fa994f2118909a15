"""Recipe: everything one fine-tuning run needs, one frozen value. Where it runs is not in it."""

import hashlib
import json
from typing import Any, Literal

from pydantic import TypeAdapter, model_validator
from pydantic.dataclasses import dataclass

from robustcore.attacks import Attack
from robustcore.data import Data
from robustcore.errors import InputError
from robustcore.evaluation import Evaluation
from robustcore.losses import Loss
from robustcore.models import Model
from robustcore.optim import Optim
from robustcore.types import STRICT, Count, PositiveCount


@dataclass(frozen=True, config=STRICT)
class TrainingData:
    """The images to train on; ``batch_size`` counts all workers together."""

    train: Data
    batch_size: PositiveCount = 128


@dataclass(frozen=True, config=STRICT)
class Recipe:
    """One complete trial. Raises pydantic's ValidationError on an unknown key, a wrong type or a wrong combination."""

    model: Model
    data: TrainingData
    loss: Loss
    attack: Attack
    optim: Optim
    evaluation: Evaluation
    seed: Count = 0
    precision: Literal["fp32", "bf16"] = "fp32"

    @model_validator(mode="after")
    def _attack_can_move(self) -> "Recipe":
        if self.loss.flat_at_start and not self.attack.random_start:
            raise InputError(
                f"the loss '{self.loss.kind}' has no gradient at the clean image, so the attack '{self.attack.kind}' "
                "would never move; expected one with a random start (pgd with random_start: true)",
                "attack",
            )
        return self

    @model_validator(mode="after")
    def _schedule_fits(self) -> "Recipe":
        if self.optim.warmup > self.optim.steps:
            message = f"optim.warmup ({self.optim.warmup}) exceeds optim.steps ({self.optim.steps})"
            raise InputError(message, "optim.warmup")
        return self

    def as_json(self) -> dict[str, Any]:
        """Plain values that ``recipe_from`` reads back."""
        plain: dict[str, Any] = _RECIPE.dump_python(self, mode="json")
        return plain

    def fingerprint(self) -> str:
        """SHA-256 of every value: two runs with one fingerprint are the same experiment."""
        return hashlib.sha256(json.dumps(self.as_json(), sort_keys=True).encode()).hexdigest()

    def gradients(self) -> int:
        """Image gradients that the attacks of its training take."""
        return self.optim.steps * self.data.batch_size * self.attack.gradients


_RECIPE: TypeAdapter[Recipe] = TypeAdapter(Recipe)


def recipe_from(plain: dict[str, Any]) -> Recipe:
    """A recipe from plain values; raises pydantic's ValidationError."""
    return _RECIPE.validate_python(plain)
