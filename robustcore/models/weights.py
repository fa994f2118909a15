"""Where weights come from: a file of our own, a checkpoint, a Hugging Face folder, or a tag of open_clip.

Only tensors are ever read: safetensors, or ``torch.load(weights_only=True)``.
"""

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from robustcore.errors import ModelError

SHIPPED = ("digits", "digits-simclr")
_WRAPPERS = ("state_dict", "model", "model_state_dict", "module")
_PREFIXES = ("module.", "model.", "_orig_mod.", "visual.")


@dataclass(frozen=True)
class Description:
    """What a file of our own says of itself: enough to build its model."""

    architecture: str
    config: dict[str, Any]  # open_clip's model_cfg; of a simclr, its stem and image_size
    mean: tuple[float, ...]
    std: tuple[float, ...]
    kind: str = "clip"  # as ``model.kind``


def shipped(name: str) -> Path:
    """The file of weights that come with the package."""
    return Path(str(files("robustcore.models") / "shipped" / f"{name}.safetensors"))


def save_model(path: Path, model: nn.Module, description: Description) -> None:
    """Weights and description in one safetensors file."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    path.write_bytes(save(tensors, {"description": json.dumps(vars(description))}))


def describe(path: Path, kind: str = "clip") -> Description | None:
    """The description in a file of our own; None for any other file; ModelError for a model of another kind."""
    description = any_description(path)
    if description is not None and description.kind != kind:
        raise ModelError(f"{path} holds a model of the kind '{description.kind}', expected '{kind}'", "weights")
    return description


def any_description(path: Path) -> Description | None:
    """As ``describe``, of a model of any kind."""
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("description")
        description = Description(**json.loads(text)) if text else None
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path} is not a readable safetensors file ({error})", "weights") from None
    return description


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A checkpoint's tensors by name, taken out of the usual wrappers and prefixes."""
    try:
        content = _loaded(path)
    except Exception as error:  # torch and safetensors raise a dozen kinds for a damaged file
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ModelError(f"{path} is not a readable checkpoint ({reason})", "weights") from None
    while isinstance(content, dict) and (inner := _wrapped(content)) is not None:
        content = inner
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise ModelError(f"{path} is not a readable checkpoint (a {kind}, expected tensors by name)", "weights")
    return _without_prefixes({name: value for name, value in content.items() if isinstance(value, Tensor)})


def _wrapped(content: dict[str, Any]) -> dict[str, Any] | None:
    return next((content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)), None)


def _loaded(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _without_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            return _without_prefixes({name.removeprefix(prefix): value for name, value in tensors.items()})
    return tensors


def load_into(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Every tensor of the model, or ModelError; a checkpoint of the visual tower alone fills that one."""
    visual = model.visual
    assert isinstance(visual, nn.Module)
    fill(visual if tensors.keys() >= visual.state_dict().keys() else model, tensors, path)


def load_visual(model: nn.Module, path: Path) -> None:
    """Every tensor of the model's image tower from a checkpoint of that tower, or of a whole model; or ModelError."""
    tensors, prefix = read_tensors(path), "visual."
    own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    visual = model.visual
    assert isinstance(visual, nn.Module)
    fill(visual, own or tensors, path)


def fill(target: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Every tensor of ``target``, or ModelError on the first that is missing or of another shape; the rest is left."""
    expected = {name: tuple(value.shape) for name, value in target.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in tensors.items() if name in expected}
    wrong = sorted(name for name in expected if given.get(name) != expected[name])
    if wrong:
        name = wrong[0]
        raise ModelError(
            f"{path} does not fit the architecture: {len(wrong)} of {len(expected)} tensors are missing or of another "
            f"shape, first '{name}' (expected {expected[name]}, got {given.get(name, 'none')})",
            "weights",
        )
    target.load_state_dict({name: tensors[name] for name in expected})
