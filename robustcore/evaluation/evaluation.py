"""What is to be measured: the component of a recipe that says which attacks meet which images."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal

from annotated_types import MinLen
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from robustcore.attacks import Attack, Climber
from robustcore.data import Captions, Data
from robustcore.errors import InputError
from robustcore.evaluation.drift import drift_names
from robustcore.evaluation.named_suite import NamedSuite
from robustcore.evaluation.retrieval import recall_names, retrieval_attacks
from robustcore.losses import MAX_TARGETS, num_targets
from robustcore.types import STRICT, Climb, PositiveCount

TAKEN = ("clean", "worst", "loss", "training", "drift")  # by other numbers of the results


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Evaluation:
    """What is measured, every ``every`` steps and at the end: each attack on each data set.

    The result has ``clean`` and every attack by its name, the share of images that survive it (a mean over data
    sets), ``<attack>/<data set>`` for each set, ``worst``: the share that survives all of them, and
    ``zero_gradient/<attack>``: the share of pixels whose gradient was exactly zero, which stalls an attack.

    ``suite`` adds the data sets of a named suite, which have prompts of their own. ``retrieval`` adds
    ``recall_at_1/image_to_text/<attack>/<set>`` and the like of captioned images (see ``recalls``). ``drift`` adds the
    squared distance of embeddings to the original ones, ``drift/<data set>`` and its mean ``drift``, and where its
    attack is not ``clean`` the largest one in the attack's ball, ``drift/attacked`` (see
    ``robustcore.evaluation.drift``). With ``resolution: native`` attacks change the stored pixels, and the resize is
    inside the model.
    """

    datasets: dict[str, Data] = Field(default_factory=dict)
    suite: NamedSuite | None = None
    attacks: dict[str, Attack]
    every: PositiveCount = 500
    prompts: Annotated[tuple[str, ...], MinLen(1)] = ("a photo of a {}.",)
    batch_size: PositiveCount = 256
    resolution: Literal["model", "native"] = "model"
    retrieval: dict[str, Captions] = Field(default_factory=dict)
    drift: Climber | None = None

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
        for name in self.datasets:
            if self.suite is not None and name in self.suite.names():
                message = f"the suite {self.suite.name} has a set of that name; expected another data set name"
                yield message, f"datasets.{name}"
        has_sets = bool(self.names())
        if not has_sets and not self.retrieval:
            yield "expected at least one data set", "datasets"
        if self.drift is not None:
            yield from self._misfits_of_drift(self.drift, has_sets)

    def _misfits_of_drift(self, attack: Climber, has_sets: bool) -> Iterator[tuple[str, str]]:
        if not has_sets:
            yield "drift is measured on the images of data sets; expected at least one", "drift"
        if attack.climb not in (None, "embedding"):
            yield f"drift is a distance of embeddings, expected 'embedding', got '{attack.climb}'", "drift.climb"
        if attack.kind != "clean":
            yield from ((message, f"drift{key}") for message, key in _misuse(attack, "embedding"))
        if "attacked" in self.datasets:
            message = "the name 'attacked' is taken by the results, expected another data set name"
            yield message, "datasets.attacked"

    def names(self) -> tuple[str, ...]:
        """Of every data set."""
        return (*self.datasets, *(self.suite.names() if self.suite is not None else ()))

    def sets(self) -> Iterator[tuple[str, Data, tuple[str, ...]]]:
        """Name, source and prompts of every data set. Raises DataError where one of the suite is missing."""
        for name, source in self.datasets.items():
            yield name, source, self.prompts
        if self.suite is not None:
            yield from self.suite.sets()

    def only(self, name: str) -> "Evaluation":
        """The same attacks on one of the data sets, and nothing else."""
        datasets = {known: source for known, source in self.datasets.items() if known == name}
        suite = None if datasets or self.suite is None else replace(self.suite, only=(name,))
        return replace(self, datasets=datasets, suite=suite, retrieval={}, drift=None)

    def metrics(self) -> tuple[str, ...]:
        """The names of everything an evaluation reports."""
        return metric_names(self.names(), self.attacks, self.retrieval, self.drift)

    def gradients(self) -> int:
        """Image gradients that attack one image of each set with every attack, at most; with those of drift."""
        drift = self.drift.gradients if self.drift is not None else 0
        return drift + sum(
            attack.gradients * num_targets(attack.climb, MAX_TARGETS + 1) for attack in self.attacks.values()
        )

    def retrieval_gradients(self) -> int:
        """Those that attack one captioned image."""
        return sum(attack.gradients for attack in retrieval_attacks(self.attacks).values())


def metric_names(
    sets: Sequence[str], attacks: Mapping[str, Attack], retrieval: Iterable[str], drift: Climber | None
) -> tuple[str, ...]:
    """Of an evaluation of these data sets and captioned sets; ``loss`` is the training's."""
    names = ("clean", *attacks, "worst") if sets else ()
    stalls = (f"zero_gradient/{name}" for name, attack in attacks.items() if attack.gradients and sets)
    found = (name for captioned in retrieval for name in recall_names(attacks, captioned))
    drifts = drift_names(drift, sets) if drift is not None else ()
    return (*names, *(f"{name}/{dataset}" for name in names for dataset in sets), *stalls, *found, *drifts, "loss")


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
