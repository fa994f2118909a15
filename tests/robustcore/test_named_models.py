"""A model from one word, and image towers that take the place of others: how robust encoders are published."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from robustcore.errors import ModelError
from robustcore.models import Clip, SimClr
from robustcore.models.named import model_named
from robustcore.models.weights import Description, save_model, shipped
from tests.robustcore.towers import TINY, built, embedded, seen, tensors_of


@pytest.mark.parametrize(
    ("word", "model"),
    [
        ("digits", Clip(weights="digits")),
        ("digits-simclr", SimClr(weights="digits-simclr")),
        ("ViT-B-32-quickgelu:openai", Clip("ViT-B-32-quickgelu", "openai")),
        ("ViT-L-14-quickgelu:openai+fare_eps_4.pt", Clip("ViT-L-14-quickgelu", "openai", "fare_eps_4.pt")),
        ("digits+tower.pt", Clip(weights="digits", visual="tower.pt")),
        ("resnet50:simclr.pt", SimClr("resnet50", weights="simclr.pt")),
        (str(shipped("digits")), Clip(weights=str(shipped("digits")))),
        (str(shipped("digits-simclr")), SimClr(weights=str(shipped("digits-simclr")))),
    ],
)
def test_a_word_is_a_model(word: str, model: Any) -> None:
    assert model_named(word) == model


def test_a_path_with_a_colon_or_a_plus_is_a_path_where_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a:b+c.safetensors"
    save_model(path, built(), Description("tiny-clip-16", TINY, (0.5,) * 3, (0.5,) * 3))
    assert model_named(str(path)) == Clip(weights=str(path))


@pytest.mark.parametrize("word", ["nothing", "ViT-B-32:", ":openai", ""])
def test_a_word_that_is_no_model_is_a_sentence(word: str) -> None:
    with pytest.raises(ModelError, match="expected ARCHITECTURE:TAG"):
        model_named(word)


@pytest.mark.parametrize("part", ["tower", "whole", "wrapped tower"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_the_image_tower_of_a_file_takes_the_place_of_the_base(part: str, suffix: str, tmp_path: Path) -> None:
    """The text tower stays the base's."""
    base, robust = built(), built()
    with torch.no_grad():
        for parameter in robust.parameters():
            parameter.add_(0.1)
    save_model(tmp_path / "base.safetensors", base, Description("tiny-clip-16", TINY, (0.5,) * 3, (0.5,) * 3))
    tower: Any = robust if part == "whole" else robust.visual
    tensors = tensors_of(tower)
    if part == "wrapped tower":
        tensors = {f"module.visual.{name}": value for name, value in tensors.items()}
    path = tmp_path / f"robust{suffix}"
    if suffix == ".pt":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    model = model_named(f"{tmp_path / 'base.safetensors'}+{path}")
    assert torch.equal(seen(model), embedded(robust))
    text, own = model.load().text, Clip(weights=str(tmp_path / "base.safetensors")).load().text
    assert torch.equal(text.rows(["one"], ["a {}"]), own.rows(["one"], ["a {}"]))
    model.check()


def test_an_image_tower_that_is_not_there_or_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such checkpoint of an image tower"):
        Clip(weights="digits", visual="missing.pt").check()
    torch.save({"proj": torch.zeros(2, 2)}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="does not fit the architecture"):
        Clip(weights="digits", visual=str(tmp_path / "other.pt")).load()
