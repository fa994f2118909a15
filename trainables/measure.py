"""A model measured in this process, without Ray and without training: set after set, as `sweep evaluate` asks.

The next hop is ``robustcore.evaluation.Suite``.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from robustcore.errors import InputError
from robustcore.evaluation import Evaluation, Outcome, Suite
from robustcore.models import Model
from robustcore.original import Original
from robustcore.process import Process
from robustcore.trained import Trained

SEED = 0  # of the attacks' random starts: the same for every model


def process_on(device: str, cache: Path) -> Process:
    """Raises InputError where there is no such device."""
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("this machine has no GPU that torch can use; expected --device cpu", "device")
    return Process(device=torch.device(device), cache=cache)


def anchors(model: Model, process: Process) -> Original:
    """The original that drift is measured from."""
    loaded = model.load()
    loaded.to(process.device)
    return Original(loaded, process)


def measured(
    trained: Trained, original: Original | None, parts: Iterable[tuple[str, Evaluation]], process: Process
) -> Iterator[tuple[str, Outcome]]:
    """The outcome of each part by its name, in turn; images of earlier parts are not kept.

    Raises InputError where the original is of another kind, so that there is no distance to it.
    """
    if original is not None:
        _check_comparable(trained, original)
    for name, evaluation in parts:
        suite = Suite(
            evaluation,
            trained.classifier_of,
            trained.loaded.preprocessing,
            SEED,
            torch.float32,
            anchors_of=original.embeddings if original is not None else None,
        )
        yield name, suite(trained.loaded.encoder, process)


def _check_comparable(trained: Trained, original: Original) -> None:
    """One image is embedded by both: sizes of images and of embeddings must be the same."""
    sizes = trained.loaded.preprocessing.size, original.loaded.preprocessing.size
    if sizes[0] != sizes[1]:
        raise InputError(
            f"it takes images of {sizes[0]} pixels and the original of {sizes[1]}; drift compares the same"
        )
    encoders = trained.loaded.encoder, original.loaded.encoder
    with torch.no_grad():
        dims = [len(each(torch.zeros(1, 3, sizes[0], sizes[0], device=each.mean.device))[0]) for each in encoders]
    if dims[0] != dims[1]:
        raise InputError(
            f"its embeddings have {dims[0]} numbers and the original's {dims[1]}; there is no drift from it"
        )
