"""Attacks climb a per-image function of the pixels; they know nothing of models, labels or losses.

Adding one is a file and a word in ``Attack``: its dataclass is its configuration, ``kind`` is its name in YAML.
"""

from typing import Annotated

from pydantic import Field

from robustcore.attacks.balls import L2, Ball, Linf
from robustcore.attacks.clean import Clean
from robustcore.attacks.fgsm import FGSM
from robustcore.attacks.pgd import PGD

Attack = Annotated[Clean | FGSM | PGD, Field(discriminator="kind")]

__all__ = ["FGSM", "L2", "PGD", "Attack", "Ball", "Clean", "Linf"]
