"""What several formats write alike: JSON, tensors in safetensors, and the numbers of the preprocessing."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from robustcore.models import Encoder


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """``content``, indented."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Detached, on the CPU, none sharing memory with another."""
    apart = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    save_file(apart, path, {"format": "pt"})  # the mark without which transformers refuses the file


def normaliser(encoder: Encoder) -> dict[str, list[float]]:
    """``mean`` and ``std`` of the three channels, as short as float32 reads them back."""
    return {
        "mean": [round(value, 8) for value in encoder.mean.flatten().tolist()],
        "std": [round(value, 8) for value in encoder.std.flatten().tolist()],
    }
