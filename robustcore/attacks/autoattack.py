"""AutoAttack (Croce & Hein 2020, arXiv 2003.01690): four unlike attacks in a row, an image being as good as its worst.

For evaluation alone. This is its configuration; it needs classes and not just a loss, so what runs it is
``robustcore.evaluation.autoattack``.
"""

from typing import Annotated, Literal, get_args

from annotated_types import MinLen
from pydantic import model_validator
from pydantic.dataclasses import dataclass

from robustcore.attacks.balls import Ball
from robustcore.errors import InputError
from robustcore.types import STRICT, PositiveCount

Stage = Literal["apgd_ce", "apgd_dlr", "apgd_t", "fab_t", "square"]
TARGETED: tuple[Stage, ...] = ("apgd_t", "fab_t")
_STANDARD: tuple[Stage, ...] = ("apgd_ce", "apgd_t", "fab_t", "square")
_RANDOMISED: tuple[Stage, ...] = ("apgd_ce", "apgd_dlr")
_FEW: dict[int, tuple[Stage, ...]] = {2: ("apgd_ce", "square"), 3: ("apgd_ce", "apgd_dlr", "fab_t", "square")}
_LEAST_CLASSES: dict[Stage, int] = {"apgd_ce": 2, "apgd_dlr": 3, "apgd_t": 4, "fab_t": 2, "square": 2}
_DRAWS = 20  # for a model that is random on purpose


@dataclass(frozen=True, config=STRICT)
class AutoAttack:
    """``standard``: APGD on cross-entropy, APGD on targeted DLR, FAB-T, Square; each on what the one before left.

    ``rand`` is for models that are random on purpose: APGD on cross-entropy and on DLR, each gradient and each verdict
    being a mean over ``eot`` forward passes. ``custom`` runs ``stages`` in their order.
    """

    ball: Ball
    version: Literal["standard", "rand", "custom"] = "standard"
    stages: Annotated[tuple[Stage, ...], MinLen(1)] | None = None  # of a custom version
    steps: PositiveCount = 100  # of each gradient attack, for each target
    queries: PositiveCount = 5000  # of Square
    targets: PositiveCount = 9  # of targeted attacks: the most likely wrong classes
    eot: PositiveCount | None = None  # forward passes a look; None: 20 in version rand, else 1
    kind: Literal["autoattack"] = "autoattack"

    climb = None
    random_start = True
    training_only = False

    @model_validator(mode="after")
    def _fits(self) -> "AutoAttack":
        if (self.stages is None) == (self.version == "custom"):
            expected = f"expected a list of {', '.join(get_args(Stage))}" if self.stages is None else "expected none"
            raise InputError(f"{expected} with version '{self.version}'", "stages")
        if self.stages is not None and len(set(self.stages)) < len(self.stages):
            raise InputError(f"expected each stage once, got {', '.join(self.stages)}", "stages")
        return self

    @property
    def draws(self) -> int:
        """Forward passes for each look at a point."""
        return self.eot or (_DRAWS if self.version == "rand" else 1)

    @property
    def gradients(self) -> int:
        """Gradients it takes for each image, at most; of Square's looks, which need none, three count as one."""
        rounds = {stage: self.targets if stage in TARGETED else 1 for stage in self._named()}
        looks = (-(-self.queries // 3) if stage == "square" else self.looks(stage) * rounds[stage] for stage in rounds)
        return sum(looks) * self.draws

    @property
    def possible(self) -> tuple[Stage, ...]:
        """All stages that some number of classes makes it run."""
        return get_args(Stage) if self.version == "standard" else self._named()

    def looks(self, stage: Stage) -> int:
        """Points that a stage looks at, for each image and target."""
        return self.queries if stage == "square" else self.steps + 1

    def programme(self, num_classes: int) -> tuple[Stage, ...]:
        """The stages that run on so many classes.

        DLR compares three classes and targeted DLR four: three classes leave the standard version with DLR that has
        no target, and two with cross-entropy and Square.
        """
        return _FEW.get(num_classes, _STANDARD) if self.version == "standard" else self._named()

    def check_classes(self, num_classes: int, key: str = "") -> None:
        """InputError where there are too few classes for a stage that another version than the standard one names."""
        for stage in self.programme(num_classes):
            if num_classes < _LEAST_CLASSES[stage]:
                at = "version" if self.stages is None else "stages"
                message = f"'{stage}' compares at least {_LEAST_CLASSES[stage]} classes, got {num_classes}"
                raise InputError(message, f"{key}.{at}" if key else at)

    def _named(self) -> tuple[Stage, ...]:
        if self.stages is not None:
            return self.stages
        return _STANDARD if self.version == "standard" else _RANDOMISED
