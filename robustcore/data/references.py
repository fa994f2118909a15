"""phi0(x): original embeddings, computed once per (weights, data, preprocessing) and memory-mapped by every trial."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustcore.data.images import Pixels, as_pixels
from robustcore.once import computed_once

BATCH = 256


def original_embeddings(
    embed: Callable[[Tensor], Tensor], fingerprint: str, pixels: Pixels, folder: Path, device: torch.device
) -> np.ndarray:
    """(N, D) float32, memory-mapped read-only. ``fingerprint`` identifies ``embed``, the frozen encoder."""
    key = [fingerprint, pixels.images.fingerprint, vars(pixels.preprocessing)]
    path = computed_once(folder, key, ".npy", lambda place: _compute(embed, pixels, place, device))
    mapped: np.ndarray = np.load(path, mmap_mode="r")
    return mapped


@torch.no_grad()
def _compute(embed: Callable[[Tensor], Tensor], pixels: Pixels, place: Path, device: torch.device) -> None:
    target = None
    for start in range(0, len(pixels), BATCH):
        indices = np.arange(start, min(start + BATCH, len(pixels)))
        embeddings = embed(as_pixels(pixels.at(indices), device)).float().cpu().numpy()
        if target is None:
            shape = (len(pixels), embeddings.shape[1])
            target = np.lib.format.open_memmap(place, "w+", np.float32, shape)
        target[indices] = embeddings
    assert target is not None, "an image set is never empty"
    target.flush()
