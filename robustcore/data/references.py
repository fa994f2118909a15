"""phi0(x): original embeddings, computed once per (weights, data, preprocessing) and memory-mapped by every trial."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustcore.data.images import Pixels, as_pixels
from robustcore.data.native import NativePixels
from robustcore.once import computed_once

BATCH = 256


def original_embeddings(
    embed: Callable[[Tensor], Tensor],
    fingerprint: str,
    pixels: Pixels | NativePixels,
    folder: Path,
    device: torch.device,
    shared: str = "",
) -> np.ndarray:
    """(N, D) float32, memory-mapped read-only. ``fingerprint`` identifies ``embed``, the frozen encoder.

    For ``folder`` and ``shared`` see ``computed_once``.
    """
    resize = vars(pixels.preprocessing) if isinstance(pixels, Pixels) else None
    key = [fingerprint, pixels.images.fingerprint, resize]
    path = computed_once(folder, key, ".npy", lambda place: _compute(embed, pixels, place, device), shared)
    mapped: np.ndarray = np.load(path, mmap_mode="r")
    return mapped


@torch.no_grad()
def _compute(
    embed: Callable[[Tensor], Tensor], pixels: Pixels | NativePixels, place: Path, device: torch.device
) -> None:
    target = None
    for indices in pixels.batches(np.arange(len(pixels)), BATCH):
        embeddings = embed(as_pixels(pixels.at(indices), device)).float().cpu().numpy()
        if target is None:
            shape = (len(pixels), embeddings.shape[1])
            target = np.lib.format.open_memmap(place, "w+", np.float32, shape)
        target[indices] = embeddings
    assert target is not None, "an image set is never empty"
    target.flush()
