"""From the name of a set to a data source: whichever stored form of it lies below a folder, with CLIP's class names.

Nothing is downloaded, and no split but one to evaluate on is taken: training images are never measured for test images.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from robustcore.data import Data, Digits, Folder, HuggingFace, Parquet, Torchvision, WebDataset
from robustcore.data.torchvision import is_there
from robustcore.errors import DataError
from robustcore.suites import SetInfo, set_info, suite_sets
from robustcore.suites.names import clip_names

# What the columns are called in published copies.
IMAGES = ("image", "img", "jpg", "png", "webp")
LABELS = ("label", "fine_label", "labels", "cls")
TRAINING = ("train", "trainval", "training")


def missing(suite: str, root: str) -> list[str]:
    """A sentence for each set of the suite that cannot be used; raises DataError on an unknown suite."""
    sentences = []
    for set_id in suite_sets(suite):
        try:
            resolve(set_id, root)
        except DataError as error:
            sentences.append(str(error))
    return sentences


def resolve(set_id: str, root: str, limit: int | None = None) -> Data:
    """The test images of a set below ``root``, at most ``limit`` of them, drawn once and for all.

    Looks for Parquet, WebDataset tars, a Hugging Face folder, torchvision's layout and a folder of images a class, by
    the set's name or another of its names. Raises DataError where there is none, or where its classes are others.
    """
    info = set_info(set_id)
    if set_id == "digits":
        return Digits("test", limit)
    folder = Path(root)
    if not folder.is_dir():
        raise DataError(f"{set_id}: no such folder: {root}; get it with: {_get(info, root)}", "root")
    refused: DataError | None = None
    for source in _candidates(info, folder):
        try:
            found: Data = replace(source, classes=_classes(info, source), limit=limit)
            return found
        except DataError as error:
            refused = refused or (error if str(error).startswith(f"{set_id}: ") else _about(set_id, error))
    raise refused or DataError(
        f"{set_id}: not found below {root}; looked for {_looked_for(info)}; get it with: {_get(info, root)}", "root"
    )


def _about(set_id: str, error: DataError) -> DataError:
    return DataError(f"{set_id}: {error}", "root")


def _classes(info: SetInfo, source: Any) -> tuple[str, ...]:
    """CLIP's names in the order of the stored labels; those of a copy without names are in the set's own order."""
    where = getattr(source, "path", None) or f"{source.dataset} in {source.root}"
    try:
        stored = source.open()
    except DataError as error:
        if error.key != "classes":
            raise
    else:
        return clip_names(info, stored.classes, where)
    highest, last = int(np.max(replace(source, classes=info.classes).open().labels)), len(info.classes) - 1
    if highest != last:
        raise DataError(f"{info.id}: {where} has labels 0 to {highest}, expected 0 to {last}", "sets")
    return info.classes


def _candidates(info: SetInfo, root: Path) -> Iterator[Any]:
    """Sources that may be the set, most explicit first; whether they are is known when they are opened."""
    places = _places(info, root)
    for place in places:
        yield from _stored(info, place)
    if info.torchvision is not None:
        for place in (root, *(place for place in places if place.is_dir())):
            if is_there(info.torchvision["dataset"], place):
                yield Torchvision(**info.torchvision, root=str(place))  # type: ignore[arg-type]  # our own files
    for place in places:
        if place.is_dir():
            yield from _folders(info, place)


def _places(info: SetInfo, root: Path) -> list[Path]:
    """What lies below the root under one of the set's names."""
    names = {_plain(name) for name in (info.id, *info.also)}
    found = [entry for entry in sorted(root.iterdir()) if _plain(entry.name.removesuffix(".parquet")) in names]
    return [entry for entry in found if entry.is_dir() or entry.suffix == ".parquet"]


def _plain(name: str) -> str:
    """``wds_vtab-cifar10`` and ``CIFAR-10`` are one name."""
    return re.sub(r"[^a-z0-9]+", "", name.lower().removeprefix("wds_").removeprefix("vtab-").removeprefix("vtab_"))


def _stored(info: SetInfo, place: Path) -> Iterator[Any]:
    columns = [(image, label) for image in IMAGES for label in LABELS]
    if place.is_file() or _holds(place, ".parquet"):
        for image, label in columns:
            yield from _split_of(info, Parquet(str(place), image=image, label=label), place)
    elif _holds(place, ".tar"):
        yield from _split_of(info, WebDataset(str(place)), place)
    elif (place / "dataset_dict.json").is_file() or (place / "state.json").is_file():
        for image, label in columns:
            yield from _split_of(info, HuggingFace(str(place), image=image, label=label), place)


def _holds(place: Path, suffix: str) -> bool:
    """Whether such files are in the folder or in one of its own; ImageNet's archives are not shards."""
    found = (path for pattern in (f"*{suffix}", f"*/*{suffix}") for path in place.glob(pattern))
    return any(not path.name.startswith("ILSVRC") for path in found)


def _split_of(info: SetInfo, source: Any, place: Path) -> Iterator[Any]:
    """The first split to evaluate on that is there; all of it where it has no splits."""
    refused: DataError | None = None
    for split in info.splits:
        try:
            replace(source, split=split).open()
        except DataError as error:
            if error.key == "split":
                refused = refused or error
                continue
        yield replace(source, split=split)
        return
    files = [str(path.relative_to(place)) for path in place.rglob("*")] if place.is_dir() else [place.name]
    is_training = any(word in TRAINING for file in files for word in re.split(r"[^A-Za-z0-9]+", file))
    known = str(refused).partition("expected one of: ")[2]
    if is_training or known:
        raise DataError(f"{info.id}: {refused}", "root")
    yield source


def _folders(info: SetInfo, place: Path) -> Iterator[Any]:
    for split in info.splits:
        if (place / split).is_dir():
            yield Folder(str(place), split)
            return
    if any(entry.is_dir() and entry.name not in TRAINING for entry in place.iterdir()):
        yield Folder(str(place))


def _get(info: SetInfo, root: str) -> str:
    return info.get.replace("ROOT", root)


def _looked_for(info: SetInfo) -> str:
    names = " or ".join({_plain(name): name for name in reversed((info.id, *info.also))}.values())
    layout = f", torchvision's {info.torchvision['dataset']}" if info.torchvision else ""
    return f"a Parquet file or a folder named {names} (Parquet, tar shards, Hugging Face, images by class){layout}"
