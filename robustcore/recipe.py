"""Recipe: everything one fine-tuning run needs, one frozen value. Where it runs is not in it."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import TypeAdapter, model_validator
from pydantic.dataclasses import dataclass

from robustcore.attacks import Climber
from robustcore.data import Data, FewShot, ImageSet
from robustcore.errors import InputError
from robustcore.evaluation import WATCH, Evaluation
from robustcore.losses import Loss
from robustcore.models import Model
from robustcore.optim import Optim
from robustcore.text_stage import ANGLES, TextStage
from robustcore.types import STRICT, Climb, Count, PositiveCount


@dataclass(frozen=True, config=STRICT)
class TrainingData:
    """The images to train on; ``batch_size`` counts all workers together. ``shots`` takes so many of each class."""

    train: Data
    batch_size: PositiveCount = 128
    shots: Literal[1, 2, 4, 8, 16] | None = None

    def open(self, seed: int) -> ImageSet:
        """The training images; the few shots are drawn by ``seed``. Raises DataError."""
        images = self.train.open()
        return images if self.shots is None else FewShot(images, self.shots, seed)


@dataclass(frozen=True, config=STRICT)
class Recipe:
    """One complete trial. Raises pydantic's ValidationError on an unknown key, a wrong type or a wrong combination."""

    model: Model
    data: TrainingData
    loss: Loss
    attack: Climber
    optim: Optim
    evaluation: Evaluation
    text: TextStage | None = None
    seed: Count = 0
    precision: Literal["fp32", "bf16"] = "fp32"

    @model_validator(mode="after")
    def _parts_fit(self) -> "Recipe":
        for message, key in self._misfits():
            raise InputError(message, key)
        return self

    def _misfits(self) -> Iterator[tuple[str, str]]:
        if self._climbs_nothing():
            what = f"the loss '{self.loss.kind}'" if self.climb == "robust" else "the distance of embeddings"
            yield (
                f"{what} has no gradient at the clean image, so the attack '{self.attack.kind}' "
                "would never move; expected one with a random start (pgd with random_start: true)",
                "attack",
            )
        if self.optim.warmup > self.optim.steps:
            yield f"optim.warmup ({self.optim.warmup}) exceeds optim.steps ({self.optim.steps})", "optim.warmup"
        if not self.evaluation.names():
            yield "a trial is judged by its accuracy; expected at least one data set", "evaluation.datasets"
        if self.model.kind == "simclr":
            yield from self._misfits_of_simclr()
        elif self.trains_text:
            if self.text is not None:
                message = "the text stage fixes the text tower, expected 'vision' or no text stage, got 'both'"
                yield message, "model.lora.towers"
            if not self.loss.prompts:
                message = f"'{self.loss.kind}' reads no text that the text tower could learn from"
                yield f"{message}; expected 'vision', got 'both'", "model.lora.towers"

    def _climbs_nothing(self) -> bool:
        flat = self.loss.flat_at_start if self.climb == "robust" else self.climb == "embedding"
        return flat and not self.attack.random_start

    def _misfits_of_simclr(self) -> Iterator[tuple[str, str]]:
        assert self.model.kind == "simclr"
        if self.loss.prompts:
            message = f"'{self.loss.kind}' compares images with texts, which a SimCLR encoder has none of"
            yield f"{message}; expected fare or sim_clip", "loss.kind"
        if self.text is not None:
            yield "a SimCLR encoder has no text tower to tune; expected no text stage", "text"
        if self.evaluation.retrieval:
            yield "retrieval compares images with texts, which a SimCLR encoder has none of", "evaluation.retrieval"
        if self.model.batch_norm == "batch" and self.model.lora is not None:
            yield "LoRA keeps BatchNorm as it is, expected 'frozen', got 'batch'", "model.batch_norm"
        if self.model.batch_norm == "batch" and self.optim.accumulate > 1:
            message = "statistics of the batch are not those of its parts; expected 1 with model.batch_norm: batch"
            yield f"{message}, got {self.optim.accumulate}", "optim.accumulate"

    @property
    def climb(self) -> Climb:
        """What the attacker climbs in training."""
        return self.attack.climb or self.loss.climb

    @property
    def trains_text(self) -> bool:
        """Whether the text tower is trained along with the image tower, through LoRA."""
        return self.model.kind == "clip" and self.model.lora is not None and self.model.lora.towers == "both"

    @property
    def is_single_step(self) -> bool:
        """Whether training takes one gradient an image: then evaluations watch for catastrophic overfitting."""
        return self.attack.gradients == 1 and self.attack.kind != "universal"

    def metrics(self) -> tuple[str, ...]:
        """The names of everything that a trial reports."""
        stalls = ("zero_gradient/training",) if self.attack.gradients else ()
        angles = ANGLES if self.text is not None else ()
        return (*self.evaluation.metrics(), *stalls, *angles, *(WATCH if self.is_single_step else ()))

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
