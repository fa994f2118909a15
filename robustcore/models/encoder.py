"""The image encoder as everything else sees it: the normaliser is inside, and it is always in eval mode."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustcore.models.text import fingerprint
from robustcore.types import Embeddings, Images


class Encoder(nn.Module):
    """phi: pixels in [0, 1], (B, 3, H, W), to projected embeddings (B, D), not normalised.

    Always in eval mode, when it is attacked and when it is trained: the function attacked is the function trained,
    BatchNorm statistics stay those of the checkpoint, and dropout is off.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, visual: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.visual = visual
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1), persistent=False)
        self.eval()

    def forward(self, images: Images) -> Embeddings:
        """Embeddings in float32, whatever precision autocast computes them in."""
        embeddings: Tensor = self.visual((images - self.mean) / self.std)
        return embeddings.float()

    def train(self, mode: bool = True) -> "Encoder":
        """Stays in eval mode; see the class."""
        return super().train(False)

    def fingerprint(self) -> str:
        """SHA-256 of every weight, of the normaliser and of the layers."""
        return fingerprint({**self.state_dict(), "mean": self.mean, "std": self.std}, str(self.visual))
