"""Clean and attacked accuracy, always on the same images; clean is accuracy under the empty attack."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from robustcore.attacks import PGD, Attack, Clean
from robustcore.data import Captions, ImageSet, NativePixels, Pixels, Preprocessing
from robustcore.evaluation.conditions import Batch, Conditions
from robustcore.evaluation.drift import drift, drift_means, drift_names
from robustcore.evaluation.evaluation import Evaluation
from robustcore.evaluation.outcome import Outcome, Survival, accuracies
from robustcore.evaluation.retrieval import CAPTION_ITSELF, CaptionsAsClasses, Gallery, recalls
from robustcore.evaluation.survivors import survivors
from robustcore.losses import Classifier, Reference, check_climb
from robustcore.losses.reference import zero_shot
from robustcore.models import Encoder
from robustcore.models.native import NativeResolution
from robustcore.process import Process
from robustcore.stalls import ZeroGradients

WATCH = ("catastrophic_overfitting", "watch/single_step", "watch/pgd")
# Over the classes of an image set; the templates are those of its prompts, which a linear probe has none of.
ClassifierOf = Callable[[ImageSet, tuple[str, ...]], Classifier]


# phi0(x) of the images as they are attacked, (N, D).
AnchorsOf = Callable[[Pixels | NativePixels], np.ndarray]


@dataclass
class Exhibit:
    """A data set as it is measured: its images as they are attacked, and the classifier over its classes."""

    pixels: Pixels | NativePixels
    prompts: tuple[str, ...]
    classifier: Classifier
    anchors: np.ndarray | None = None  # (N, D), phi0(x), where drift is measured


@dataclass
class Suite:
    """An ``Evaluation`` with its images opened and its classifiers made, once unless ``classifier_of`` changes.

    ``anchors_of`` is asked at once, so that the original embeddings are there before training changes a weight.
    """

    evaluation: Evaluation
    classifier_of: ClassifierOf
    preprocessing: Preprocessing
    seed: int
    precision: torch.dtype
    text_is_trained: bool = False  # then classifiers are made anew at each evaluation
    anchors_of: AnchorsOf | None = None  # needed where the evaluation measures drift
    _exhibits: dict[str, Exhibit] = field(init=False)
    _galleries: dict[str, Gallery] = field(init=False)

    def __post_init__(self) -> None:
        sets = self.evaluation.sets()
        self._exhibits = {name: self._opened(source.open(), prompts) for name, source, prompts in sets}
        self._galleries = {name: self._hung(source) for name, source in self.evaluation.retrieval.items()}

    def _opened(self, images: ImageSet, prompts: tuple[str, ...]) -> Exhibit:
        classifier = self.classifier_of(images, prompts)
        for name, attack in self.evaluation.attacks.items():
            if attack.climb is not None:
                check_climb(attack.climb, classifier.num_classes, f"evaluation.attacks.{name}.climb")
        pixels = self._pixels(images)
        if self.evaluation.drift is None:
            return Exhibit(pixels, prompts, classifier)
        assert self.anchors_of is not None, "drift is measured from the original encoder"
        return Exhibit(pixels, prompts, classifier, self.anchors_of(pixels))

    def _hung(self, source: Captions) -> Gallery:
        images = CaptionsAsClasses(source.open())
        return Gallery(self._pixels(images), zero_shot(self.classifier_of(images, CAPTION_ITSELF)), images.own())

    def _pixels(self, images: ImageSet) -> Pixels | NativePixels:
        is_native = self.evaluation.resolution == "native"
        return NativePixels(images) if is_native else Pixels(images, self.preprocessing)

    def __call__(self, encoder: Encoder, process: Process) -> Outcome:
        """The same on every process."""
        encoder = self._attacked(encoder)
        attacks = {"clean": Clean(), **self.evaluation.attacks}
        watches = {name: ZeroGradients() for name in attacks}
        conditions = self._conditions(process)
        self._renew_classifiers()
        survivals = {
            name: self._survival(encoder, attacks, exhibit, watches, conditions)
            for name, exhibit in self._exhibits.items()
        }
        stalls = {
            f"zero_gradient/{name}": watches[name].take(process)
            for name, attack in attacks.items()
            if attack.gradients and survivals
        }
        found: dict[str, float] = {}
        for name, gallery in self._galleries.items():
            found |= recalls(encoder, gallery, self.evaluation.attacks, name, conditions)
        queries = {name: (gallery.own.shape[0], gallery.own.shape[1]) for name, gallery in self._galleries.items()}
        metrics = accuracies(survivals) | stalls | found | self._drifts(encoder, conditions)
        return Outcome(metrics, survivals, queries=queries)

    def _attacked(self, encoder: Encoder) -> Encoder:
        """What takes the images in the form in which they are attacked."""
        return NativeResolution(encoder, self.preprocessing) if self.evaluation.resolution == "native" else encoder

    def _conditions(self, process: Process) -> Conditions:
        return Conditions(process, self.evaluation.batch_size, self.seed, self.precision)

    def _renew_classifiers(self) -> None:
        if not self.text_is_trained:
            return
        for exhibit in self._exhibits.values():
            exhibit.classifier = self.classifier_of(exhibit.pixels.images, exhibit.prompts)
        for gallery in self._galleries.values():
            gallery.classifier = zero_shot(self.classifier_of(gallery.pixels.images, CAPTION_ITSELF))

    def _drifts(self, encoder: Encoder, conditions: Conditions) -> dict[str, float]:
        attack = self.evaluation.drift
        if attack is None:
            return {}
        found: dict[str, float] = {}
        for name, exhibit in self._exhibits.items():
            assert exhibit.anchors is not None, "asked for when the set was opened"
            clean, attacked = drift(encoder, attack, exhibit.pixels, exhibit.anchors, conditions)
            found |= {f"drift/{name}": clean, f"drift/attacked/{name}": attacked}
        found |= drift_means(found)
        return {name: found[name] for name in drift_names(attack, list(self._exhibits))}

    def count(self, dataset: str) -> int:
        """The number of images of one data set."""
        return len(self._exhibits[dataset].pixels)

    def survived(self, dataset: str, chosen: np.ndarray, encoder: Encoder, process: Process) -> dict[str, np.ndarray]:
        """Of the images at ``chosen`` (n,) of one data set: by attack, ``clean`` too, (n,) bool.

        An image's fate is the same whichever others are chosen with it; nothing is shared with other processes.
        """
        attacks = {"clean": Clean(), **self.evaluation.attacks}
        watches = {name: ZeroGradients() for name in attacks}
        exhibit, conditions = self._exhibits[dataset], self._conditions(process)
        table = self._survived(self._attacked(encoder), attacks, exhibit, chosen, watches, conditions)
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
        batch = next(self._conditions(process).batches(exhibit.pixels, np.arange(len(exhibit.pixels))))
        attacks = [single_step, PGD(single_step.ball)]
        one, many = (
            float(survived.float().mean())
            for survived in survivors(
                self._attacked(encoder), attacks, batch.images, _known(exhibit, batch), batch.noise
            )
        )
        return dict(zip(WATCH, (float(many < one / 2), one, many), strict=True))

    def _survival(
        self,
        encoder: Encoder,
        attacks: Mapping[str, Attack],
        exhibit: Exhibit,
        watches: Mapping[str, ZeroGradients],
        conditions: Conditions,
    ) -> Survival:
        """Each process attacks its share of the images."""
        images = exhibit.pixels.images
        table = torch.zeros(len(images.labels), len(attacks))
        mine = conditions.share(len(images.labels))
        table[mine] = self._survived(encoder, attacks, exhibit, mine, watches, conditions)
        survived = conditions.process.total(table).numpy() > 0
        return Survival(images.classes, images.labels, dict(zip(attacks, survived.T, strict=True)))

    def _survived(
        self,
        encoder: Encoder,
        attacks: Mapping[str, Attack],
        exhibit: Exhibit,
        chosen: np.ndarray,
        watches: Mapping[str, ZeroGradients],
        conditions: Conditions,
    ) -> Tensor:
        """(len(chosen), attacks), 1 where the image survives the attack."""
        found = torch.zeros(len(exhibit.pixels), len(attacks))
        for batch in conditions.batches(exhibit.pixels, chosen):
            survived = survivors(
                encoder,
                list(attacks.values()),
                batch.images,
                _known(exhibit, batch),
                batch.noise,
                conditions.precision,
                list(watches.values()),
            )
            found[batch.indices] = torch.stack(survived, dim=1).float()
        return found[chosen]


def _known(exhibit: Exhibit, batch: Batch) -> Reference:
    labels = torch.from_numpy(exhibit.pixels.images.labels[batch.indices]).to(batch.images.device)
    return Reference(labels, classifier=exhibit.classifier)
