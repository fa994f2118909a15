"""What is made once, before the first step changes a weight: all that is known of the images and the original."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from robustcore.data import ImageSet, Pixels, Preprocessing
from robustcore.data.references import original_embeddings
from robustcore.errors import DataError
from robustcore.evaluation.probe import cached_probe
from robustcore.losses import Classifier, ZeroShot, check_climb
from robustcore.models import Encoder, Loaded, TextTower
from robustcore.process import Process
from robustcore.recipe import Recipe
from robustcore.text_stage import load_text, row_angles, tune_text
from robustcore.trainee import Trainee, text_part


@dataclass
class Prepared:
    """What the loop starts from. ``classifier_of`` gives the classifier over the classes of any image set."""

    trainee: Trainee
    pixels: Pixels
    preprocessing: Preprocessing
    classifier_of: Callable[[ImageSet], Classifier]
    original: np.ndarray | None = None  # (N, D), phi0(x) of the training images
    classifier: Classifier | None = None  # over the training classes, where something compares with them
    original_classifier: Classifier | None = None
    original_encoder: Encoder | None = None  # phi0 itself, for what is not known in advance: phi0(z)
    facts: dict[str, float] = field(default_factory=dict)  # metrics that stay what they are


def prepare(recipe: Recipe, process: Process, weights: dict[str, Tensor] | None = None) -> Prepared:
    """Load, embed, fit and tune what the recipe asks for; raises InputError where something is not as described.

    ``weights`` are those of a run that goes on (``Trainee.tensors``): tuned text is taken from there.
    """
    loaded = recipe.model.load()
    loaded.to(process.device)
    pixels = Pixels(recipe.data.open(recipe.seed), loaded.preprocessing)
    known = _Original(recipe, loaded, process)
    needs = set(recipe.loss.needs)
    original = known.embeddings(pixels) if "original" in needs or recipe.climb == "embedding" or recipe.text else None
    original_encoder = None
    if "original_perturbed" in needs:
        original_encoder = deepcopy(loaded.encoder).requires_grad_(False)
    if loaded.text is None:
        classifier_of = known.probe_for(pixels.images)
        made = Prepared(Trainee(recipe, loaded), pixels, loaded.preprocessing, classifier_of, original)
        made.classifier = classifier_of(pixels.images)
    else:
        made = _with_text(recipe, loaded, loaded.text, pixels, original, process, weights)
    made.original_encoder = original_encoder
    if made.classifier is not None:
        check_climb(recipe.climb, made.classifier.num_classes, "attack.climb")
    return made


class _Original:
    """The encoder before anything has changed it."""

    def __init__(self, recipe: Recipe, loaded: Loaded, process: Process) -> None:
        self._recipe, self._encoder, self._process = recipe, loaded.encoder, process
        self._preprocessing = loaded.preprocessing
        self.fingerprint = loaded.encoder.fingerprint()

    def embeddings(self, pixels: Pixels) -> np.ndarray:
        """phi0(x), (N, D)."""
        process = self._process
        return original_embeddings(self._encoder, self.fingerprint, pixels, process.cache, process.device)

    def probe_for(self, chosen: ImageSet) -> Callable[[ImageSet], Classifier]:
        """A linear probe fitted on all training images, also where only a few shots are trained on."""
        images = self._recipe.data.train.open()
        pixels = Pixels(images, self._preprocessing)
        key = f"{self.fingerprint}|{images.fingerprint}|{self._preprocessing}"
        probe = cached_probe(
            self.embeddings(pixels),
            images.labels,
            len(images.classes),
            self._process.device,
            self._process.cache,
            key,
        )
        self._process.agree([probe.weight, probe.bias])

        def classifier_of(other: ImageSet) -> Classifier:
            if other.classes != chosen.classes:
                raise DataError(
                    f"{other.name} has other classes than the training images; a linear probe knows those of "
                    f"{chosen.name} alone",
                    "evaluation.datasets",
                )
            return probe

        return classifier_of


def _with_text(
    recipe: Recipe,
    loaded: Loaded,
    tower: TextTower,
    pixels: Pixels,
    original: np.ndarray | None,
    process: Process,
    weights: dict[str, Tensor] | None,
) -> Prepared:
    prompts, classes = recipe.loss.prompts or recipe.evaluation.prompts, pixels.images.classes
    compares = bool(recipe.loss.prompts) or recipe.climb not in ("robust", "embedding")
    facts: dict[str, float] = {}

    @torch.no_grad()
    def zero_shot(names: tuple[str, ...], prompts: tuple[str, ...]) -> ZeroShot:
        return ZeroShot(tower.rows(names, prompts), tower.scale)

    before = after = zero_shot(classes, prompts) if compares or recipe.text is not None else None
    if recipe.text is not None:
        assert original is not None, "the text stage distils from the original embeddings"
        assert before is not None, "and from the original rows"
        if weights is None:
            fingerprint = f"{loaded.encoder.fingerprint()}|{pixels.images.fingerprint}"
            tune_text(recipe.text, tower, classes, original, fingerprint, recipe.seed, process)
        else:
            if recipe.text.lora is not None:
                tower.attach(recipe.text.lora, recipe.seed)
            load_text(recipe.text, tower, text_part(weights))
        after = zero_shot(classes, prompts)
        facts = row_angles(before.rows, after.rows)
    return Prepared(
        Trainee(recipe, loaded),
        pixels,
        loaded.preprocessing,
        lambda images: zero_shot(images.classes, recipe.evaluation.prompts),
        original,
        classifier=after if compares else None,
        original_classifier=before if compares else None,
        facts=facts,
    )
