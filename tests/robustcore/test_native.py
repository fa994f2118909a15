"""Attacks at native resolution: batches of one stored size, and a resize inside the model that is Pillow's."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robustcore.data import Folder, Preprocessing
from robustcore.data.images import as_pixels
from robustcore.data.native import NativePixels
from robustcore.models import Clip
from robustcore.models.native import NativeResolution, resized

CPU = torch.device("cpu")
# (width, height), as the images of ImageNet, CIFAR-10, STL-10, Oxford Pets, GTSRB are; and two that are nearly square.
SIZES = [(500, 375), (32, 32), (96, 96), (333, 500), (41, 30), (224, 225), (223, 224), (224, 224)]
METHODS = [("shortest", "bicubic"), ("shortest", "bilinear"), ("squash", "bicubic")]
CASES = [(size, *method) for size in SIZES for method in METHODS if method[0] == "shortest" or size[0] >= size[1]]


def noisy(width: int, height: int) -> Image.Image:
    """Smooth colours, an edge, and noise over all 256 levels: bicubic overshoots here."""
    generator = np.random.default_rng(width * height)
    pixels = generator.integers(0, 256, (height, width, 3), np.uint8)
    pixels[:, : width // 2] = np.linspace(0, 255, height, dtype=np.uint8)[:, None, None]
    return Image.fromarray(pixels)


def tensor(image: Image.Image) -> torch.Tensor:
    return as_pixels(torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None], CPU)


@pytest.mark.parametrize(("size", "resize", "interpolation"), CASES)
def test_the_resize_inside_is_that_of_the_preprocessing_to_within_rounding(
    size: tuple[int, int], resize: str, interpolation: str
) -> None:
    preprocessing = Preprocessing(224, resize, interpolation)  # type: ignore[arg-type]  # one of the literals
    image = noisy(*size)
    inside = resized(tensor(image), preprocessing)[0].permute(1, 2, 0).numpy() * 255
    difference = np.abs(inside - preprocessing(image))
    # Pillow rounds twice: half a level, spread by a kernel whose weights sum to 1.3 at most in size, and half again.
    assert difference.max() <= 1.2
    assert difference.mean() <= 0.4


def test_the_gradient_goes_back_the_way_that_the_pixels_came() -> None:
    images = (torch.rand(2, 3, 9, 7) * 0.2 + 0.4).requires_grad_()  # where nothing is cut off, the resize is linear
    direction, downstream = torch.randn(2, 3, 9, 7) * 0.01, torch.randn(2, 3, 5, 5)
    preprocessing = Preprocessing(5)
    (gradient,) = torch.autograd.grad((resized(images, preprocessing) * downstream).sum(), images)
    change = resized(images + direction, preprocessing) - resized(images, preprocessing)
    assert (gradient * direction).sum().item() == pytest.approx((change * downstream).sum().item(), rel=1e-3)


def test_autocast_does_not_blur_the_resize() -> None:
    image = tensor(noisy(50, 40))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = resized(image, Preprocessing(16))
    assert torch.equal(inside, resized(image, Preprocessing(16)))


def test_the_encoder_embeds_stored_pixels_as_it_embeds_preprocessed_ones() -> None:
    loaded = Clip(weights="digits").load()
    native = NativeResolution(loaded.encoder, loaded.preprocessing)
    image = noisy(60, 45)
    stored = tensor(image).requires_grad_()
    embedding = native(stored)
    preprocessed = loaded.encoder(tensor(Image.fromarray(loaded.preprocessing(image))))
    assert torch.nn.functional.cosine_similarity(embedding, preprocessed).item() > 0.9995
    (gradient,) = torch.autograd.grad(embedding.square().sum(), stored)
    assert gradient.shape == stored.shape
    assert (gradient != 0).any(dim=1)[..., 8:-8].all(), "every pixel of the centre crop has a gradient"
    assert native.fingerprint() != loaded.encoder.fingerprint()


def test_an_image_of_the_encoders_own_size_is_embedded_to_the_last_bit() -> None:
    loaded = Clip(weights="digits").load()
    image = tensor(noisy(16, 16))
    assert torch.equal(NativeResolution(loaded.encoder, loaded.preprocessing)(image), loaded.encoder(image))


@pytest.fixture
def mixed(tmp_path: Path) -> Folder:
    """Seven images of three sizes, told apart by their shade."""
    (tmp_path / "only").mkdir()
    for number, size in enumerate([(4, 6), (8, 2), (4, 6), (4, 6), (6, 4), (8, 2), (4, 6)]):
        Image.new("RGB", size, (number * 10,) * 3).save(tmp_path / "only" / f"{number}.png")
    return Folder(str(tmp_path))


@pytest.mark.parametrize("room", [0, 100, 2**20])
def test_batches_are_of_one_size_and_hold_every_image_once(room: int, mixed: Folder) -> None:
    pixels = NativePixels(mixed.open(), room)
    assert (len(pixels), pixels.size(0), pixels.size(1)) == (7, (6, 4), (2, 8))
    batches = list(pixels.batches(np.arange(7), 3))
    assert [batch.tolist() for batch in batches] == [[1, 5], [4], [0, 2, 3], [6]]
    for batch in batches:
        images = pixels.at(batch)
        assert images.shape == (len(batch), 3, *pixels.size(int(batch[0])))
        assert images[:, 0, 0, 0].tolist() == [10 * index for index in batch]


def test_no_indices_make_no_batches(mixed: Folder) -> None:
    assert list(NativePixels(mixed.open()).batches(np.arange(0), 3)) == []
