"""The linear probe of an encoder that has no text: without it, the accuracies of its trial could not be had again."""

import json
from pathlib import Path

from safetensors.torch import save_file

from robustcore.losses import Probe


def write_probe(folder: Path, probe: Probe, classes: tuple[str, ...]) -> None:
    """``probe.safetensors``: ``weight`` (C, D), ``bias`` (C,), and in the metadata ``classes`` as JSON."""
    tensors = {"weight": probe.weight.cpu().contiguous(), "bias": probe.bias.cpu().contiguous()}
    save_file(tensors, folder / "probe.safetensors", {"classes": json.dumps(classes)})
