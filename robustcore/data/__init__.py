"""Labelled images: where they come from and how they reach a model. ``open()`` on a source gives an ``ImageSet``."""

from typing import Annotated

from pydantic import Field

from robustcore.data.arrow import HuggingFace
from robustcore.data.captions import Captions, CaptionSet, ParquetCaptions
from robustcore.data.digits import Digits
from robustcore.data.few_shot import FewShot
from robustcore.data.folder import Folder
from robustcore.data.images import ImageSet, Pixels, Preprocessing
from robustcore.data.native import NativePixels
from robustcore.data.parquet import Parquet
from robustcore.data.torchvision import Torchvision
from robustcore.data.webdataset import WebDataset

Data = Annotated[Digits | Parquet | Folder | WebDataset | HuggingFace | Torchvision, Field(discriminator="kind")]

__all__ = [
    "CaptionSet",
    "Captions",
    "Data",
    "Digits",
    "FewShot",
    "Folder",
    "HuggingFace",
    "ImageSet",
    "NativePixels",
    "Parquet",
    "ParquetCaptions",
    "Pixels",
    "Preprocessing",
    "Torchvision",
    "WebDataset",
]
