"""What of an open_clip configuration the CLIP of Radford et al. (2021) has: other libraries build that one alone."""

from collections.abc import Mapping
from typing import Any

from robustcore.models.openclip import open_clip

_VIT = {"image_size", "patch_size", "layers", "width", "head_width", "mlp_ratio"}
_TEXT = {"context_length", "vocab_size", "layers", "width", "heads", "mlp_ratio"}
# They change training, tokens or nothing, never an embedding (``eos_id`` is read by another pooling alone).
_WITHOUT_EFFECT = {
    *("patch_dropout", "output_tokens", "timm_model_pretrained", "timm_drop", "timm_drop_path"),
    *("hf_tokenizer_name", "tokenizer_mode", "tokenizer_kwargs", "pad_id", "eos_id", "hf_model_pretrained"),
}


def is_resnet(config: Mapping[str, Any]) -> bool:
    """Whether the image tower is CLIP's own ResNet: four numbers of layers instead of one."""
    return not isinstance(config["vision_cfg"].get("layers", 12), int)


def unusual_vision(config: Mapping[str, Any]) -> list[str]:
    """Settings of the image tower that the original has not, by name."""
    return _unusual(config["vision_cfg"], vars(open_clip.CLIPVisionCfg()), _VIT)


def unusual_text(config: Mapping[str, Any]) -> list[str]:
    """Settings of the text tower, and of the whole, that the original has not, by name."""
    whole = config.keys() - {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg", "init_logit_scale"}
    return [*sorted(whole), *_unusual(config["text_cfg"], vars(open_clip.CLIPTextCfg()), _TEXT)]


def _unusual(given: Mapping[str, Any], usual: Mapping[str, Any], sizes: set[str]) -> list[str]:
    kept = given.keys() - sizes - _WITHOUT_EFFECT
    return sorted(name for name in kept if given[name] != usual.get(name))
