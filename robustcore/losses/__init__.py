"""Training objectives R + alpha K, per image and never reduced; the attacker climbs R, which is ``robust``."""

from typing import Annotated

from pydantic import Field

from robustcore.losses.fare import Fare
from robustcore.losses.reference import Reference, cross_entropy, squared_distance, zero_shot_logits
from robustcore.losses.tecoa import Tecoa

Loss = Annotated[Fare | Tecoa, Field(discriminator="kind")]

__all__ = ["Fare", "Loss", "Reference", "Tecoa", "cross_entropy", "squared_distance", "zero_shot_logits"]
