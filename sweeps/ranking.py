"""Who is ahead of whom among trials with several objectives, all to be maximised: by violation, front and spread.

The order depends on the values alone, never on who came first, so that a resumed sweep ranks as an undisturbed one.
"""

from bisect import bisect_left
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sweeps.pareto import Points


class Place(NamedTuple):
    """``ahead`` counts the rows before this one; ``leads`` where no row is better in every way."""

    ahead: int
    leads: bool


def place(row: int, points: Points, violations: NDArray[np.float64]) -> Place:
    """Where ``row`` stands among ``points`` (n, d), whose constraints are missed by ``violations`` (n,), 0 or more.

    A smaller violation comes first (constrained domination: Deb et al. 2002), then an earlier front; inside a front,
    those come first that cover it (epsilon-net: Salinas et al. 2021), distances in shares of the front's own extent.
    Equal rows share the best of their places.
    """
    alike = violations == violations[row]
    distinct, inverse, counts = np.unique(
        np.vstack([points[row], points[alike]]), axis=0, return_inverse=True, return_counts=True
    )
    own = int(inverse.flat[0])
    counts[own] -= 1  # it stands twice in the stack
    rank = fronts(distinct)
    front = np.flatnonzero(rank == rank[own])
    before = front[_spread(distinct[front], int(np.searchsorted(front, own)))]
    ahead = int((violations < violations[row]).sum() + counts[rank < rank[own]].sum() + counts[before].sum())
    return Place(ahead, leads=bool(rank[own] == 0 and violations[row] == violations.min()))


def fronts(points: Points) -> NDArray[np.int64]:
    """(n,) front of each of the distinct ``points`` (n, d): 0 dominated by none, 1 by those alone, and so on.

    In descending order no point is dominated by a later one, and whom a front does not dominate the next one does
    not either, so each point finds its front by bisection (Zhang et al. 2015).
    """
    rank = np.empty(len(points), np.int64)
    found: list[list[tuple[float, ...]]] = []
    for row in np.lexsort(-points.T[::-1]):
        point = tuple(points[row])
        rank[row] = bisect_left(found, True, key=partial(_does_not_dominate, point=point))
        if rank[row] == len(found):
            found.append([])
        found[rank[row]].append(point)
    return rank


def _does_not_dominate(front: list[tuple[float, ...]], point: tuple[float, ...]) -> bool:
    """``front`` in the descending order of ``fronts``: none is behind the point in the first objective."""
    if len(point) <= 2:  # the latest is then the best in what is left
        return front[-1][1:] < point[1:]
    return not bool((np.array(front)[:, 1:] >= point[1:]).all(axis=1).any())


def _spread(front: Points, own: int) -> list[int]:
    """The rows before ``own`` in farthest-first order, from the best in the first objective."""
    extent = np.ptp(front, axis=0)
    scaled = front / np.where(extent > 0, extent, 1)
    order: list[int] = []
    row, distance = int(np.lexsort(front.T[::-1])[-1]), np.full(len(front), np.inf)
    while row != own:
        order.append(row)
        distance = np.minimum(distance, np.linalg.norm(scaled - scaled[row], axis=1))
        distance[row] = -1
        row = int(distance.argmax())
    return order
