"""``timm.create_model("local-dir:FOLDER", pretrained=True)``: the image tower, with CLIP's projection as its head."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustcore.errors import ModelError
from robustcore.export.layout import normaliser, write_json, write_tensors
from robustcore.models import Loaded, LoadedClip, LoadedSimClr
from robustcore.models.plain import is_resnet, unusual_vision

USAGE = """\
import timm
model = timm.create_model("local-dir:{folder}", pretrained=True).eval()
embeddings = model(timm.data.create_transform(**timm.data.resolve_model_data_config(model))(image)[None])
"""

# CLIP's ResNets by layers and width; other sizes timm does not build.
_RESNETS = {
    ((3, 4, 6, 3), 64): "resnet50_clip",
    ((3, 4, 23, 3), 64): "resnet101_clip",
    ((4, 6, 10, 6), 80): "resnet50x4_clip",
    ((6, 8, 18, 8), 96): "resnet50x16_clip",
    ((3, 15, 36, 10), 128): "resnet50x64_clip",
}
_VIT_NAMES = {
    "conv1": "patch_embed.proj",
    "class_embedding": "cls_token",
    "positional_embedding": "pos_embed",
    "transformer.resblocks": "blocks",
    "ln_pre": "norm_pre",
    "ln_post": "norm",
    "ln_1": "norm1",
    "ln_2": "norm2",
    "attn.in_proj_": "attn.qkv.",
    "attn.out_proj": "attn.proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_CONVOLUTIONS = {"1": "conv1_1x1", "2": "conv2_kxk", "3": "conv3_1x1"}
# In this order: a block's own names first, so that those of the stem do not find them.
_RESNET_NAMES = (
    (r"^layer(\d)\.", lambda match: f"stages.{int(match[1]) - 1}."),
    (r"^(stages\..*)\.(conv|bn)(\d)\.", lambda match: f"{match[1]}.{_CONVOLUTIONS[match[3]]}.{match[2]}."),
    (r"downsample\.0\.", "shortcut.conv.conv."),
    (r"downsample\.1\.", "shortcut.conv.bn."),
    (r"^(conv|bn)(\d)\.", r"stem.conv\2.\1."),
    (r"^attnpool\.positional_embedding", "head.pos_embed"),
    (r"^attnpool\.([qkv])_proj", r"head.\1"),
    (r"^attnpool\.c_proj", "head.proj"),
)


@dataclass(frozen=True)
class _Tower:
    architecture: str
    tensors: dict[str, Tensor]
    first: str  # the name of the first convolution
    head: str
    embed_dim: int  # 0: no head, the pooled features
    arguments: dict[str, Any]


def write(loaded: Loaded, folder: Path) -> None:
    """``config.json`` and ``model.safetensors``; raises ModelError for a tower that timm does not build."""
    tower, preprocessing = _tower(loaded), loaded.preprocessing
    pretrained = {
        "input_size": [3, preprocessing.size, preprocessing.size],
        "fixed_input_size": bool(tower.arguments),
        "interpolation": preprocessing.interpolation,
        "crop_pct": 1.0,
        "crop_mode": "squash" if preprocessing.resize == "squash" else "center",
        **normaliser(loaded.encoder),
        "first_conv": tower.first,
        "classifier": tower.head,
    }
    config = {"architecture": tower.architecture, "num_classes": tower.embed_dim, "model_args": tower.arguments}
    write_json(folder / "config.json", config | {"pretrained_cfg": pretrained})
    write_tensors(folder / "model.safetensors", tower.tensors)


def _tower(loaded: Loaded) -> _Tower:
    tensors = loaded.encoder.visual.state_dict()
    if isinstance(loaded, LoadedSimClr):
        return _simclr(loaded, tensors)
    return _clip_resnet(loaded, tensors) if is_resnet(loaded.config) else _vit(loaded, tensors)


def _simclr(loaded: LoadedSimClr, tensors: dict[str, Tensor]) -> _Tower:
    if loaded.stem != "imagenet":
        raise ModelError(
            f"timm has no {loaded.architecture} with the stem '{loaded.stem}'; expected onnx for this one", "to"
        )
    return _Tower(loaded.architecture, tensors, "conv1", "fc", 0, {})


def _vit(loaded: LoadedClip, tensors: dict[str, Tensor]) -> _Tower:
    if odd := unusual_vision(loaded.config):
        raise ModelError(f"timm's CLIP has no {', no '.join(odd)}; expected open_clip or onnx for this one", "to")
    vision = loaded.config["vision_cfg"]
    width = tensors["class_embedding"].shape[0]
    renamed = {_vit_name(name): tensor for name, tensor in tensors.items() if name != "proj"}
    renamed["cls_token"] = renamed["cls_token"].reshape(1, 1, -1)
    renamed["pos_embed"] = renamed["pos_embed"][None]
    renamed["head.weight"] = tensors["proj"].T
    renamed["head.bias"] = torch.zeros(tensors["proj"].shape[1])
    arguments = {
        "img_size": loaded.preprocessing.size,
        "patch_size": tensors["conv1.weight"].shape[-1],
        "embed_dim": width,
        "depth": vision.get("layers", 12),
        "num_heads": width // vision.get("head_width", 64),
        "mlp_ratio": vision.get("mlp_ratio", 4.0),
    }
    # Any size under the name of one: timm knows them by the activation alone.
    name = "vit_base_patch16_clip_quickgelu_224" if loaded.config.get("quick_gelu") else "vit_base_patch16_clip_224"
    return _Tower(name, renamed, "patch_embed.proj", "head", loaded.config["embed_dim"], arguments)


def _vit_name(name: str) -> str:
    for ours, theirs in _VIT_NAMES.items():
        name = name.replace(ours, theirs)
    return name


def _clip_resnet(loaded: LoadedClip, tensors: dict[str, Tensor]) -> _Tower:
    vision = loaded.config["vision_cfg"]
    layers, width = tuple(vision["layers"]), vision.get("width", 64)
    name = _RESNETS.get((layers, width))
    if name is None:
        known = ", ".join(name.removesuffix("_clip") for name in _RESNETS.values())
        raise ModelError(f"timm has no CLIP ResNet of {layers} layers and width {width}; it has {known}", "to")
    renamed = {_resnet_name(name): tensor for name, tensor in tensors.items()}
    return _Tower(
        name,
        renamed,
        "stem.conv1.conv",
        "head.proj",
        loaded.config["embed_dim"],
        {"img_size": loaded.preprocessing.size},
    )


def _resnet_name(name: str) -> str:
    for pattern, replacement in _RESNET_NAMES:
        name = re.sub(pattern, replacement, name)
    return name
