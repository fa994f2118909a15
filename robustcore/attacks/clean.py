"""The empty attack: clean accuracy is accuracy under it."""

from typing import Literal

from pydantic.dataclasses import dataclass

from robustcore.noise import Noise
from robustcore.types import STRICT, Images, LossAt


@dataclass(frozen=True, config=STRICT)
class Clean:
    """Leaves the images as they are."""

    kind: Literal["clean"] = "clean"

    climb = None
    gradients = 0
    random_start = False
    training_only = False

    def __call__(self, loss_at: LossAt, images: Images, noise: Noise) -> Images:
        """``images``, unchanged."""
        return images
