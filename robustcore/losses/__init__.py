"""Training objectives R + alpha K, per image and never reduced, and the functions that an attacker may climb."""

from typing import Annotated

from pydantic import Field

from robustcore.losses.classifiers import Classifier, Probe, ZeroShot
from robustcore.losses.climbs import CLIMBS, MAX_TARGETS, check_climb, num_targets
from robustcore.losses.dlr import dlr, targeted_dlr, worst_targets
from robustcore.losses.fare import Fare
from robustcore.losses.objective import Objective
from robustcore.losses.pmg_aft import PmgAft
from robustcore.losses.reference import Reference, cross_entropy, squared_distance
from robustcore.losses.sim_clip import SimClip
from robustcore.losses.tecoa import Tecoa
from robustcore.losses.tima import Tima

Loss = Annotated[Fare | Tecoa | SimClip | Tima | PmgAft, Field(discriminator="kind")]

__all__ = [
    "CLIMBS",
    "MAX_TARGETS",
    "Classifier",
    "Fare",
    "Loss",
    "Objective",
    "PmgAft",
    "Probe",
    "Reference",
    "SimClip",
    "Tecoa",
    "Tima",
    "ZeroShot",
    "check_climb",
    "cross_entropy",
    "dlr",
    "num_targets",
    "squared_distance",
    "targeted_dlr",
    "worst_targets",
]
