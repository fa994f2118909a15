"""Minimum hyperspherical energy (Liu et al. 2018, arXiv 1805.09298): how crowded class rows are; less is better.

All of it is in float64 inside: what counts are the differences of rows that are nearly the same, which float32 loses.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

EnergyKind = Literal["damped", "riesz_0", "riesz_1", "riesz_2"]

CLOSEST = 1e-4  # squared distance, 0.57 degrees: rows closer than that count as this far apart


def energy(rows: Tensor, kind: EnergyKind = "damped", half_space: bool = False) -> Tensor:
    """Mean potential of the pairs j < k of ``rows`` (C, D), scalar float32 with a gradient; 0 where C < 2.

    With d^2 = ||t_j - t_k||^2 = 2 - 2 cos of the unit rows (only their directions count): ``damped`` 1 / (1 + d^2),
    which is TIMA's, in [1/5, 1]; ``riesz_0`` -log d^2, ``riesz_1`` 1 / d, ``riesz_2`` 1 / d^2. The Riesz energies
    explode where two rows nearly coincide, so d^2 is at least ``CLOSEST`` in them; rows closer than that, such as
    those of a class name given twice, do not push each other apart.

    ``half_space`` joins each row by its mirror image -t_k, so that rows spread as lines do: the mean over pairs of
    those 2C points, without a point and its own mirror image, whose distance never changes.
    """
    cosines = _cosines(rows)
    potentials = _potential(2 - 2 * cosines, kind)
    if half_space:  # (t_j, t_k) and (-t_j, -t_k) are equally far apart; so are the two pairs that mix the signs
        potentials = (potentials + _potential(2 + 2 * cosines, kind)) / 2
    return (potentials.sum() / max(len(potentials), 1)).float()


def angles(rows: Tensor) -> tuple[float, float]:
    """Mean and minimum angle over the pairs j < k of ``rows`` (C, D), in degrees; both nan where C < 2."""
    degrees = _cosines(rows.detach()).clamp(-1, 1).acos().rad2deg()
    return (degrees.mean().item(), degrees.min().item()) if len(degrees) else (math.nan, math.nan)


def _cosines(rows: Tensor) -> Tensor:
    """(C (C - 1) / 2,) float64, one for each pair j < k."""
    unit = F.normalize(rows.double(), dim=1)
    first, second = torch.triu_indices(len(rows), len(rows), offset=1, device=rows.device)
    return (unit @ unit.T)[first, second]


def _potential(squared: Tensor, kind: EnergyKind) -> Tensor:
    if kind == "damped":
        return 1 / (1 + squared)
    squared = squared.clamp_min(CLOSEST)
    return -squared.log() if kind == "riesz_0" else squared ** {"riesz_1": -0.5, "riesz_2": -1.0}[kind]
