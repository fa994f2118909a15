"""SimCLR encoders: other people's checkpoints, our own files, sentences for mistakes, and BatchNorm done right."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn

from robustcore.attacks import PGD, Linf
from robustcore.errors import ModelError
from robustcore.models.clip import Clip
from robustcore.models.resnets import resnet
from robustcore.models.simclr import NORMALISERS, ConvLora, SimClr, batch_statistics
from robustcore.models.weights import Description, save_model
from robustcore.noise import Noise

IMAGES = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
SMALL = SimClr("resnet8", image_size=16)


def seen(model: SimClr) -> Tensor:
    with torch.no_grad():
        embeddings: Tensor = model.load().encoder(IMAGES)
    return embeddings


def other_weights(architecture: Any = "resnet8", stem: Any = "cifar") -> nn.Module:
    """A ResNet unlike the one that ``SimClr`` starts from, with BatchNorm statistics of its own."""
    model = resnet(architecture, stem, seed=1)
    with torch.no_grad():
        for _ in range(2):
            model.train()(torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(2)))
    return model.eval()


def refused(**model: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        SimClr(**model).load()
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError):
        SimClr(**model).check()
    return caught.value


@pytest.mark.parametrize(("architecture", "width"), [("resnet50", 2048), ("resnet18", 512), ("resnet14", 64)])
def test_embeddings_are_the_pooled_features(architecture: Any, width: int) -> None:
    assert seen(SimClr(architecture, stem="cifar")).shape == (6, width)


@pytest.mark.parametrize("architecture", ["resnet50", "resnet18"])
def test_with_the_imagenet_stem_it_is_torchvisions_resnet_without_its_classifier(
    architecture: Any, tmp_path: Path
) -> None:
    theirs = getattr(torchvision.models, architecture)().eval()
    torch.save(theirs.state_dict(), tmp_path / "checkpoint.pt")
    theirs.fc = nn.Identity()
    loaded = SimClr(architecture, weights=str(tmp_path / "checkpoint.pt"), normalise="imagenet").load()
    mean, std = (torch.tensor(numbers).reshape(3, 1, 1) for numbers in NORMALISERS["imagenet"])
    with torch.no_grad():
        torch.testing.assert_close(loaded.encoder(IMAGES), theirs((IMAGES - mean) / std))
    assert loaded.preprocessing.size == 224


def test_the_cifar_stem_keeps_the_resolution_of_the_first_convolution() -> None:
    model = resnet("resnet18", "cifar")
    sides: list[int] = []
    model.get_submodule("layer1").register_forward_hook(lambda module, given, made: sides.append(made.shape[-1]))
    model(torch.rand(1, 3, 32, 32))
    assert sides == [32]


@pytest.mark.parametrize(("architecture", "layers"), [("resnet8", 8), ("resnet14", 14), ("resnet18", 18)])
def test_a_resnet_has_as_many_layers_as_its_name_says(architecture: Any, layers: int) -> None:
    modules = resnet(architecture, "cifar").named_modules()
    convolutions = [name for name, module in modules if isinstance(module, nn.Conv2d) and "downsample" not in name]
    assert len(convolutions) + 1 == layers  # the classifier was taken away


def prefixed(prefix: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {prefix + name: value for name, value in tensors.items()}


def as_sequence(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """How nn.Sequential(*resnet.children()) names them: the activation and the pooling have numbers too."""
    numbers = {"conv1": 0, "bn1": 1, "layer1": 3, "layer2": 4, "layer3": 5}
    return {f"backbone.{numbers[name.split('.')[0]]}.{name.partition('.')[2]}": tensors[name] for name in tensors}


HEADS = {"projector.0.weight": torch.ones(2, 64), "linear.weight": torch.ones(10, 64), "fc.bias": torch.ones(10)}
LAYOUTS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "plain": lambda tensors: tensors | {"fc.weight": torch.ones(10, 64)},
    "backbone.": lambda tensors: prefixed("backbone.")(tensors) | HEADS,
    "backbone with a head inside": lambda tensors: prefixed("backbone.")(tensors | {"fc.0.weight": torch.ones(4, 64)}),
    "encoder.": lambda tensors: {"state_dict": prefixed("encoder.")(tensors) | HEADS, "epoch": 3},
    "module.": lambda tensors: {"state_dict": prefixed("module.")(tensors)},
    "module.backbone.": lambda tensors: prefixed("module.backbone.")(tensors) | prefixed("module.")(HEADS),
    "module.encoder.module.": lambda tensors: prefixed("module.encoder.module.")(tensors) | HEADS,
    "model.backbone.": lambda tensors: {"model": {"state_dict": prefixed("model.backbone.")(tensors) | HEADS}},
    "a momentum encoder beside it": lambda tensors: (
        prefixed("encoder.")(tensors)
        | prefixed("momentum_encoder.")({name: 0 * value for name, value in tensors.items()})
    ),
    "under a name of its own": lambda tensors: prefixed("module.trunk.")(tensors) | HEADS,
    "a sequence": lambda tensors: as_sequence(tensors) | prefixed("module.")(HEADS),
    "without counters": lambda tensors: {name: value for name, value in tensors.items() if "num_batches" not in name},
}


WRAPPED = ("encoder.", "module.", "model.backbone.")  # safetensors holds no wrappers


@pytest.mark.parametrize(
    ("layout", "suffix"),
    [
        *((layout, ".pt") for layout in LAYOUTS),
        *((layout, ".safetensors") for layout in LAYOUTS if layout not in WRAPPED),
    ],
)
def test_a_checkpoint_is_read_in_every_layout_and_its_heads_are_ignored(
    layout: str, suffix: str, tmp_path: Path
) -> None:
    model, path = other_weights(), tmp_path / f"checkpoint{suffix}"
    content = LAYOUTS[layout]({name: value.clone() for name, value in model.state_dict().items()})
    if suffix == ".pt":
        torch.save(content, path)
    else:
        save_file(content, path)
    with torch.no_grad():
        assert torch.equal(seen(SimClr("resnet8", weights=str(path))), model(IMAGES))


def test_a_file_of_our_own_needs_nothing_else_and_must_not_be_contradicted(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    config = {"stem": "cifar", "image_size": 20}
    mean, std = NORMALISERS["cifar10"]
    save_model(path, other_weights(), Description("resnet8", config, mean, std, kind="simclr"))
    own = SimClr(weights=str(path))
    assert own.load().preprocessing.size == 20
    torch.save(other_weights().state_dict(), tmp_path / "bare.pt")
    assert torch.equal(seen(own), seen(SimClr("resnet8", weights=str(tmp_path / "bare.pt"), normalise="cifar10")))
    assert torch.equal(seen(own), seen(SimClr("resnet8", "cifar", str(path), "cifar10")))
    assert SimClr(weights=str(path), image_size=32).load().preprocessing.size == 32
    for field, value in {"architecture": "resnet14", "normalise": "imagenet"}.items():
        error = refused(weights=str(path), **{field: value})
        assert error.key == field
        assert f"expected '{value}'" in str(error)


def test_without_weights_the_numbers_are_random_but_always_the_same() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = seen(SMALL)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(seen(SMALL), one)


def test_the_shipped_weights_load_by_their_name_alone() -> None:
    model = SimClr(weights="digits-simclr")
    assert not model.needs_download()
    model.check()
    loaded = model.load()
    assert loaded.preprocessing.size == 16
    assert loaded.text is None


def test_it_is_written_in_a_study_as_plain_values() -> None:
    plain = {"kind": "simclr", "architecture": "resnet18", "stem": "cifar", "batch_norm": "batch", "image_size": 32}
    assert TypeAdapter(SimClr).validate_python(plain) == SimClr("resnet18", "cifar", batch_norm="batch", image_size=32)
    for wrong in ({"stem": "vit"}, {"architecture": "resnet19"}, {"batch_norm": "train"}, {"normalize": "none"}):
        with pytest.raises(ValidationError):
            TypeAdapter(SimClr).validate_python({"kind": "simclr", **wrong})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of other kinds than what is asked of them."""
    root = tmp_path_factory.mktemp("files")
    torch.save(resnet("resnet18", "imagenet").state_dict(), root / "imagenet.pt")
    torch.save(resnet("resnet18", "cifar").state_dict(), root / "cifar.pt")
    whole = other_weights().state_dict()
    torch.save(
        {name: value for name, value in whole.items() if name != "layer2.0.bn1.running_var"}, root / "partial.pt"
    )
    torch.save(prefixed("encoder_q.")(whole) | prefixed("encoder_k.")(whole), root / "two.pt")
    torch.save(prefixed("visual.")(whole) | {"logit_scale": torch.ones(())}, root / "clip.pt")
    (root / "text.pt").write_text("not tensors")
    return root


MISTAKES: dict[str, tuple[dict[str, Any], str, str]] = {
    "nothing": ({}, "architecture", "no architecture; name one of: resnet50, resnet18, resnet14, resnet8"),
    "no architecture": ({"weights": "cifar.pt"}, "architecture", "do not say their architecture; name one of: resnet"),
    "stem imagenet": (
        {"weights": "imagenet.pt", "architecture": "resnet18", "stem": "cifar"},
        "stem",
        "has the imagenet stem (a first convolution of 7x7), expected the cifar stem; set model.stem: imagenet",
    ),
    "stem cifar": (
        {"weights": "cifar.pt", "architecture": "resnet18"},
        "stem",
        "has the cifar stem (a first convolution of 3x3), expected the imagenet stem; set model.stem: cifar",
    ),
    "small stem": ({"architecture": "resnet8", "stem": "imagenet"}, "stem", "resnet8 has the stem 'cifar' alone"),
    "another depth": (
        {"weights": "cifar.pt", "architecture": "resnet50", "stem": "cifar"},
        "weights",
        "first 'layer1.0.bn3.bias' (expected (256,), got none)",
    ),
    "a missing tensor": (
        {"weights": "partial.pt", "architecture": "resnet8"},
        "weights",
        "1 of 54 tensors are missing or of another shape, first 'layer2.0.bn1.running_var' (expected (32,), got none)",
    ),
    "two encoders": (
        {"weights": "two.pt", "architecture": "resnet8"},
        "weights",
        "has several encoders, expected one: encoder_k., encoder_q.",
    ),
    "a bare clip": (
        {"weights": "clip.pt", "architecture": "resnet8"},
        "weights",
        "checkpoint of a CLIP, expected a Res",
    ),
    "the shipped clip": ({"weights": "digits"}, "weights", "holds a model of the kind 'clip', expected 'simclr'"),
    "no such file": ({"weights": "digits-simclear"}, "weights", "expected a file; did you mean 'digits-simclr'?"),
    "text": ({"weights": "text.pt", "architecture": "resnet8"}, "weights", "is not a readable checkpoint"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_about_its_key(mistake: str, files: Path) -> None:
    model, key, sentence = MISTAKES[mistake]
    there = "weights" in model and (files / model["weights"]).exists()
    error = refused(**(model | {"weights": str(files / model["weights"])} if there else model))
    assert sentence in str(error)
    assert error.key == key


def test_a_clip_refuses_the_weights_of_a_simclr() -> None:
    with pytest.raises(ModelError, match="holds a model of the kind 'simclr', expected 'clip'"):
        Clip(weights="digits-simclr").load()


def test_lora_adapts_the_convolutions_and_names_what_it_cannot_adapt() -> None:
    SimClr("resnet8", lora=ConvLora()).check()
    with pytest.raises(ModelError, match="conv"):
        SimClr("resnet8", lora=ConvLora(targets=("q",))).check()


# BatchNorm


def statistics(encoder: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in encoder.named_buffers()}


def attacked(encoder: nn.Module, images: Tensor = IMAGES) -> Tensor:
    with torch.no_grad():
        original = encoder(images)
    return PGD(Linf(8 / 255), steps=2)(
        lambda pixels: (encoder(pixels) - original).square().sum(dim=1),
        images,
        Noise.of(0, 0, torch.arange(len(images))),
    )


def test_frozen_statistics_are_the_checkpoints_and_each_image_is_embedded_alone() -> None:
    encoder = SMALL.load().encoder
    encoder.train()
    before = statistics(encoder)
    attacked(encoder)
    encoder(IMAGES).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in statistics(encoder).items())
    with torch.no_grad():
        alone = torch.cat([encoder(image[None]) for image in IMAGES])
        torch.testing.assert_close(encoder(IMAGES), alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("update", [False, True])
def test_statistics_of_the_batch_are_those_of_its_images(update: bool) -> None:
    """The first normalisation by hand: zero mean and unit variance over the batch, then scale and shift (1 and 0)."""
    encoder = SMALL.load().encoder
    found: list[Tensor] = []
    encoder.visual.get_submodule("bn1").register_forward_hook(lambda module, given, made: found.append(made))
    with torch.no_grad(), batch_statistics(encoder, update):
        encoder(IMAGES)
    convolved = encoder.visual.get_submodule("conv1")(IMAGES)
    mean, variance = convolved.mean(dim=(0, 2, 3)), convolved.var(dim=(0, 2, 3), correction=0)
    by_hand = (convolved - mean[:, None, None]) / (variance + 1e-5).sqrt()[:, None, None]
    torch.testing.assert_close(found[0], by_hand, atol=1e-4, rtol=1e-4)


def test_the_attack_leaves_the_statistics_alone_and_the_descent_moves_them() -> None:
    encoder = SMALL.load().encoder
    before = statistics(encoder)
    with batch_statistics(encoder, update=False):
        perturbed = attacked(encoder)
    assert all(torch.equal(value, before[name]) for name, value in statistics(encoder).items())
    with batch_statistics(encoder, update=True):
        encoder(perturbed)
    after = statistics(encoder)
    moved = [name for name in before if "visual" in name and not torch.equal(before[name], after[name])]
    assert len(moved) == sum(name.startswith("visual.") for name in before)
    assert int(after["visual.bn1.num_batches_tracked"]) == 1
    first = encoder.visual.get_submodule("conv1")(perturbed).mean(dim=(0, 2, 3))
    torch.testing.assert_close(after["visual.bn1.running_mean"], 0.1 * first)  # torch's momentum, from zero


def test_the_function_attacked_is_the_function_trained_and_not_the_one_evaluated() -> None:
    encoder = SMALL.load().encoder
    with torch.no_grad():
        evaluated = encoder(IMAGES)
        with batch_statistics(encoder, update=False):
            climbed = encoder(IMAGES)
        with batch_statistics(encoder, update=True):
            descended = encoder(IMAGES)
    assert torch.equal(climbed, descended)
    assert not torch.allclose(climbed, evaluated, atol=1e-2)


def test_modes_are_what_they_were_after_the_block_even_after_an_error() -> None:
    encoder = SMALL.load().encoder
    for update in (False, True):
        with pytest.raises(ZeroDivisionError), batch_statistics(encoder, update):
            raise ZeroDivisionError
        norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
        assert norms
        assert not any(module.training for module in encoder.modules())
        assert all(norm.track_running_stats for norm in norms)
