"""Who is ahead of whom among trials with several objectives, all to be maximised: by violation, front and spread.

The order depends on the values alone, never on who came first, so that a resumed sweep ranks as an undisturbed one.
"""

from bisect import bisect_left, bisect_right
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
    alike = np.flatnonzero(violations == violations[row])
    distinct, inverse, counts = _distinct(points[alike])
    own = int(inverse[np.searchsorted(alike, row)])
    rank = fronts(distinct)
    front = np.flatnonzero(rank == rank[own])
    before = front[_spread(distinct[front], int(np.searchsorted(front, own)))]
    ahead = int((violations < violations[row]).sum() + counts[rank < rank[own]].sum() + counts[before].sum())
    return Place(ahead, leads=bool(rank[own] == 0 and violations[row] == violations.min()))


def are_ahead(row: int, points: Points, violations: NDArray[np.float64]) -> int:
    """How many rows are better beyond dispute: those that violate less, and those that dominate ``row``.

    At most ``place(...).ahead``, and 0 where ``place(...).leads``, at a fraction of its time.
    """
    own, alike = points[row], violations == violations[row]
    dominate = (points >= own).all(axis=1) & (points > own).any(axis=1) & alike
    return int((violations < violations[row]).sum() + dominate.sum())


def _distinct(points: Points) -> tuple[Points, NDArray[np.int64], NDArray[np.int64]]:
    """What ``np.unique`` returns of rows, with their inverse and counts, in a fraction of its time."""
    order = np.lexsort(points.T[::-1])
    is_new = np.ones(len(points), bool)
    is_new[1:] = (points[order[1:]] != points[order[:-1]]).any(axis=1)
    inverse = np.empty(len(points), np.int64)
    inverse[order] = np.cumsum(is_new) - 1
    return points[order[is_new]], inverse, np.bincount(inverse)


def fronts(points: Points) -> NDArray[np.int64]:
    """(n,) front of each of the distinct ``points`` (n, d): 0 dominated by none, 1 by those alone, and so on.

    In descending order no point is dominated by a later one, and whom a front does not dominate the next one does
    not either, so each point finds its front by bisection (Zhang et al. 2015).
    """
    order = np.lexsort(-points.T[::-1])
    rank = np.empty(len(points), np.int64)
    if points.shape[1] == 1:
        rank[order] = np.arange(len(points))
    else:
        rank[order] = (_fronts_of_pairs if points.shape[1] == 2 else _fronts_of_many)(points[order].tolist())
    return rank


def _fronts_of_pairs(descending: list[list[float]]) -> list[int]:
    """The latest of a front is the best of it in the second objective, so that one number stands for all."""
    ranks: list[int] = []
    latest: list[float] = []  # of the second objective, negative: bisection wants it ascending
    for _, second in descending:
        rank = bisect_right(latest, -second)
        latest[rank : rank + 1] = [-second]
        ranks.append(rank)
    return ranks


def _fronts_of_many(descending: list[list[float]]) -> list[int]:
    ranks: list[int] = []
    found: list[list[list[float]]] = []
    for point in descending:
        rank = bisect_left(found, True, key=partial(_does_not_dominate, point=point))
        if rank == len(found):
            found.append([])
        found[rank].append(point)
        ranks.append(rank)
    return ranks


def _does_not_dominate(front: list[list[float]], point: list[float]) -> bool:
    """``front`` in descending order: none is behind the point in the first objective."""
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
