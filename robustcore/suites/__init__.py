"""Named suites of data sets, each set with CLIP's class names and prompts; plain files, read when they are asked for.

Importing this costs nothing: ``robustcore.suites.resolve`` finds the images, and knows torch.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from robustcore.errors import DataError, did_you_mean

_SETS = Path(__file__).parent / "sets"

SUITES: dict[str, tuple[str, ...]] = {
    "digits": ("digits",),
    # FARE, Schlarmann et al. 2024, table 4. The average of that table leaves ImageNet out.
    "clip14": (
        *("imagenet", "caltech101", "cars", "cifar10", "cifar100", "dtd", "eurosat", "fgvc_aircraft", "flowers102"),
        *("imagenet_r", "imagenet_sketch", "pcam", "pets", "stl10"),
    ),
    # TIMA, arXiv 2405.17678.
    "tima": (
        *("imagenet", "tiny_imagenet", "cifar10", "cifar100", "stl10", "pets", "food101", "sun397", "dtd", "eurosat"),
    ),
    # AdvCLIP-LoRA, arXiv 2505.15130: CoOp's eleven sets without EuroSAT, FGVC Aircraft and Stanford Cars.
    "advclip8": ("imagenet", "caltech101", "pets", "flowers102", "food101", "sun397", "dtd", "ucf101"),
}


@dataclass(frozen=True)
class SetInfo:
    """What is known of a data set before an image is read."""

    id: str
    title: str
    num_test: int  # images that an evaluation of the whole set takes
    licence: str
    get: str  # how to get it
    also: tuple[str, ...]  # other names of its folder or file
    torchvision: dict[str, str] | None  # torchvision's class and split, where it has one
    splits: tuple[str, ...]  # what the split to evaluate on may be called, best first
    classes: tuple[str, ...]  # CLIP's names, in the set's own order
    aliases: tuple[tuple[str, ...], ...]  # of each class: other names that stored copies use
    optional: tuple[str, ...]  # classes that stored copies may lack
    templates: tuple[str, ...]  # CLIP's prompt ensemble

    @property
    def num_classes(self) -> int:
        """With the optional ones."""
        return len(self.classes)


def suite_sets(name: str) -> tuple[str, ...]:
    """The ids of a suite's sets; raises DataError on an unknown suite."""
    if name not in SUITES:
        near = did_you_mean(name, SUITES)
        raise DataError(f"unknown suite '{name}', expected one of: {', '.join(SUITES)}{near}", "name")
    return SUITES[name]


def set_ids() -> tuple[str, ...]:
    """Every set that is known, in a suite or not."""
    return tuple(sorted(path.stem for path in _SETS.glob("*.json")))


@cache
def set_info(set_id: str) -> SetInfo:
    """One set; raises DataError on an unknown id."""
    if set_id not in set_ids():
        known, near = ", ".join(set_ids()), did_you_mean(set_id, set_ids())
        raise DataError(f"unknown data set '{set_id}', expected one of: {known}{near}", "sets")
    plain: dict[str, Any] = json.loads((_SETS / f"{set_id}.json").read_text("utf-8"))
    aliases = tuple(map(tuple, plain.pop("aliases"))) or ((),) * len(plain["classes"])
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in plain.items()}
    return SetInfo(id=set_id, aliases=aliases, **values)
