"""From a stored image to attacked pixels: sizes, colour models, and the decoded pixels that are kept."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robustcore.data import Digits, Folder, Parquet, Pixels, Preprocessing
from robustcore.data import images as images_module
from robustcore.data.images import as_pixels, check_labels, subset
from robustcore.errors import DataError
from tests.support import png, write_parquet


@pytest.mark.parametrize("resize", ["shortest", "squash"])
@pytest.mark.parametrize("size", [(16, 16), (40, 16), (16, 40), (7, 5), (5, 7), (100, 101), (1, 9)])
@pytest.mark.parametrize("target", [16, 17])
def test_an_image_of_any_shape_becomes_a_square(size: tuple[int, int], resize: str, target: int) -> None:
    preprocessing = Preprocessing(target, "squash" if resize == "squash" else "shortest")
    pixels = preprocessing(Image.new("RGB", size, (10, 20, 30)))
    assert pixels.shape == (target, target, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == (10, 20, 30)).all()


def test_the_shortest_side_is_fitted_and_the_middle_is_cut_out() -> None:
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 255  # the middle third
    assert (Preprocessing(8)(Image.fromarray(wide)) == 255).all()
    squashed = Preprocessing(8, "squash", "bilinear")(Image.fromarray(wide))
    assert squashed[:, 0].max() == 0
    assert squashed[:, 4].min() > 200


def test_an_image_of_the_right_size_is_not_resampled() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    assert np.array_equal(Preprocessing(16)(Image.fromarray(pixels)), pixels)


COLOURS = {
    "RGB": Image.new("RGB", (6, 4), (200, 100, 50)),
    "L": Image.new("L", (6, 4), 128),
    "1": Image.new("1", (6, 4), 1),
    "P": Image.new("RGB", (6, 4), (200, 100, 50)).convert("P"),
    "RGBA": Image.new("RGBA", (6, 4), (200, 100, 50, 10)),
    "LA": Image.new("LA", (6, 4), (128, 10)),
}
EXPECTED = {"L": (128,) * 3, "1": (255,) * 3, "LA": (128,) * 3}


@pytest.mark.parametrize("mode", COLOURS)
def test_grey_palette_and_transparent_images_are_read_as_rgb(mode: str, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [png(COLOURS[mode])], [0])
    (tmp_path / "folder" / "only").mkdir(parents=True)
    COLOURS[mode].save(tmp_path / "folder" / "only" / "image.png")
    for source in (Parquet(str(path), classes=("only",)), Folder(str(tmp_path / "folder"))):
        image = source.open().decode(0)
        assert image.mode == "RGB"
        offset = np.asarray(image).astype(int) - EXPECTED.get(mode, (200, 100, 50))
        assert np.abs(offset).max() <= 26  # a palette has few colours


def test_a_cmyk_jpeg_is_read_as_rgb(tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    Image.new("CMYK", (6, 4), (0, 255, 255, 0)).save(tmp_path / "only" / "red.jpg")
    red, green, blue = np.asarray(Folder(str(tmp_path)).open().decode(0))[0, 0].tolist()
    assert red > 240
    assert max(green, blue) < 15


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    COLOURS["P"].save(tmp_path / "only" / "image.png", transparency=bytes([0, 128, 255]))
    assert Folder(str(tmp_path)).open().decode(0).mode == "RGB"


def test_sixteen_bit_greys_keep_their_shades(tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    shades = np.array([[0, 64 * 257], [128 * 257, 65535]], np.uint16)
    Image.fromarray(shades).save(tmp_path / "only" / "image.png")
    assert np.asarray(Folder(str(tmp_path)).open().decode(0))[..., 0].tolist() == [[0, 64], [128, 255]]


def test_pixels_are_the_same_whether_they_are_kept_or_decoded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    indices = np.array([5, 3, 5, 0])
    kept = Pixels(Digits("test").open(), Preprocessing(12))
    first, again = kept.at(indices), kept.at(indices)
    monkeypatch.setattr(images_module, "KEEP_DECODED", 0)
    anew = Pixels(Digits("test").open(), Preprocessing(12)).at(indices)
    assert first.shape == (4, 3, 12, 12)
    assert first.dtype == torch.uint8
    assert torch.equal(first, again)
    assert torch.equal(first, anew)


def test_a_kept_image_is_decoded_once() -> None:
    decoded = []

    class Counting:
        name, classes, fingerprint = "counting", ("a",), "counting"
        labels, groups = np.zeros(3, np.int64), np.array([0, 3])

        def decode(self, index: int) -> Image.Image:
            decoded.append(index)
            return Image.new("RGB", (4, 4))

    pixels = Pixels(Counting(), Preprocessing(4))
    pixels.at(np.array([0, 2, 0]))
    pixels.at(np.array([2, 1]))
    assert decoded == [0, 2, 1]


def test_bytes_become_pixels_between_zero_and_one() -> None:
    pixels = as_pixels(torch.tensor([0, 51, 255], dtype=torch.uint8), torch.device("cpu"))
    assert pixels.tolist() == pytest.approx([0, 0.2, 1])


@pytest.mark.parametrize("limit", [1, 7, 99, 100, 1000, None])
def test_a_limit_takes_the_same_images_in_order_every_time(limit: int | None) -> None:
    chosen = subset(100, limit)
    assert np.array_equal(chosen, subset(100, limit))
    assert len(chosen) == min(100, limit or 100)
    assert (np.diff(chosen) > 0).all()
    assert set(chosen) <= set(range(100))


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([], "the set has no images"),
        ([0, 1, 2], "the set: image 2 has label 2, expected one of the 2 classes 0 to 1"),
        ([0, -1], "the set: image 1 has label -1, expected one of the 2 classes 0 to 1"),
    ],
)
def test_labels_without_a_class_and_empty_sets_are_refused(labels: list[int], sentence: str) -> None:
    with pytest.raises(DataError, match=f"^{sentence}$"):
        check_labels(np.array(labels, np.int64), ("a", "b"), "the set")
