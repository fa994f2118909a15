"""A Hugging Face folder on disk as an open_clip model: open_clip's own layout, or the one of ``transformers``."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor

from robustcore.errors import ModelError

_LAYERS = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def is_transformers_folder(folder: Path) -> bool:
    """Whether the folder was written by ``transformers`` (open_clip writes ``open_clip_config.json``)."""
    return not (folder / "open_clip_config.json").exists() and (folder / "config.json").exists()


def open_clip_config(folder: Path) -> dict[str, Any]:
    """open_clip's model_cfg for a ``transformers`` CLIP folder; QuickGELU as the folder says."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'} is not readable JSON ({error})", "weights") from None
    if config.get("model_type") != "clip":
        raise ModelError(
            f"{folder} holds a model of type {config.get('model_type')!r}, expected 'clip' or open_clip's own layout",
            "weights",
        )
    vision, text = config.get("vision_config", {}), config.get("text_config", {})
    return {
        "embed_dim": config.get("projection_dim", 512),
        "quick_gelu": vision.get("hidden_act", "quick_gelu") == "quick_gelu",
        "vision_cfg": {
            "image_size": vision.get("image_size", 224),
            "patch_size": vision.get("patch_size", 32),
            "layers": vision.get("num_hidden_layers", 12),
            "width": vision.get("hidden_size", 768),
            "head_width": vision.get("hidden_size", 768) // vision.get("num_attention_heads", 12),
            "mlp_ratio": vision.get("intermediate_size", 3072) / vision.get("hidden_size", 768),
        },
        "text_cfg": {
            "context_length": text.get("max_position_embeddings", 77),
            "vocab_size": text.get("vocab_size", 49408),
            "width": text.get("hidden_size", 512),
            "heads": text.get("num_attention_heads", 8),
            "layers": text.get("num_hidden_layers", 12),
        },
    }


def normaliser(folder: Path) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation of ``preprocessor_config.json``; CLIP's own where it says nothing."""
    try:
        config = json.loads((folder / "preprocessor_config.json").read_text())
    except FileNotFoundError:
        config = {}
    except ValueError as error:
        raise ModelError(f"{folder / 'preprocessor_config.json'} is not readable JSON ({error})", "weights") from None
    return config.get("image_mean", OPENAI_DATASET_MEAN), config.get("image_std", OPENAI_DATASET_STD)


def open_clip_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of ``transformers.CLIPModel`` under open_clip's names, queries, keys and values packed."""
    renamed = {"logit_scale": tensors["logit_scale"]}
    renamed["visual.class_embedding"] = tensors["vision_model.embeddings.class_embedding"]
    renamed["visual.conv1.weight"] = tensors["vision_model.embeddings.patch_embedding.weight"]
    renamed["visual.positional_embedding"] = tensors["vision_model.embeddings.position_embedding.weight"]
    renamed["visual.proj"] = tensors["visual_projection.weight"].T
    renamed["token_embedding.weight"] = tensors["text_model.embeddings.token_embedding.weight"]
    renamed["positional_embedding"] = tensors["text_model.embeddings.position_embedding.weight"]
    renamed["text_projection"] = tensors["text_projection.weight"].T
    # "pre_layrnorm" is how the library spells it.
    norms = {"vision_model.pre_layrnorm": "visual.ln_pre", "vision_model.post_layernorm": "visual.ln_post"}
    for old, new in (norms | {"text_model.final_layer_norm": "ln_final"}).items():
        for part in ("weight", "bias"):
            renamed[f"{new}.{part}"] = tensors[f"{old}.{part}"]
    for tower, prefix in (("vision_model", "visual.transformer"), ("text_model", "transformer")):
        renamed |= _blocks(tensors, f"{tower}.encoder.layers", f"{prefix}.resblocks")
    return {name: tensor.contiguous() for name, tensor in renamed.items()}


def _blocks(tensors: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    renamed = {}
    numbers = {int(name[len(old) + 1 :].split(".")[0]) for name in tensors if name.startswith(f"{old}.")}
    for number in numbers:
        for part in ("weight", "bias"):
            packed = [tensors[f"{old}.{number}.self_attn.{name}_proj.{part}"] for name in "qkv"]
            renamed[f"{new}.{number}.attn.in_proj_{part}"] = torch.cat(packed)
            for theirs, ours in _LAYERS.items():
                renamed[f"{new}.{number}.{ours}.{part}"] = tensors[f"{old}.{number}.{theirs}.{part}"]
    return renamed
