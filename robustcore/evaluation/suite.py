"""Clean and attacked accuracy, always on the same images; clean is accuracy under the empty attack."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from robustcore.attacks import PGD, Attack, Clean
from robustcore.data import ImageSet, Pixels, Preprocessing
from robustcore.data.images import as_pixels
from robustcore.evaluation.evaluation import Evaluation
from robustcore.evaluation.outcome import Outcome, Survival, accuracies
from robustcore.evaluation.survivors import survivors
from robustcore.losses import Classifier, Reference, check_climb
from robustcore.models import Encoder
from robustcore.noise import Noise
from robustcore.process import Process
from robustcore.stalls import ZeroGradients

# Keeps the random starts of an evaluation apart from those of every training step.
_STREAM = -1
WATCH = ("catastrophic_overfitting", "watch/single_step", "watch/pgd")
# Over the classes of an image set; the templates are those of its prompts, which a linear probe has none of.
ClassifierOf = Callable[[ImageSet, tuple[str, ...]], Classifier]


@dataclass
class Exhibit:
    """A data set as it is measured: its images at the model's size, and the classifier over its classes."""

    pixels: Pixels
    prompts: tuple[str, ...]
    classifier: Classifier


@dataclass
class Suite:
    """An ``Evaluation`` with its images opened and its classifiers made, once unless ``classifier_of`` changes."""

    evaluation: Evaluation
    classifier_of: ClassifierOf
    preprocessing: Preprocessing
    seed: int
    precision: torch.dtype
    text_is_trained: bool = False  # then classifiers are made anew at each evaluation
    _exhibits: dict[str, Exhibit] = field(init=False)

    def __post_init__(self) -> None:
        self._exhibits = {name: self._opened(source.open()) for name, source in self.evaluation.datasets.items()}

    def _opened(self, images: ImageSet) -> Exhibit:
        prompts = self.evaluation.prompts
        classifier = self.classifier_of(images, prompts)
        for name, attack in self.evaluation.attacks.items():
            if attack.climb is not None:
                check_climb(attack.climb, classifier.num_classes, f"evaluation.attacks.{name}.climb")
        return Exhibit(Pixels(images, self.preprocessing), prompts, classifier)

    def __call__(self, encoder: Encoder, process: Process) -> Outcome:
        """The same on every process."""
        attacks = {"clean": Clean(), **self.evaluation.attacks}
        watches = {name: ZeroGradients() for name in attacks}
        survivals = {}
        for name, exhibit in self._exhibits.items():
            if self.text_is_trained:
                exhibit.classifier = self.classifier_of(exhibit.pixels.images, exhibit.prompts)
            survivals[name] = self._survival(encoder, attacks, exhibit, watches, process)
        stalls = {
            f"zero_gradient/{name}": watches[name].take(process) for name, attack in attacks.items() if attack.gradients
        }
        return Outcome(accuracies(survivals) | stalls, survivals)

    def count(self, dataset: str) -> int:
        """The number of images of one data set."""
        return len(self._exhibits[dataset].pixels)

    def survived(self, dataset: str, chosen: np.ndarray, encoder: Encoder, process: Process) -> dict[str, np.ndarray]:
        """Of the images at ``chosen`` (n,) of one data set: by attack, ``clean`` too, (n,) bool.

        An image's fate is the same whichever others are chosen with it; nothing is shared with other processes.
        """
        attacks = {"clean": Clean(), **self.evaluation.attacks}
        watches = {name: ZeroGradients() for name in attacks}
        table = self._survived(encoder, attacks, self._exhibits[dataset], chosen, watches, process.device)
        return dict(zip(attacks, table.numpy().T > 0, strict=True))

    def watch(self, single_step: Attack, encoder: Encoder, process: Process) -> dict[str, float]:
        """Catastrophic overfitting (Wong et al. 2020) on a held-out batch, the first of the first data set.

        Training against one step can teach an encoder to resist that step alone. ``watch/single_step`` and
        ``watch/pgd`` are accuracies under the training attack and under PGD-10 in its ball;
        ``catastrophic_overfitting`` is 1 where PGD leaves less than half of what the single step leaves.
        """
        assert single_step.kind != "clean", "the empty attack is no single step"
        single_step = replace(single_step, climb=None)  # both climb cross-entropy
        exhibit = next(iter(self._exhibits.values()))
        if self.text_is_trained:
            exhibit.classifier = self.classifier_of(exhibit.pixels.images, exhibit.prompts)
        batch = np.arange(min(len(exhibit.pixels), self.evaluation.batch_size))
        attacks = [single_step, PGD(single_step.ball)]
        reference, images, noise = self._known(exhibit, batch, process.device)
        one, many = (
            float(survived.float().mean()) for survived in survivors(encoder, attacks, images, reference, noise)
        )
        return dict(zip(WATCH, (float(many < one / 2), one, many), strict=True))

    def _survival(
        self,
        encoder: Encoder,
        attacks: Mapping[str, Attack],
        exhibit: Exhibit,
        watches: Mapping[str, ZeroGradients],
        process: Process,
    ) -> Survival:
        """Each process attacks its share of the images."""
        images = exhibit.pixels.images
        mine = np.arange(process.rank, len(images.labels), process.world_size)
        table = torch.zeros(len(images.labels), len(attacks))
        table[mine] = self._survived(encoder, attacks, exhibit, mine, watches, process.device)
        survived = process.total(table).numpy() > 0
        return Survival(images.classes, images.labels, dict(zip(attacks, survived.T, strict=True)))

    def _survived(
        self,
        encoder: Encoder,
        attacks: Mapping[str, Attack],
        exhibit: Exhibit,
        chosen: np.ndarray,
        watches: Mapping[str, ZeroGradients],
        device: torch.device,
    ) -> Tensor:
        """(len(chosen), attacks), 1 where the image survives the attack."""
        found = [torch.zeros(0, len(attacks))]  # a process may have no image
        for start in range(0, len(chosen), self.evaluation.batch_size):
            indices = chosen[start : start + self.evaluation.batch_size]
            reference, images, noise = self._known(exhibit, indices, device)
            survived = survivors(
                encoder, list(attacks.values()), images, reference, noise, self.precision, list(watches.values())
            )
            found.append(torch.stack(survived, dim=1).float())
        return torch.cat(found)

    def _known(self, exhibit: Exhibit, indices: np.ndarray, device: torch.device) -> tuple[Reference, Tensor, Noise]:
        images = as_pixels(exhibit.pixels.at(indices), device)
        labels = torch.from_numpy(exhibit.pixels.images.labels[indices]).to(device)
        noise = Noise.of(self.seed, _STREAM, torch.from_numpy(indices).to(device))
        return Reference(labels, classifier=exhibit.classifier), images, noise
