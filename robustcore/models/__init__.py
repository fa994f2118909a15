"""Encoders, and where their weights come from."""

from typing import Annotated

from pydantic import Field

from robustcore.models.clip import Clip, Encoder, LoadedClip
from robustcore.models.simclr import LoadedSimClr, SimClr, batch_statistics
from robustcore.models.text import TextTower

Model = Annotated[Clip | SimClr, Field(discriminator="kind")]
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
