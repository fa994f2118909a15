"""What is made once, before the first step changes a weight: all that is known of the images and the original."""

from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from robustcore.data import Pixels
from robustcore.evaluation import AnchorsOf, ClassifierOf
from robustcore.losses import Classifier, check_climb
from robustcore.losses.reference import zero_shot
from robustcore.models import Encoder, Loaded, TextTower
from robustcore.original import Original, zero_shot_by
from robustcore.process import Process
from robustcore.recipe import Recipe
from robustcore.text_stage import load_text, row_angles, tune_text
from robustcore.trainee import Trainee, text_part


@dataclass
class Prepared:
    """What the loop starts from. ``classifier_of`` gives the classifier over the classes of any image set."""

    trainee: Trainee
    pixels: Pixels
    classifier_of: ClassifierOf
    original: np.ndarray | None = None  # (N, D), phi0(x) of the training images
    classifier: Classifier | None = None  # over the training classes, where something compares with them
    original_classifier: Classifier | None = None
    original_encoder: Encoder | None = None  # phi0 itself, for what is not known in advance: phi0(z)
    facts: dict[str, float] = field(default_factory=dict)  # metrics that stay what they are
    anchors_of: AnchorsOf | None = None  # phi0(x) of any images, to be asked before the first step


def prepare(recipe: Recipe, process: Process, weights: dict[str, Tensor] | None = None) -> Prepared:
    """Load, embed, fit and tune what the recipe asks for; raises InputError where something is not as described.

    ``weights`` are those of a run that goes on (``Trainee.tensors``): tuned text is taken from there.
    """
    loaded = recipe.model.load()
    loaded.to(process.device)
    pixels = Pixels(recipe.data.open(recipe.seed), loaded.preprocessing)
    known = Original(loaded, process)
    if recipe.evaluation.drift is not None:
        known.identify()
    needs = set(recipe.loss.needs)
    original = known.embeddings(pixels) if "original" in needs or recipe.climb == "embedding" or recipe.text else None
    original_encoder = None
    if "original_perturbed" in needs:
        original_encoder = deepcopy(loaded.encoder).requires_grad_(False)
    if loaded.text is None:
        # All training images, also where only a few shots are trained on.
        whole = pixels if recipe.data.shots is None else Pixels(recipe.data.train.open(), loaded.preprocessing)
        classifier_of = known.probe(whole)
        made = Prepared(Trainee(recipe, loaded), pixels, classifier_of, original)
        made.classifier = classifier_of(pixels.images, ())
    else:
        made = _with_text(recipe, loaded, loaded.text, known, pixels, original, process, weights)
    made.original_encoder = original_encoder
    made.anchors_of = known.embeddings
    if made.classifier is not None:
        check_climb(recipe.climb, made.classifier.num_classes, "attack.climb")
    return made


def _with_text(
    recipe: Recipe,
    loaded: Loaded,
    tower: TextTower,
    known: Original,
    pixels: Pixels,
    original: np.ndarray | None,
    process: Process,
    weights: dict[str, Tensor] | None,
) -> Prepared:
    images, prompts = pixels.images, recipe.loss.prompts or recipe.evaluation.prompts
    compares = bool(recipe.loss.prompts) or recipe.climb not in ("robust", "embedding")
    facts: dict[str, float] = {}
    classifier_of = zero_shot_by(tower)
    before = after = classifier_of(images, prompts) if compares or recipe.text is not None else None
    if recipe.text is not None:
        assert original is not None, "the text stage distils from the original embeddings"
        if weights is None:
            fingerprint = f"{known.fingerprint}|{images.fingerprint}"
            tune_text(recipe.text, tower, images.classes, original, fingerprint, recipe.seed, process)
        else:
            if recipe.text.lora is not None:
                tower.attach(recipe.text.lora, recipe.seed)
            load_text(recipe.text, tower, text_part(weights))
        after = classifier_of(images, prompts)
        facts = row_angles(zero_shot(before).rows, zero_shot(after).rows)
    return Prepared(
        Trainee(recipe, loaded),
        pixels,
        classifier_of,
        original,
        classifier=after if compares else None,
        original_classifier=before if compares else None,
        facts=facts,
    )
