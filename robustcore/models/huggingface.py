"""A CLIPModel of ``transformers`` as an open_clip model and back: every name and setting in both directions."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustcore.errors import ModelError
from robustcore.models.openclip import open_clip
from robustcore.models.plain import is_resnet, unusual_text, unusual_vision

_NORMS = {
    "vision_model.pre_layrnorm": "visual.ln_pre",  # (sic)
    "vision_model.post_layernorm": "visual.ln_post",
    "text_model.final_layer_norm": "ln_final",
}
_SINGLE = {
    "logit_scale": "logit_scale",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    **{f"{theirs}.{part}": f"{ours}.{part}" for theirs, ours in _NORMS.items() for part in ("weight", "bias")},
}
_TRANSPOSED = {"visual_projection.weight": "visual.proj", "text_projection.weight": "text_projection"}
_BLOCKS = {
    "vision_model.encoder.layers": "visual.transformer.resblocks",
    "text_model.encoder.layers": "transformer.resblocks",
}
_LAYERS = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
RESAMPLING = {"bilinear": 2, "bicubic": 3}  # as PIL numbers them


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
            "mlp_ratio": text.get("intermediate_size", 2048) / text.get("hidden_size", 512),
        },
    }


def transformers_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of ``open_clip_config``: what goes into ``config.json``. Raises ModelError for other towers."""
    odd = [*(["ResNet"] if is_resnet(config) else []), *unusual_vision(config), *unusual_text(config)]
    if odd:
        raise ModelError(f"the CLIP of transformers has no {', no '.join(odd)}; expected plain towers", "model")
    vision, text = (
        vars(open_clip.CLIPVisionCfg(**config["vision_cfg"])),
        vars(open_clip.CLIPTextCfg(**config["text_cfg"])),
    )
    shared = {
        "hidden_act": "quick_gelu" if config.get("quick_gelu") else "gelu",
        "layer_norm_eps": 1e-5,
        "projection_dim": config["embed_dim"],
    }
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": config["embed_dim"],
        "vision_config": {
            "model_type": "clip_vision_model",
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            **_transformer(vision, vision["width"] // vision["head_width"]),
            **shared,
        },
        "text_config": {
            "model_type": "clip_text_model",
            "max_position_embeddings": text["context_length"],
            "vocab_size": text["vocab_size"],
            # CLIP pools the text where its highest token is.
            "bos_token_id": text["vocab_size"] - 2,
            "eos_token_id": text["vocab_size"] - 1,
            **_transformer(text, text["heads"]),
            **shared,
        },
    }


def _transformer(tower: Mapping[str, Any], heads: int) -> dict[str, int]:
    return {
        "hidden_size": tower["width"],
        "intermediate_size": int(tower["width"] * tower["mlp_ratio"]),
        "num_attention_heads": heads,
        "num_hidden_layers": tower["layers"],
    }


def preprocess_config(folder: Path) -> dict[str, Any]:
    """open_clip's preprocess_cfg out of ``preprocessor_config.json``; CLIP's own where that says nothing."""
    try:
        config = json.loads((folder / "preprocessor_config.json").read_text())
    except FileNotFoundError:
        config = {}
    except ValueError as error:
        raise ModelError(f"{folder / 'preprocessor_config.json'} is not readable JSON ({error})", "weights") from None
    size = config.get("size", {})
    return {
        "mean": config.get("image_mean", open_clip.OPENAI_DATASET_MEAN),
        "std": config.get("image_std", open_clip.OPENAI_DATASET_STD),
        "resize_mode": "squash" if isinstance(size, dict) and "height" in size else "shortest",
        "interpolation": "bilinear" if config.get("resample") == RESAMPLING["bilinear"] else "bicubic",
    }


def open_clip_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of ``transformers.CLIPModel`` under open_clip's names, queries, keys and values packed.

    Raises KeyError with the first name that is missing.
    """
    renamed = {ours: tensors[theirs] for theirs, ours in _SINGLE.items()}
    renamed |= {ours: tensors[theirs].T for theirs, ours in _TRANSPOSED.items()}
    for theirs, ours, part in _block_parts(tensors, list(_BLOCKS)):
        packed = [tensors[f"{theirs}.self_attn.{name}_proj.{part}"] for name in "qkv"]
        renamed[f"{ours}.attn.in_proj_{part}"] = torch.cat(packed)
        for name, own in _LAYERS.items():
            renamed[f"{ours}.{own}.{part}"] = tensors[f"{theirs}.{name}.{part}"]
    return {name: tensor.contiguous() for name, tensor in renamed.items()}


def transformers_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of ``open_clip_tensors``."""
    renamed = {theirs: tensors[ours] for theirs, ours in _SINGLE.items()}
    renamed |= {theirs: tensors[ours].T for theirs, ours in _TRANSPOSED.items()}
    for theirs, ours, part in _block_parts(tensors, list(_BLOCKS.values())):
        thirds = tensors[f"{ours}.attn.in_proj_{part}"].chunk(3)
        renamed |= {f"{theirs}.self_attn.{name}_proj.{part}": third for name, third in zip("qkv", thirds, strict=True)}
        for name, own in _LAYERS.items():
            renamed[f"{theirs}.{name}.{part}"] = tensors[f"{ours}.{own}.{part}"]
    return {name: tensor.contiguous() for name, tensor in renamed.items()}


def _block_parts(tensors: Mapping[str, Tensor], prefixes: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Of every block of both towers its names there and here, once for the weights and once for the biases."""
    for prefix, (theirs, ours) in zip(prefixes, _BLOCKS.items(), strict=True):
        numbers = {name[len(prefix) + 1 :].split(".")[0] for name in tensors if name.startswith(f"{prefix}.")}
        for number in numbers:
            for part in ("weight", "bias"):
                yield f"{theirs}.{number}", f"{ours}.{number}", part
