"""phi0(x): original embeddings, computed once per (weights, data, preprocessing) and memory-mapped by every trial."""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustcore.data.images import Pixels, as_pixels

BATCH = 256


def original_embeddings(
    embed: Callable[[Tensor], Tensor], fingerprint: str, pixels: Pixels, folder: Path, device: torch.device
) -> np.ndarray:
    """(N, D) float32, memory-mapped read-only. ``fingerprint`` identifies ``embed``, the frozen encoder.

    Whoever comes first computes; the others, on the same machine, wait for it on a lock and map the same file.
    """
    key = json.dumps([fingerprint, pixels.images.fingerprint, vars(pixels.preprocessing)])
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"
    folder.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _compute(embed, pixels, path, device)
    mapped: np.ndarray = np.load(path, mmap_mode="r")
    return mapped


@torch.no_grad()
def _compute(embed: Callable[[Tensor], Tensor], pixels: Pixels, path: Path, device: torch.device) -> None:
    unfinished = path.with_suffix(".unfinished.npy")
    target = None
    for start in range(0, len(pixels), BATCH):
        indices = np.arange(start, min(start + BATCH, len(pixels)))
        embeddings = embed(as_pixels(pixels.at(indices), device)).float().cpu().numpy()
        if target is None:
            shape = (len(pixels), embeddings.shape[1])
            target = np.lib.format.open_memmap(unfinished, "w+", np.float32, shape)
        target[indices] = embeddings
    assert target is not None, "an image set is never empty"
    target.flush()
    os.replace(unfinished, path)
