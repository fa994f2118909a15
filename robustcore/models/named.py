"""A model from one word, as a command line has it: ``ViT-L-14-quickgelu:openai+fare.pt``, ``digits``, a folder."""

from pathlib import Path
from typing import get_args

from robustcore.errors import ModelError
from robustcore.models import Clip, Model, SimClr
from robustcore.models.resnets import Architecture
from robustcore.models.weights import SHIPPED, any_description, shipped


def model_named(text: str) -> Model:
    """``WEIGHTS`` or ``ARCHITECTURE:WEIGHTS``, of a CLIP perhaps with ``+FILE``, the image tower in its place.

    ``WEIGHTS`` are a tag of open_clip, what is shipped (``digits``, ``digits-simclr``), a checkpoint or a folder; only
    tags and bare checkpoints need an architecture. Raises ModelError where the text has none of these forms; whether
    the weights are there is known when the model is loaded.
    """
    whole, visual = text, None
    if not _is_there(text) and "+" in text:
        whole, _, visual = text.rpartition("+")
    if _is_there(whole):
        kind = _kind(whole)
        if kind == "simclr" and visual is None:
            return SimClr(weights=whole)
        return Clip(weights=whole, visual=visual)
    architecture, colon, weights = whole.partition(":")
    if not colon or not architecture or not weights:
        raise ModelError(
            f"no such model: '{text}'; expected ARCHITECTURE:TAG, ARCHITECTURE:TAG+FILE, a checkpoint or a folder, one "
            f"of the shipped {', '.join(SHIPPED)}, or STUDY:TRIAL"
        )
    for name in get_args(Architecture):
        if name == architecture and visual is None:
            return SimClr(architecture=name, weights=weights)
    return Clip(architecture=architecture, weights=weights, visual=visual)


def _is_there(weights: str) -> bool:
    return weights in SHIPPED or (bool(weights) and Path(weights).exists())


def _kind(weights: str) -> str:
    path = shipped(weights) if weights in SHIPPED else Path(weights)
    description = any_description(path) if path.is_file() else None
    return description.kind if description is not None else "clip"
