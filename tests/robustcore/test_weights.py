"""Files of weights: our own, which describe themselves, other people's checkpoints, and everything that is neither."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from robustcore.errors import ModelError
from robustcore.models import Clip
from robustcore.models.weights import Description, save_model
from tests.robustcore.towers import TINY, built, embedded, seen, tensors_of


def refused(**model: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        Clip(**model).load()
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError):
        Clip(**model).check()
    return caught.value


def test_a_file_of_our_own_describes_itself(tmp_path: Path) -> None:
    model, path = built(), tmp_path / "own.safetensors"
    save_model(path, model, Description("tiny-clip-16", TINY, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)))
    assert torch.equal(seen(Clip(weights=str(path))), embedded(model, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)))
    assert torch.equal(seen(Clip("tiny-clip-16", str(path))), seen(Clip(weights=str(path))))
    error = refused(architecture="small-clip-32", weights=str(path))
    assert "are of the architecture 'tiny-clip-16', expected 'small-clip-32'" in str(error)
    assert error.key == "architecture"


WRAPPERS: dict[str, Any] = {
    "bare": lambda tensors: tensors,
    "state_dict": lambda tensors: {"state_dict": tensors, "epoch": 3},
    "model": lambda tensors: {"model": tensors},
    "module. prefix": lambda tensors: {"state_dict": {f"module.{name}": value for name, value in tensors.items()}},
    "compiled": lambda tensors: {f"_orig_mod.{name}": value for name, value in tensors.items()},
    "twice": lambda tensors: {f"module._orig_mod.{name}": value for name, value in tensors.items()},
}


@pytest.mark.parametrize("part", ["whole model", "visual tower"])
@pytest.mark.parametrize(
    ("wrapper", "suffix"),
    [*((name, ".pt") for name in WRAPPERS), *((name, ".safetensors") for name in ("bare", "compiled", "twice"))],
)
def test_a_checkpoint_is_taken_out_of_its_wrappings(wrapper: str, suffix: str, part: str, tmp_path: Path) -> None:
    model, path = built(), tmp_path / f"checkpoint{suffix}"
    tower: Any = model if part == "whole model" else model.visual
    content = WRAPPERS[wrapper](tensors_of(tower))
    if suffix == ".pt":
        torch.save(content, path)
    else:
        save_file(content, path)
    assert torch.equal(seen(Clip("tiny-clip-16", str(path))), embedded(model))


def test_a_visual_tower_named_as_part_of_its_model_is_read_too(tmp_path: Path) -> None:
    model, path = built(), tmp_path / "checkpoint.safetensors"
    save_file({name: value for name, value in model.state_dict().items() if name.startswith("visual.")}, path)
    assert torch.equal(seen(Clip("tiny-clip-16", str(path))), embedded(model))


def test_without_weights_the_numbers_are_random_but_always_the_same() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = seen(Clip("tiny-clip-16"))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert torch.equal(seen(Clip("tiny-clip-16")), one)


TINY_NAMED = {"architecture": "tiny-clip-16"}
MISTAKES: dict[str, tuple[dict[str, Any], str, str]] = {
    "nothing named": ({}, "weights", "no such weights: None; expected a file or folder, or a tag together"),
    "unknown architecture": (
        {"architecture": "tiny-clip-61"},
        "architecture",
        "unknown architecture 'tiny-clip-61'; did you mean 'tiny-clip-16'?",
    ),
    "unknown tag": (
        {"architecture": "ViT-B-32", "weights": "opena"},
        "weights",
        "unknown weights 'opena' for ViT-B-32: neither a file nor a tag; did you mean 'openai'?",
    ),
    "unknown shipped weights": (
        TINY_NAMED | {"weights": "digit"},
        "weights",
        "no such weights: 'digit'; expected a file; did you mean 'digits'?",
    ),
    "nearly the shipped weights": (
        {"weights": "digit"},
        "weights",
        "or a tag together with an architecture; did you mean 'digits'?",
    ),
    "a file without its architecture": ({"weights": "small.safetensors"}, "architecture", "do not say their architec"),
    "another shape": (
        TINY_NAMED | {"weights": "small.safetensors"},
        "weights",
        "does not fit the architecture: 2 of 50 tensors are missing or of another shape, first",
    ),
    "text as safetensors": (TINY_NAMED | {"weights": "text.safetensors"}, "weights", "not a readable safetensors file"),
    "text as a checkpoint": (TINY_NAMED | {"weights": "text.pt"}, "weights", "is not a readable checkpoint"),
    "a list": (TINY_NAMED | {"weights": "list.pt"}, "weights", "is not a readable checkpoint"),
    "one tensor": (TINY_NAMED | {"weights": "tensor.pt"}, "weights", "is not a readable checkpoint"),
    "no tensors": (TINY_NAMED | {"weights": "none.pt"}, "weights", "does not fit the architecture"),
    "a folder of nothing": ({"weights": "empty"}, "weights", "cannot load"),
    "a folder of another model": ({"weights": "bert"}, "weights", "a model of type 'bert', expected 'clip'"),
    "a folder without weights": ({"weights": "bare"}, "weights", "holds no model.safetensors"),
    "a folder with a broken config": ({"weights": "broken"}, "weights", "config.json"),
    "an open_clip folder with a broken config": ({"weights": "open"}, "weights", "cannot load"),
    "a folder that lacks tensors": ({"weights": "partial"}, "weights", "expected a whole CLIPModel"),
}


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files and folders that cannot be loaded."""
    root = tmp_path_factory.mktemp("wrong")
    for name in ("text.safetensors", "text.pt"):
        (root / name).write_text("not tensors")
    for name, content in {"list.pt": [1, 2], "none.pt": {"epoch": 3}, "tensor.pt": torch.zeros(3)}.items():
        torch.save(content, root / name)
    save_file(
        {name: value.contiguous() for name, value in built(embed_dim=32).state_dict().items()},
        root / "small.safetensors",
    )
    small = {"num_hidden_layers": 1, "hidden_size": 64, "num_attention_heads": 2}
    whole = {"model_type": "clip", "vision_config": small, "text_config": small}
    configs = {"broken": "{", "bert": '{"model_type": "bert"}', "bare": json.dumps(whole), "partial": json.dumps(whole)}
    for name in ("empty", "open", *configs):
        (root / name).mkdir()
    for name, config in configs.items():
        (root / name / "config.json").write_text(config)
    (root / "open" / "open_clip_config.json").write_text("{")
    save_file({"logit_scale": torch.ones(())}, root / "partial" / "model.safetensors")
    return root


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_about_its_key(mistake: str, wrong: Path) -> None:
    model, key, sentence = MISTAKES[mistake]
    weights = model.get("weights")
    path = str(wrong / weights) if weights is not None and (wrong / weights).exists() else weights
    error = refused(**(model | {"weights": path}))
    assert sentence in str(error)
    assert error.key == key
