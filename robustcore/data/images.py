"""A labelled image set as everything else sees it, and the pixels a model of one input size reads from it."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from robustcore.errors import DataError

# Decoded pixels of a set that is smaller than this stay in memory; larger sets are decoded anew each epoch.
KEEP_DECODED = 256 * 2**20


class ImageSet(Protocol):
    """N labelled images in storage order."""

    @property
    def name(self) -> str:
        """Where it comes from, for messages."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The C class names."""
        ...

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64, each in [0, C)."""
        ...

    @property
    def groups(self) -> np.ndarray:
        """(G + 1,) int64: images groups[g]:groups[g + 1] are stored, and cheap to read, together."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes when the images change."""
        ...

    def decode(self, index: int) -> Image.Image:
        """The image at ``index`` in RGB; raises DataError naming its row where it cannot be decoded."""
        ...


@dataclass(frozen=True)
class Preprocessing:
    """What stands between a stored image and the attacked pixels. Normalisation is not here: it is in the model."""

    size: int = 224
    resize: Literal["shortest", "squash"] = "shortest"  # shortest side to size and centre crop, or both sides to size
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"

    def __call__(self, image: Image.Image) -> np.ndarray:
        """(size, size, 3) uint8."""
        if image.size != (self.size, self.size):
            image = self._resized(image)
        return np.asarray(image)

    def placed(self, width: int, height: int) -> tuple[int, int, int, int]:
        """What an image of this size is resized to, (width, height), and what is cut off before it, (left, top)."""
        if self.resize == "squash" or (width, height) == (self.size, self.size):
            return self.size, self.size, 0, 0
        ratio = self.size / min(width, height)
        width, height = (max(self.size, round(side * ratio)) for side in (width, height))
        return width, height, (width - self.size) // 2, (height - self.size) // 2

    def _resized(self, image: Image.Image) -> Image.Image:
        method = Image.Resampling.BICUBIC if self.interpolation == "bicubic" else Image.Resampling.BILINEAR
        width, height, left, top = self.placed(*image.size)
        resized = image.resize((width, height), method)
        return resized.crop((left, top, left + self.size, top + self.size))


@dataclass
class Pixels:
    """The images of one set at one model's input size, decoded when first asked for."""

    images: ImageSet
    preprocessing: Preprocessing
    _kept: np.ndarray | None = field(default=None, init=False)
    _known: np.ndarray | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        size, count = self.preprocessing.size, len(self.images.labels)
        if count * size * size * 3 <= KEEP_DECODED:
            self._kept = np.empty((count, size, size, 3), np.uint8)
            self._known = np.zeros(count, bool)

    def __len__(self) -> int:
        return len(self.images.labels)

    def batches(self, indices: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
        """``indices`` (B,) in order, at most ``batch_size`` each."""
        for start in range(0, len(indices), batch_size):
            yield indices[start : start + batch_size]

    def at(self, indices: np.ndarray) -> Tensor:
        """(B, 3, size, size) uint8 of the images at ``indices`` (B,)."""
        size = self.preprocessing.size
        pixels = np.empty((len(indices), size, size, 3), np.uint8)
        for place, index in enumerate(indices):
            pixels[place] = self._one(int(index))
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()

    def _one(self, index: int) -> np.ndarray:
        if self._kept is None or self._known is None:
            return self.preprocessing(self.images.decode(index))
        if not self._known[index]:
            self._kept[index] = self.preprocessing(self.images.decode(index))
            self._known[index] = True
        kept: np.ndarray = self._kept[index]
        return kept


def as_rgb(image: Image.Image) -> Image.Image:
    """``image`` in RGB; transparency is dropped, and 16-bit greys keep their shades."""
    if image.mode.startswith("I;16"):  # PIL's own conversion cuts them off at 255
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:  # PIL warns of the direct way
        image = image.convert("RGBA")
    return image.convert("RGB")


def decoded(content: Any, place: str, what: str = "the image") -> Image.Image:
    """Encoded bytes as an image in RGB; raises DataError that begins with ``place`` where they are no whole image."""
    try:
        return as_rgb(Image.open(io.BytesIO(content)))
    except UnidentifiedImageError:  # whose message is an address in memory
        raise DataError(f"{place}: cannot decode {what} (of no format that is known)", "path") from None
    except Exception as error:  # PIL raises a dozen kinds for a damaged file
        raise DataError(f"{place}: cannot decode {what} ({error})", "path") from None


def as_pixels(pixels: Tensor, device: torch.device) -> Tensor:
    """uint8 pixels as float32 in [0, 1] on ``device``; the bytes travel, not the floats."""
    return pixels.to(device, non_blocking=True).float() / 255


def subset(count: int, limit: int | None) -> np.ndarray:
    """At most ``limit`` positions out of ``count``, in order: drawn once and for all, the same for every run."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).permutation(count)[:limit])


def check_labels(labels: np.ndarray, classes: tuple[str, ...], name: str, key: str = "path") -> None:
    """DataError on an empty set or on the first label without a class."""
    if len(labels) == 0:
        raise DataError(f"{name} has no images", key)
    wrong = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(wrong):
        raise DataError(
            f"{name}: image {wrong[0]} has label {labels[wrong[0]]}, expected one of the {len(classes)} classes "
            f"0 to {len(classes) - 1}",
            key,
        )
