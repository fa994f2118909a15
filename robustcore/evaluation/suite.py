"""Clean and attacked accuracy, always on the same images; clean is accuracy under the empty attack."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from robustcore.attacks import PGD, Attack, AutoAttack, Climber
from robustcore.data import Captions, ImageSet, NativePixels, Pixels, Preprocessing
from robustcore.evaluation.conditions import Conditions
from robustcore.evaluation.drift import drift, drift_means, drift_names
from robustcore.evaluation.evaluation import Evaluation
from robustcore.evaluation.exhibit import Exhibit
from robustcore.evaluation.flags import Evidence, added, flags
from robustcore.evaluation.outcome import Outcome, Survival, accuracies
from robustcore.evaluation.retrieval import CAPTION_ITSELF, CaptionsAsClasses, Gallery, recalls
from robustcore.evaluation.survivors import survivors
from robustcore.losses import Classifier, check_climb
from robustcore.losses.reference import zero_shot
from robustcore.models import Encoder
from robustcore.models.native import NativeResolution
from robustcore.process import Process

WATCH = ("catastrophic_overfitting", "watch/single_step", "watch/pgd")
# Over the classes of an image set; the templates are those of its prompts, which a linear probe has none of.
ClassifierOf = Callable[[ImageSet, tuple[str, ...]], Classifier]
# phi0(x) of the images as they are attacked, (N, D).
AnchorsOf = Callable[[Pixels | NativePixels], np.ndarray]


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
            _check_classes(attack, classifier.num_classes, f"evaluation.attacks.{name}")
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
        conditions = self._conditions(process)
        self._renew_classifiers()
        survivals, evidence = {}, {}
        for name, exhibit in self._exhibits.items():
            survivals[name], evidence[name] = self._survival(encoder, exhibit, conditions)
        stalls = self._stalls(added(evidence.values())) if survivals else {}
        found: dict[str, float] = {}
        for name, gallery in self._galleries.items():
            found |= recalls(encoder, gallery, self.evaluation.attacks, name, conditions)
        queries = {name: (gallery.own.shape[0], gallery.own.shape[1]) for name, gallery in self._galleries.items()}
        metrics = accuracies(survivals) | stalls | found | self._drifts(encoder, conditions)
        return Outcome(metrics, survivals, flags(self.evaluation.attacks, survivals, evidence), queries)

    def _stalls(self, evidence: Evidence) -> dict[str, float]:
        attacks = self.evaluation.attacks.items()
        return {
            f"zero_gradient/{name}": evidence[f"zeros/{name}"] / max(evidence[f"pixels/{name}"], 1)
            for name, attack in attacks
            if attack.gradients
        }

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

    def images(self, dataset: str) -> ImageSet:
        """One data set."""
        return self._exhibits[dataset].pixels.images

    def attacked(
        self, dataset: str, chosen: np.ndarray, encoder: Encoder, process: Process
    ) -> tuple[dict[str, np.ndarray], Evidence]:
        """Of the images at ``chosen`` (n,) of a data set: by attack, ``clean`` too, (n,) bool; and evidence for flags.

        An image's fate is the same whichever others are chosen with it, and the evidence of several choices adds up
        to that of all of them. Nothing is shared with other processes.
        """
        exhibit, conditions = self._exhibits[dataset], self._conditions(process)
        return exhibit.survived(self._attacked(encoder), self.evaluation.attacks, chosen, conditions)

    def watch(self, single_step: Climber, encoder: Encoder, process: Process) -> dict[str, float]:
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
            for survived in survivors(self._attacked(encoder), attacks, batch.images, exhibit.known(batch), batch.noise)
        )
        return dict(zip(WATCH, (float(many < one / 2), one, many), strict=True))

    def _survival(self, encoder: Encoder, exhibit: Exhibit, conditions: Conditions) -> tuple[Survival, Evidence]:
        """Each process attacks its share of the images."""
        images, process = exhibit.pixels.images, conditions.process
        mine = conditions.share(len(images.labels))
        found, evidence = exhibit.survived(encoder, self.evaluation.attacks, mine, conditions)
        table = torch.zeros(len(images.labels), len(found))
        table[mine] = torch.from_numpy(np.stack(list(found.values()), axis=1)).float()
        survived = process.total(table).numpy() > 0
        totals = process.total(torch.tensor(list(evidence.values()), dtype=torch.float64)).tolist()
        survival = Survival(images.classes, images.labels, dict(zip(found, survived.T, strict=True)))
        return survival, dict(zip(evidence, totals, strict=True))


def _check_classes(attack: Attack, num_classes: int, key: str) -> None:
    if isinstance(attack, AutoAttack):
        attack.check_classes(num_classes, key)
    elif attack.climb is not None:
        check_climb(attack.climb, num_classes, f"{key}.climb")
