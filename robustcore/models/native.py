"""An encoder with the resize inside: attacks then act on the stored pixels, and a gradient flows through the resize.

The resize is the one of ``Preprocessing`` (Pillow's, which widens the kernel to shrink without aliasing), written as
two matrix products: their gradient is deterministic on a GPU, which that of ``interpolate`` is not.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from robustcore.data.images import Preprocessing
from robustcore.models.encoder import Encoder
from robustcore.types import Embeddings, Images


class NativeResolution(Encoder):
    """phi of resized and centre-cropped pixels: images (B, 3, H, W) in [0, 1] of any one size, embeddings (B, D).

    Shares its weights with ``encoder``. What comes in is not rounded to 256 levels on its way, or an attack would have
    no gradient: embeddings are those of ``Preprocessing`` to within that rounding.
    """

    def __init__(self, encoder: Encoder, preprocessing: Preprocessing) -> None:
        super().__init__(encoder.visual, [0.0], [1.0])
        self.mean, self.std = encoder.mean, encoder.std
        self.preprocessing = preprocessing

    def forward(self, images: Images) -> Embeddings:
        """See the class."""
        return super().forward(resized(images, self.preprocessing))

    def fingerprint(self) -> str:
        """That of the encoder, and how it resizes."""
        return f"{super().fingerprint()}|{self.preprocessing}"


def resized(images: Images, preprocessing: Preprocessing) -> Images:
    """(B, 3, size, size) in [0, 1] from (B, 3, H, W), differentiable; in float32 whatever autocast says."""
    height, width = images.shape[-2:]
    size = preprocessing.size
    if (height, width) == (size, size):
        return images
    across, down, left, top = preprocessing.placed(width, height)
    with torch.autocast(images.device.type, enabled=False):
        columns = _kernel(width, across, left, preprocessing, images.device)
        rows = _kernel(height, down, top, preprocessing, images.device)
        # Bicubic kernels overshoot. Pillow cuts that off after either direction, columns first (from Pillow 13 on,
        # rows first where the height shrinks clearly more than the width: only squashing does that).
        narrow = (images.float() @ columns.T).clamp(0, 1)
        return (rows @ narrow).clamp(0, 1)


@lru_cache(maxsize=256)
def _kernel(source: int, target: int, first: int, preprocessing: Preprocessing, device: torch.device) -> Tensor:
    """(size, source): how much each stored pixel weighs in the ``size`` resized ones from ``first`` on."""
    scale = source / target
    centres = (np.arange(first, first + preprocessing.size) + 0.5) * scale
    distances = np.abs(np.arange(source) + 0.5 - centres[:, None]) / max(scale, 1)
    weights = _bicubic(distances) if preprocessing.interpolation == "bicubic" else np.clip(1 - distances, 0, None)
    return torch.tensor(weights / weights.sum(axis=1, keepdims=True), dtype=torch.float32, device=device)


def _bicubic(x: np.ndarray) -> np.ndarray:
    """Keys 1981 with a = -0.5, of distances x >= 0."""
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
