"""Labelled images in the layouts of torchvision's own data sets, through its own classes; nothing is downloaded.

CIFAR-10 and CIFAR-100 are pickles: torchvision reads them only after their MD5 sums agree with the published ones.
"""

import hashlib
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic.dataclasses import dataclass

from robustcore.data.images import as_rgb, check_labels, subset
from robustcore.data.rows import short
from robustcore.errors import DataError
from robustcore.types import STRICT, DataPath, PositiveCount

Name = Literal[
    "CIFAR10", "CIFAR100", "Caltech101", "Country211", "DTD", "EuroSAT", "FGVCAircraft", "Flowers102", "Food101",
    "GTSRB", "ImageNet", "OxfordIIITPet", "PCAM", "RenderedSST2", "STL10", "SUN397", "SVHN", "StanfordCars",
]  # fmt: skip
GROUP = 1000  # images that a reader takes from the same neighbourhood


@plain_dataclass(frozen=True)
class Layout:
    """Where below its root torchvision looks for a set, and how it names the splits; empty where there are none."""

    folder: str
    splits: tuple[str, ...] = ("train", "test")


LAYOUTS: dict[str, Layout] = {
    "CIFAR10": Layout("cifar-10-batches-py"),
    "CIFAR100": Layout("cifar-100-python"),
    "Caltech101": Layout("caltech101/101_ObjectCategories", ()),
    "Country211": Layout("country211", ("train", "valid", "test")),
    "DTD": Layout("dtd/dtd", ("train", "val", "test")),
    "EuroSAT": Layout("eurosat/2750", ()),
    "FGVCAircraft": Layout("fgvc-aircraft-2013b/data", ("train", "val", "trainval", "test")),
    "Flowers102": Layout("flowers-102/jpg", ("train", "val", "test")),
    "Food101": Layout("food-101/images"),
    "GTSRB": Layout("gtsrb"),
    "ImageNet": Layout("", ("train", "val")),
    "OxfordIIITPet": Layout("oxford-iiit-pet/images", ("trainval", "test")),
    "PCAM": Layout("pcam", ("train", "val", "test")),
    "RenderedSST2": Layout("rendered-sst2", ("train", "val", "test")),
    "STL10": Layout("stl10_binary"),
    "SUN397": Layout("SUN397", ()),
    "SVHN": Layout("", ("train", "test", "extra")),
    "StanfordCars": Layout("stanford_cars"),
}


@dataclass(frozen=True, config=STRICT)
class Torchvision:
    """``torchvision.datasets.<dataset>(root)``. ``split`` is torchvision's word for it; None takes the test images."""

    dataset: Name
    root: DataPath
    split: str | None = None
    limit: PositiveCount | None = None  # the same images in every run
    classes: tuple[str, ...] | None = None  # nicer names, in the set's own order
    kind: Literal["torchvision"] = "torchvision"

    def open(self) -> "TorchvisionImages":
        """The images of this split; raises DataError where the folder is not what torchvision expects."""
        return TorchvisionImages(self)


class TorchvisionImages:
    """See ``ImageSet``."""

    def __init__(self, source: Torchvision) -> None:
        split = _split(source)
        self.name = f"{source.dataset} in {source.root}" + (f" ({split})" if split else "")
        self._set = _made(source, split)
        labels = _labels(self._set)
        self._chosen = _order(self._set, len(labels))[subset(len(labels), source.limit)]
        self.labels = labels[self._chosen]
        self.classes = source.classes or _class_names(self._set, source)
        check_labels(self.labels, self.classes, self.name, "root")
        self.groups = np.append(np.arange(0, len(self.labels), GROUP), len(self.labels))
        self.fingerprint = self._fingerprint(source, split)

    def decode(self, index: int) -> Image.Image:
        """RGB; raises DataError naming the image."""
        position = int(self._chosen[index])
        try:
            return as_rgb(self._set[position][0])
        except Exception as error:  # PIL raises a dozen kinds for a damaged file
            place = _file(self._set, position) or f"{self.name}, image {position}"
            raise DataError(f"{place}: cannot decode the image ({error})", "root") from None

    def _fingerprint(self, source: Torchvision, split: str | None) -> str:
        """Of names, sizes and times of the images' files, or of all files of a set that keeps its images together."""
        files = [_file(self._set, int(position)) for position in self._chosen]
        if None in files:
            root = Path(source.root) / LAYOUTS[source.dataset].folder
            files = [str(path) for path in sorted(root.rglob("*")) if path.is_file()]
        digest = hashlib.sha256(json.dumps([source.dataset, split, source.limit]).encode())
        for file in files:
            status = Path(str(file)).stat() if Path(str(file)).exists() else None
            digest.update(f"{file}\0{status and (status.st_size, status.st_mtime_ns)}\n".encode())
        return digest.hexdigest()


def is_there(dataset: str, root: Path) -> bool:
    """Whether the folder that torchvision looks for is below ``root``."""
    folder = LAYOUTS[dataset].folder
    if dataset == "ImageNet":
        return (root / "meta.bin").is_file() or (root / "ILSVRC2012_devkit_t12.tar.gz").is_file()
    if dataset == "SVHN":
        return any(root.glob("*_32x32.mat"))
    return (root / folder).exists()


def _split(source: Torchvision) -> str | None:
    known = LAYOUTS[source.dataset].splits
    if source.split is None:
        return next((name for name in ("test", "val") if name in known), None)
    if source.split not in known:
        expected = f"expected one of: {', '.join(known)}" if known else "expected none: torchvision does not split it"
        raise DataError(f"{source.dataset} has no split '{source.split}', {expected}", "split")
    return source.split


def _made(source: Torchvision, split: str | None) -> Any:
    import torchvision  # seconds of import that other data sets need not pay

    root, name = Path(source.root), source.dataset
    if not root.is_dir():
        raise DataError(f"no such folder: {root}; {_how_to_get(source)}", "root")
    if not is_there(name, root):
        looked = root / LAYOUTS[name].folder
        raise DataError(f"{name} is not in {root}: looked for {looked}; {_how_to_get(source)}", "root")
    constructor: Callable[..., Any] = getattr(torchvision.datasets, name)
    options: dict[str, Any] = {"split": split} if split else {}
    if "train" in inspect.signature(constructor).parameters:
        options = {"train": split == "train"}
    try:
        return constructor(str(root), **options)
    except ModuleNotFoundError as error:
        raise DataError(f"torchvision needs the package '{error.name}' for {name}; install it", "dataset") from None
    except Exception as error:  # not found, corrupt, of another layout: each data set raises its own kinds
        message = f"torchvision cannot read {name} in {root} ({short(error)})"
        raise DataError(f"{message}; {_how_to_get(source)}", "root") from None


def _how_to_get(source: Torchvision) -> str:
    if source.dataset in ("ImageNet", "StanfordCars"):
        return f"its files must be fetched by hand, see torchvision.datasets.{source.dataset}"
    call = f"torchvision.datasets.{source.dataset}({source.root!r}, download=True)"
    return f'get it with python -c "import torchvision; {call}"'


def _labels(images: Any) -> np.ndarray:
    """(N,) int64, without decoding an image."""
    for name in ("targets", "_labels", "labels", "y"):
        if hasattr(images, name):
            return np.asarray(getattr(images, name), np.int64)
    if hasattr(images, "_samples"):
        return np.asarray([label for _, label in images._samples], np.int64)
    return np.asarray([images[index][1] for index in range(len(images))], np.int64)


def _order(images: Any, count: int) -> np.ndarray:
    """By file name: torchvision lists SUN397 as the file system does, which differs from machine to machine."""
    files = [_file(images, position) for position in range(count)]
    return np.arange(count) if None in files else np.argsort(np.array(files), kind="stable")


def _class_names(images: Any, source: Torchvision) -> tuple[str, ...]:
    for name in ("classes", "categories"):
        found = getattr(images, name, None)
        if found:
            return tuple(entry if isinstance(entry, str) else entry[0] for entry in found)
    raise DataError(f"torchvision names no classes of {source.dataset}; list them under 'classes'", "classes")


def _file(images: Any, position: int) -> str | None:
    """The image's own file, where it has one."""
    for name in ("_image_files", "_images", "samples", "_samples"):
        found = getattr(images, name, None)
        if found is not None:
            entry = found[position]
            return str(entry[0] if isinstance(entry, tuple) else entry)
    return None
