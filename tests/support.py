"""What several test files need: the members of a union, labelled Parquet files, and a small sound recipe."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from robustcore.data import Digits
from robustcore.models import Clip
from robustcore.recipe import Recipe, recipe_from


def members(union: Any) -> tuple[Any, ...]:
    """The components of ``Annotated[A | B, Field(...)]``: what is added to a union is tested from then on."""
    return get_args(get_args(union)[0])


def png(image: Image.Image) -> bytes:
    """``image`` as PNG."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def coloured(value: int) -> bytes:
    """A 4x4 PNG of one grey: images that can be told apart by their first pixel."""
    return png(Image.new("RGB", (4, 4), (value % 256,) * 3))


def write_parquet(
    path: Path,
    images: Sequence[Any],
    labels: Sequence[Any],
    *,
    metadata: dict[str, str] | None = None,
    row_group_size: int = 1000,
    **columns: Any,
) -> Path:
    """``image``, ``label`` and further ``columns``, all by position."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": images, "label": labels, **columns})
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=row_group_size)
    return path


def write_captions(path: Path, images: Sequence[Image.Image], captions: Sequence[Sequence[str]]) -> Path:
    """A captioned set; ``captions`` are one or more texts an image."""
    pq.write_table(pa.table({"image": [png(image) for image in images], "captions": captions}), path)
    return path


def write_digits(path: Path, train: int, test: int, row_group_size: int = 16) -> Path:
    """The first scans of both splits of the digits, in one file."""
    images, labels, splits = [], [], []
    classes: tuple[str, ...] = ()
    for split, count in (("train", train), ("test", test)):
        digits = Digits("train" if split == "train" else "test").open()
        classes = digits.classes
        images += [png(digits.decode(index)) for index in range(count)]
        labels += digits.labels[:count].tolist()
        splits += [split] * count
    names = np.array(classes)[labels].tolist()
    return write_parquet(path, images, labels, split=splits, label_name=names, row_group_size=row_group_size)


def recipe_plain(data: Path, **changes: Any) -> dict[str, Any]:
    """A recipe of four short steps on ``write_digits``; ``changes`` are dotted paths with ``__`` for the dot."""
    plain: dict[str, Any] = {
        "model": {"kind": "clip", "weights": "digits"},
        "data": {"train": {"kind": "parquet", "path": str(data), "split": "train"}, "batch_size": 16},
        "loss": {"kind": "fare", "alpha": 0.5},
        "attack": {"kind": "pgd", "ball": {"kind": "linf", "eps": "8/255"}, "steps": 2, "stride": 0.5},
        "optim": {"lr": "1e-3", "steps": 4, "warmup": 1},
        "evaluation": {
            "every": 2,
            "datasets": {"digits": {"kind": "parquet", "path": str(data), "split": "test"}},
            "attacks": {"pgd": {"kind": "pgd", "ball": {"kind": "linf", "eps": "16/255"}, "steps": 2}},
        },
    }
    for path, value in changes.items():
        *above, last = path.split("__")
        target = plain
        for key in above:
            target = target[key]
        target[last] = value
    return plain


def drift(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """How far apart two fine-tuned digits models embed images, as a share of how far the first has moved.

    Weights themselves would not do: the loss does not depend on the biases of attention keys, whose gradient is
    therefore noise, and Adam takes a whole step along noise.
    """
    images = torch.rand(20, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    embeddings = []
    for weights in (one, other, None):
        encoder = Clip(weights="digits").load().encoder
        encoder.load_state_dict(weights or encoder.state_dict())
        with torch.no_grad():
            embeddings.append(encoder(images))
    first, second, original = embeddings
    return float((first - second).norm() / (first - original).norm())


def small_recipe(data: Path, **changes: Any) -> Recipe:
    """``recipe_plain`` as a recipe."""
    return recipe_from(recipe_plain(data, **changes))
