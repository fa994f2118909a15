"""Clean and attacked accuracy, always on the same images; clean is accuracy under the empty attack."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated

import numpy as np
import torch
from annotated_types import MinLen
from pydantic import model_validator
from pydantic.dataclasses import dataclass as component
from torch import Tensor

from robustcore.attacks import PGD, Attack, Clean
from robustcore.data import Data, ImageSet, Pixels, Preprocessing
from robustcore.data.images import as_pixels
from robustcore.errors import InputError
from robustcore.evaluation.survivors import survivors
from robustcore.losses import MAX_TARGETS, Classifier, Reference, check_climb, num_targets
from robustcore.models import Encoder
from robustcore.noise import Noise
from robustcore.process import Process
from robustcore.stalls import ZeroGradients
from robustcore.types import STRICT, PositiveCount

# Keeps the random starts of an evaluation apart from those of every training step.
_STREAM = -1
TAKEN = ("clean", "worst", "loss", "training")  # by other numbers of the results
WATCH = ("catastrophic_overfitting", "watch/single_step", "watch/pgd")


@component(frozen=True, config=STRICT)
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


@dataclass
class Suite:
    """An ``Evaluation`` with its images opened and its classifiers made, once unless ``classifier_of`` changes."""

    evaluation: Evaluation
    classifier_of: Callable[[ImageSet], Classifier]
    preprocessing: Preprocessing
    seed: int
    precision: torch.dtype
    text_is_trained: bool = False  # then classifiers are made anew at each evaluation
    _sets: dict[str, tuple[Pixels, Classifier]] = field(init=False)

    def __post_init__(self) -> None:
        self._sets = {}
        for name, source in self.evaluation.datasets.items():
            images = source.open()
            classifier = self.classifier_of(images)
            for attack_name, attack in self.evaluation.attacks.items():
                if attack.climb is not None:
                    check_climb(attack.climb, classifier.num_classes, f"evaluation.attacks.{attack_name}.climb")
            self._sets[name] = (Pixels(images, self.preprocessing), classifier)

    def __call__(self, encoder: Encoder, process: Process) -> dict[str, float]:
        """Shares in [0, 1] under the names of ``Evaluation.metrics``, the same on every process."""
        attacks = {"clean": Clean(), **self.evaluation.attacks}
        watches = [ZeroGradients() for _ in attacks]
        metrics: dict[str, float] = {}
        for dataset, (pixels, made) in self._sets.items():
            classifier = self.classifier_of(pixels.images) if self.text_is_trained else made
            counts = torch.zeros(len(attacks) + 1)
            for survived in self._survivals(encoder, list(attacks.values()), pixels, classifier, watches, process):
                counts += torch.stack([*survived, torch.stack(survived).all(dim=0)]).sum(dim=1)
            shares = (process.total(counts) / len(pixels)).tolist()
            metrics |= {f"{name}/{dataset}": share for name, share in zip([*attacks, "worst"], shares, strict=True)}
        means = {
            name: float(np.mean([metrics[f"{name}/{dataset}"] for dataset in self._sets]))
            for name in [*attacks, "worst"]
        }
        stalls = {
            f"zero_gradient/{name}": watch.take(process)
            for (name, attack), watch in zip(attacks.items(), watches, strict=True)
            if attack.gradients
        }
        return means | metrics | stalls

    def watch(self, single_step: Attack, encoder: Encoder, process: Process) -> dict[str, float]:
        """Catastrophic overfitting (Wong et al. 2020) on a held-out batch, the first of the first data set.

        Training against one step can teach an encoder to resist that step alone. ``watch/single_step`` and
        ``watch/pgd`` are accuracies under the training attack and under PGD-10 in its ball;
        ``catastrophic_overfitting`` is 1 where PGD leaves less than half of what the single step leaves.
        """
        assert single_step.kind != "clean", "the empty attack is no single step"
        single_step = replace(single_step, climb=None)  # both climb cross-entropy
        pixels, classifier = next(iter(self._sets.values()))
        if self.text_is_trained:
            classifier = self.classifier_of(pixels.images)
        batch = np.arange(min(len(pixels), self.evaluation.batch_size))
        attacks = [single_step, PGD(single_step.ball)]
        reference, images, noise = self._known(pixels, classifier, batch, process)
        one, many = (
            float(survived.float().mean()) for survived in survivors(encoder, attacks, images, reference, noise)
        )
        return dict(zip(WATCH, (float(many < one / 2), one, many), strict=True))

    def _survivals(
        self,
        encoder: Encoder,
        attacks: list[Attack],
        pixels: Pixels,
        classifier: Classifier,
        watches: list[ZeroGradients],
        process: Process,
    ) -> Iterator[list[Tensor]]:
        """Per batch of this process's images, which of them survive each attack: bool (B,) each."""
        mine = np.arange(process.rank, len(pixels), process.world_size)
        for start in range(0, len(mine), self.evaluation.batch_size):
            indices = mine[start : start + self.evaluation.batch_size]
            reference, images, noise = self._known(pixels, classifier, indices, process)
            yield survivors(encoder, attacks, images, reference, noise, self.precision, watches)

    def _known(
        self, pixels: Pixels, classifier: Classifier, indices: np.ndarray, process: Process
    ) -> tuple[Reference, Tensor, Noise]:
        images = as_pixels(pixels.at(indices), process.device)
        labels = torch.from_numpy(pixels.images.labels[indices]).to(process.device)
        noise = Noise.of(self.seed, _STREAM, torch.from_numpy(indices).to(process.device))
        return Reference(labels, classifier=classifier), images, noise
