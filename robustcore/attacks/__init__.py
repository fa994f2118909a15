"""Attacks climb a per-image function of the pixels; they know nothing of models, labels or losses.

Adding one is a file and a word in ``Attack``: its dataclass is its configuration, ``kind`` is its name in YAML. Each
says how many ``gradients`` it takes for an image, whether it has a ``random_start``, and whether it is
``training_only``: it leaves its ball, or its result depends on the batch, so that nothing is measured with it.
"""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from robustcore.attacks.apgd import APGD
from robustcore.attacks.autoattack import AutoAttack
from robustcore.attacks.balls import L2, Ball, Linf
from robustcore.attacks.clean import Clean
from robustcore.attacks.fgsm import FGSM
from robustcore.attacks.n_fgsm import NFGSM
from robustcore.attacks.pgd import PGD
from robustcore.attacks.rs_fgsm import RSFGSM
from robustcore.attacks.universal import Universal
from robustcore.errors import InputError


def _no_autoattack(attack: Any) -> Any:
    kind = attack.get("kind") if isinstance(attack, dict) else getattr(attack, "kind", None)
    if kind == "autoattack":
        raise InputError("'autoattack' is for evaluation only; expected an attack that climbs a loss, such as pgd")
    return attack


# What climbs a loss; AutoAttack alone has to know the classes, too.
Climber = Annotated[
    Clean | FGSM | RSFGSM | NFGSM | PGD | APGD | Universal,
    Field(discriminator="kind"),
    BeforeValidator(_no_autoattack),
]
Attack = Annotated[
    Clean | FGSM | RSFGSM | NFGSM | PGD | APGD | Universal | AutoAttack,
    Field(discriminator="kind"),
]

__all__ = [
    "APGD",
    "FGSM",
    "L2",
    "NFGSM",
    "PGD",
    "RSFGSM",
    "Attack",
    "AutoAttack",
    "Ball",
    "Clean",
    "Climber",
    "Linf",
    "Universal",
]
