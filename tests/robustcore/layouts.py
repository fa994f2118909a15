"""Tiny sets of greys in the layouts that torchvision's own classes read: a few classes, two images each."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image


def grey(path: Path, value: int) -> None:
    """A 4x4 image whose grey tells it apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (value,) * 3).save(path, quality=100)


def in_folders(folder: Path, classes: Sequence[str], suffix: str = "jpg") -> list[Path]:
    """Two greys a class; their values are ten apart, in order."""
    paths = [folder / name / f"image_{number:04}.{suffix}" for name in classes for number in (1, 2)]
    for number, path in enumerate(paths):
        grey(path, 10 * number)
    return paths


def dtd(root: Path) -> None:
    paths = in_folders(root / "dtd" / "dtd" / "images", ["banded", "dotted", "woven"])
    labels = root / "dtd" / "dtd" / "labels"
    labels.mkdir()
    for split in ("train", "val", "test"):
        (labels / f"{split}1.txt").write_text("".join(f"{path.parent.name}/{path.name}\n" for path in paths))


def eurosat(root: Path, classes: Sequence[str] = ("AnnualCrop", "Forest", "River")) -> None:
    in_folders(root / "eurosat" / "2750", classes)


def food101(root: Path) -> None:
    paths = in_folders(root / "food-101" / "images", ["apple_pie", "ramen", "sushi"])
    listed: dict[str, list[str]] = {}
    for path in paths:
        listed.setdefault(path.parent.name, []).append(f"{path.parent.name}/{path.stem}")
    meta = root / "food-101" / "meta"
    meta.mkdir()
    for split in ("train", "test"):
        (meta / f"{split}.json").write_text(json.dumps(listed))


def pets(root: Path) -> None:
    lines = []
    for number, (breed, label) in enumerate([("Abyssinian", 1), ("Abyssinian", 1), ("pug", 2), ("pug", 2)]):
        grey(root / "oxford-iiit-pet" / "images" / f"{breed}_{number}.jpg", 10 * number)
        lines.append(f"{breed}_{number} {label} 1 1\n")
    (root / "oxford-iiit-pet" / "annotations").mkdir()
    for split in ("trainval", "test"):
        (root / "oxford-iiit-pet" / "annotations" / f"{split}.txt").write_text("".join(lines))


def sun397(root: Path) -> None:
    for number, name in enumerate(["a/abbey/sun_1", "a/abbey/sun_2", "z/zoo/outdoor/sun_1", "z/zoo/outdoor/sun_2"]):
        grey(root / "SUN397" / f"{name}.jpg", 10 * number)
    (root / "SUN397" / "ClassName.txt").write_text("/a/abbey\n/z/zoo/outdoor\n")


def caltech101(root: Path) -> None:
    in_folders(root / "caltech101" / "101_ObjectCategories", ["Faces", "ant", "yin_yang"])
    grey(root / "caltech101" / "101_ObjectCategories" / "BACKGROUND_Google" / "image_0001.jpg", 255)


def aircraft(root: Path) -> None:
    data = root / "fgvc-aircraft-2013b" / "data"
    for number in range(4):
        grey(data / "images" / f"{number:07}.jpg", 10 * number)
    (data / "variants.txt").write_text("707-320\nF-16A/B\n")
    variants = ["707-320", "707-320", "F-16A/B", "F-16A/B"]
    lines = "".join(f"{number:07} {variant}\n" for number, variant in enumerate(variants))
    for split in ("train", "test"):
        (data / f"images_variant_{split}.txt").write_text(lines)


def country211(root: Path) -> None:
    in_folders(root / "country211" / "test", ["AD", "CH"])


# How each is written, and the class names that torchvision then knows.
LAYOUTS: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "DTD": (dtd, ("banded", "dotted", "woven")),
    "EuroSAT": (eurosat, ("AnnualCrop", "Forest", "River")),
    "Food101": (food101, ("apple_pie", "ramen", "sushi")),
    "OxfordIIITPet": (pets, ("Abyssinian", "Pug")),
    "SUN397": (sun397, ("abbey", "zoo/outdoor")),
    "Caltech101": (caltech101, ("Faces", "ant", "yin_yang")),
    "FGVCAircraft": (aircraft, ("707-320", "F-16A/B")),
    "Country211": (country211, ("AD", "CH")),
}
