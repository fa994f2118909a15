"""Encoders, and where their weights come from."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from robustcore.models.clip import Clip, LoadedClip
from robustcore.models.encoder import Encoder
from robustcore.models.simclr import LoadedSimClr, SimClr, batch_statistics
from robustcore.models.text import TextTower


def _clip_unless_said(model: Any) -> Any:
    return {"kind": "clip", **model} if isinstance(model, dict) else model


Model = Annotated[Clip | SimClr, Field(discriminator="kind"), BeforeValidator(_clip_unless_said)]
Loaded = LoadedClip | LoadedSimClr

__all__ = [
    "Clip",
    "Encoder",
    "Loaded",
    "LoadedClip",
    "LoadedSimClr",
    "Model",
    "SimClr",
    "TextTower",
    "batch_statistics",
]
