"""Tiny CLIPs with random numbers, and the files and folders that others would have written them to."""

import copy
import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from robustcore.models import Clip
from robustcore.models.architectures import ARCHITECTURES
from robustcore.models.lean import lean

TINY = ARCHITECTURES["tiny-clip-16"]
IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
OPENAI = (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)


def built(seed: int = 7, **config: Any) -> nn.Module:
    """A tiny CLIP of open_clip's with random numbers in every tensor, biases and norms too."""
    model: nn.Module = open_clip.CLIP(**json.loads(json.dumps(TINY | config))).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.contiguous() for name, value in module.state_dict().items()}


def embedded(model: nn.Module, mean: Any = (0.5,) * 3, std: Any = (0.5,) * 3) -> Tensor:
    """What ``model`` itself says of the images, normalised by hand; made lean, so that it is the same to the bit."""
    normalised = (IMAGES - torch.tensor(mean).reshape(3, 1, 1)) / torch.tensor(std).reshape(3, 1, 1)
    with torch.no_grad():
        embeddings: Tensor = lean(copy.deepcopy(model.get_submodule("visual")))(normalised)
    return embeddings


def seen(model: Clip) -> Tensor:
    with torch.no_grad():
        embeddings: Tensor = model.load().encoder(IMAGES)
    return embeddings


def transformers_folder(folder: Path, model: nn.Module, activation: str) -> Path:
    """``model`` as the transformers library writes a CLIPModel: its names, queries, keys and values apart."""
    folder.mkdir()
    vision, text = TINY["vision_cfg"], TINY["text_cfg"]
    config = {
        "model_type": "clip",
        "projection_dim": TINY["embed_dim"],
        "vision_config": {
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "num_hidden_layers": vision["layers"],
            "hidden_size": vision["width"],
            "num_attention_heads": vision["width"] // vision["head_width"],
            "intermediate_size": 4 * vision["width"],
            "hidden_act": activation,
        },
        "text_config": {
            "max_position_embeddings": text["context_length"],
            "vocab_size": text["vocab_size"],
            "hidden_size": text["width"],
            "num_attention_heads": text["heads"],
            "num_hidden_layers": text["layers"],
            "intermediate_size": 4 * text["width"],
            "hidden_act": activation,
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        tensors |= as_transformers(name, value)
    # Saved by older versions of the library beside the weights.
    tensors["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "model.safetensors")
    return folder


def as_transformers(name: str, value: Tensor) -> dict[str, Tensor]:
    tower = "vision_model" if name.startswith("visual.") else "text_model"
    name = name.removeprefix("visual.")
    if name.startswith("transformer.resblocks."):
        _, _, number, *rest = name.split(".")
        layer, part = ".".join(rest[:-1]), rest[-1]
        prefix = f"{tower}.encoder.layers.{number}"
        if part.startswith("in_proj_"):
            part = part.removeprefix("in_proj_")
            return {
                f"{prefix}.self_attn.{role}_proj.{part}": third
                for role, third in zip("qkv", value.chunk(3), strict=True)
            }
        layers = {"attn.out_proj": "self_attn.out_proj", "ln_1": "layer_norm1", "ln_2": "layer_norm2"}
        layers |= {"mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
        return {f"{prefix}.{layers[layer]}.{part}": value}
    if name in ("proj", "text_projection"):
        return {"visual_projection.weight" if name == "proj" else "text_projection.weight": value.T}
    single = {
        "logit_scale": "logit_scale",
        "class_embedding": "vision_model.embeddings.class_embedding",
        "conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "positional_embedding": f"{tower}.embeddings.position_embedding.weight",
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    }
    if name in single:
        return {single[name]: value}
    norm, part = name.split(".")
    norms = {"ln_pre": "pre_layrnorm", "ln_post": "post_layernorm", "ln_final": "final_layer_norm"}
    return {f"{tower}.{norms[norm]}.{part}": value}


def open_clip_folder(folder: Path, model: nn.Module, **config: Any) -> Path:
    """``model`` in open_clip's own layout, with its own normaliser and resizing."""
    folder.mkdir()
    preprocess = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "resize_mode": "squash", "interpolation": "bilinear"}
    content = {"model_cfg": TINY | config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    save_file(tensors_of(model), folder / "open_clip_model.safetensors")
    return folder
