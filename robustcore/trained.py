"""A fine-tuned model for those who do not train: to be attacked again, or exported."""

from dataclasses import dataclass

from torch import Tensor

from robustcore.data import Data, Pixels
from robustcore.errors import InputError
from robustcore.evaluation import ClassifierOf
from robustcore.models import Loaded, Model
from robustcore.original import Original, zero_shot_by
from robustcore.process import Process
from robustcore.recipe import Recipe
from robustcore.trainee import Trainee


@dataclass(frozen=True)
class Trained:
    """``loaded`` has the trained weights in both towers, LoRA still beside them (``models.lora.merged`` writes them
    into one); ``classifier_of`` is the classifier that its trial was measured with."""

    loaded: Loaded
    classifier_of: ClassifierOf


def load_trained(recipe: Recipe, weights: dict[str, Tensor], process: Process) -> Trained:
    """The recipe's model as ``weights`` (``State.weights``) left it; raises InputError where they do not fit."""
    loaded = recipe.model.load()
    loaded.to(process.device)
    if loaded.text is None:
        # Fitted on the original's embeddings, hence before the trained weights come.
        pixels = Pixels(recipe.data.train.open(), loaded.preprocessing)
        classifier_of = Original(loaded, process).probe(pixels)
    else:
        classifier_of = zero_shot_by(loaded.text)
        if recipe.text is not None and recipe.text.lora is not None:
            loaded.text.attach(recipe.text.lora, recipe.seed)
    Trainee(recipe, loaded).load(weights)
    return Trained(loaded, classifier_of)


def load_untrained(model: Model, process: Process, probed_on: Data | None) -> Trained:
    """A model as it is published. One without text is classified by a linear probe, fitted on ``probed_on``.

    Raises InputError where a model without text has no such images.
    """
    loaded = model.load()
    loaded.to(process.device)
    if loaded.text is not None:
        return Trained(loaded, zero_shot_by(loaded.text))
    if probed_on is None:
        raise InputError("a model without text needs images that a linear probe is fitted on", "probe")
    pixels = Pixels(probed_on.open(), loaded.preprocessing)
    return Trained(loaded, Original(loaded, process).probe(pixels))
