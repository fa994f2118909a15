"""What is to be measured: the component of a recipe that says which attacks meet which images."""

from collections.abc import Iterator
from typing import Annotated, Literal

from annotated_types import MinLen
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from robustcore.attacks import Attack
from robustcore.data import Captions, Data
from robustcore.errors import InputError
from robustcore.evaluation.drift import drift_names
from robustcore.evaluation.retrieval import recall_names
from robustcore.losses import MAX_TARGETS, num_targets
from robustcore.types import STRICT, Climb, PositiveCount

TAKEN = ("clean", "worst", "loss", "training", "drift")  # by other numbers of the results


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Evaluation:
    """What is measured, every ``every`` steps and at the end: each attack on each data set.

    The result has ``clean`` and every attack by its name, the share of images that survive it (a mean over data
    sets), ``<attack>/<data set>`` for each set, ``worst``: the share that survives all of them, and
    ``zero_gradient/<attack>``: the share of pixels whose gradient was exactly zero, which stalls an attack.

    ``retrieval`` adds ``recall_at_1/image_to_text/<attack>/<set>`` and the like of captioned images (see
    ``recalls``). ``drift`` adds the squared distance of embeddings to the original ones, ``drift/<data set>`` and its
    mean ``drift``, and where its attack is not ``clean`` the largest one in the attack's ball, ``drift/attacked`` (see
    ``robustcore.evaluation.drift``). With ``resolution: native`` attacks change the stored pixels, and the resize is
    inside the model.
    """

    datasets: dict[str, Data] = Field(default_factory=dict)
    attacks: dict[str, Attack]
    every: PositiveCount = 500
    prompts: Annotated[tuple[str, ...], MinLen(1)] = ("a photo of a {}.",)
    batch_size: PositiveCount = 256
    resolution: Literal["model", "native"] = "model"
    retrieval: dict[str, Captions] = Field(default_factory=dict)
    drift: Attack | None = None

    @model_validator(mode="after")
    def _measures(self) -> "Evaluation":
        for message, key in self._misfits():
            raise InputError(message, key)
        return self

    def _misfits(self) -> Iterator[tuple[str, str]]:
        for name, attack in self.attacks.items():
            if name in TAKEN:
                yield f"the name '{name}' is taken by the results, expected another attack name", f"attacks.{name}"
            yield from ((message, f"attacks.{name}{key}") for message, key in _misuse(attack, attack.climb))
        has_sets = any(self.sets())
        if not has_sets and not self.retrieval:
            yield "expected at least one data set", "datasets"
        if self.drift is not None:
            yield from self._misfits_of_drift(self.drift, has_sets)

    def _misfits_of_drift(self, attack: Attack, has_sets: bool) -> Iterator[tuple[str, str]]:
        if not has_sets:
            yield "drift is measured on the images of data sets; expected at least one", "drift"
        if attack.climb not in (None, "embedding"):
            yield f"drift is a distance of embeddings, expected 'embedding', got '{attack.climb}'", "drift.climb"
        if attack.kind != "clean":
            yield from ((message, f"drift{key}") for message, key in _misuse(attack, "embedding"))
        if "attacked" in self.datasets:
            message = "the name 'attacked' is taken by the results, expected another data set name"
            yield message, "datasets.attacked"

    def sets(self) -> Iterator[tuple[str, Data, tuple[str, ...]]]:
        """Name, source and prompts of every data set."""
        for name, source in self.datasets.items():
            yield name, source, self.prompts

    def metrics(self) -> tuple[str, ...]:
        """The names of everything an evaluation reports."""
        sets = [name for name, _, _ in self.sets()]
        names = ("clean", *self.attacks, "worst") if sets else ()
        stalls = (f"zero_gradient/{name}" for name, attack in self.attacks.items() if attack.gradients and sets)
        found = (name for caption_set in self.retrieval for name in recall_names(self.attacks, caption_set))
        drifts = drift_names(self.drift, sets) if self.drift is not None else ()
        of_sets = (f"{name}/{dataset}" for name in names for dataset in sets)
        return (*names, *of_sets, *stalls, *found, *drifts, "loss")

    def gradients(self) -> int:
        """Image gradients that attack one image of each set with every attack, at most."""
        return sum(attack.gradients * num_targets(attack.climb, MAX_TARGETS + 1) for attack in self.attacks.values())


def _misuse(attack: Attack, climb: Climb | None) -> Iterator[tuple[str, str]]:
    """Why nothing is measured with it, and which of its keys says so."""
    if attack.training_only:
        message = f"'{attack.kind}' is for training only; expected an attack that stays in its ball, such as pgd"
        yield message, ".kind"
    if climb == "robust":
        yield "an evaluation has no training loss to climb; expected cross_entropy, dlr, ...", ".climb"
    if climb == "embedding" and not attack.random_start:
        flat = f"the distance of embeddings has no gradient at the clean image, so the attack '{attack.kind}'"
        yield f"{flat} would never move; expected one with a random start", ""
