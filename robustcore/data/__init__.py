"""Labelled images: where they come from and how they reach a model. ``open()`` on a source gives an ``ImageSet``."""

from typing import Annotated

from pydantic import Field

from robustcore.data.captions import Captions, CaptionSet, ParquetCaptions
from robustcore.data.digits import Digits
from robustcore.data.few_shot import FewShot
from robustcore.data.folder import Folder
from robustcore.data.images import ImageSet, Pixels, Preprocessing
from robustcore.data.parquet import Parquet

Data = Annotated[Digits | Parquet | Folder, Field(discriminator="kind")]

__all__ = [
    "CaptionSet",
    "Captions",
    "Data",
    "Digits",
    "FewShot",
    "Folder",
    "ImageSet",
    "Parquet",
    "ParquetCaptions",
    "Pixels",
    "Preprocessing",
]
