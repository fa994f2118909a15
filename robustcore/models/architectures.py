"""Small CLIPs built from open_clip's own classes, for data that one machine can train on; they read text as bytes."""

from typing import Any

import torch
from torch import Tensor

BYTE_VOCABULARY = 257  # 0 pads, 1-255 are bytes, 256 ends the text: the highest id, where CLIP's text tower pools
_END = 256

_TEXT = {"context_length": 64, "vocab_size": BYTE_VOCABULARY, "width": 64, "heads": 2, "layers": 1}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "tiny-clip-16": {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 16, "patch_size": 4, "layers": 2, "width": 64, "head_width": 32},
        "text_cfg": {**_TEXT, "context_length": 48},
    },
    "tiny-clip-32": {
        "embed_dim": 96,
        "vision_cfg": {"image_size": 32, "patch_size": 4, "layers": 3, "width": 96, "head_width": 32},
        "text_cfg": _TEXT,
    },
    "small-clip-32": {
        "embed_dim": 256,
        "vision_cfg": {"image_size": 32, "patch_size": 4, "layers": 8, "width": 256, "head_width": 64},
        "text_cfg": {**_TEXT, "width": 128, "heads": 4, "layers": 2},
    },
}


def byte_tokens(texts: list[str], context_length: int) -> Tensor:
    """(len(texts), context_length) int64: UTF-8 bytes, cut where they do not fit, and the end mark."""
    tokens = torch.zeros(len(texts), context_length, dtype=torch.int64)
    for row, text in enumerate(texts):
        codes = [*text.encode()[: context_length - 1], _END]
        tokens[row, : len(codes)] = torch.tensor(codes)
    return tokens
