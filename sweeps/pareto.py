"""Front and hypervolume: pure functions of an array whose columns are objectives, all to be maximised."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robustcore.intervals import CONFIDENCE
from sweeps.results.records import TrialRecord
from sweeps.seeds import averaged, interval

Points = NDArray[np.float64]
Objectives = Mapping[str, Literal["max", "min"]]
Feasible = Callable[[dict[str, float]], bool]


def always(_metrics: dict[str, float]) -> bool:
    """The feasibility test of a study without constraints."""
    return True


def front(
    records: Iterable[TrialRecord],
    objectives: Objectives,
    feasible: Feasible = always,
    confidence: float | None = None,
) -> list[TrialRecord]:
    """The finished, feasible, non-dominated trials, ascending in the first objective; repeats count in the means.

    A trial that lacks an objective, or has it NaN or infinite, is left out; so is a duplicate (``copy_of``).
    With ``confidence`` in (0, 1), a trial is dominated only where the other is better beyond the noise of both.
    """
    candidates = [
        record
        for record in averaged(records)
        if record.state == "finished"
        and not record.copy_of
        and all(math.isfinite(record.metrics.get(name, math.nan)) for name in objectives)
        and feasible(record.metrics)
    ]
    points = signed([record.metrics for record in candidates], objectives)
    if confidence is None:
        kept = non_dominated(points)
    else:
        kept = ~clearly_dominated(points, *bounds(candidates, objectives, confidence))
    members = [record for record, is_kept in zip(candidates, kept, strict=True) if is_kept]
    return sorted(members, key=lambda record: ([record.metrics[name] for name in objectives], record.trial))


def contenders(
    records: Iterable[TrialRecord], objectives: Objectives, feasible: Feasible = always, confidence: float = CONFIDENCE
) -> list[TrialRecord]:
    """The front and the runners-up that noise does not separate from it: who is not dominated with ``confidence``."""
    return front(records, objectives, feasible, confidence)


def bounds(records: Sequence[TrialRecord], objectives: Objectives, confidence: float) -> tuple[Points, Points]:
    """Lower and upper ends, signed, both (records, objectives); the value itself where no noise is known."""
    ends: list[list[dict[str, float]]] = [[], []]
    for record in records:
        found = {name: interval(record, name, confidence) for name in objectives}
        for end, side in zip(ends, ("low", "high"), strict=True):
            end.append({n: record.metrics[n] if i is None else getattr(i, side) for n, i in found.items()})
    low, high = (signed(end, objectives) for end in ends)
    return np.minimum(low, high), np.maximum(low, high)


def front_hypervolume(records: Iterable[TrialRecord], objectives: Objectives, feasible: Feasible = always) -> float:
    """The hypervolume of the front against ``reference_point``; 0 for an empty front."""
    records = list(records)
    members = front(records, objectives, feasible)
    points = signed([member.metrics for member in members], objectives)
    return hypervolume(points, reference_point(records, objectives))


def reference_point(records: Iterable[TrialRecord], objectives: Objectives) -> Points:
    """Signed, shape (objectives,): 0 for a maximised objective, the worst value so far for a minimised one.

    Accuracies are shares in [0, 1], so 0 is their natural worst. A minimised objective (a loss, seconds) has
    none: the worst finite value among the finished trials stands in, so it may move while a sweep runs.
    """
    finished = [record.metrics for record in averaged(records) if record.state == "finished"]
    worst = {
        name: max((m[name] for m in finished if math.isfinite(m.get(name, math.nan))), default=0.0)
        for name, direction in objectives.items()
        if direction == "min"
    }
    return np.array([-worst.get(name, 0.0) for name in objectives])


def signed(rows: Sequence[Mapping[str, float]], objectives: Objectives) -> Points:
    """Shape (rows, objectives), minimised objectives negated; a missing metric is NaN."""
    signs = [1.0 if direction == "max" else -1.0 for direction in objectives.values()]
    values = [[row.get(name, math.nan) for name in objectives] for row in rows]
    return np.array(values, dtype=np.float64).reshape(len(rows), len(signs)) * signs


def non_dominated(points: Points) -> NDArray[np.bool_]:
    """Shape (n,): whether no other point is at least as good everywhere and better somewhere.

    Equal points are all kept; a row with a NaN never is, and dominates nothing.
    """
    points = np.asarray(points, dtype=np.float64)
    kept = np.array(~np.isnan(points).any(axis=1))
    # Lexicographic descent: a point can only be dominated by one before it, so each survivor is tested once.
    order = np.lexsort(-points.T[::-1])
    alive = order[kept[order]]
    if points.shape[1] == 2 and len(alive):
        kept[alive] = _climbs(points[alive])
        return kept
    position = 0
    while position < len(alive):
        best = points[alive[position]]
        dominated = (points[alive] <= best).all(axis=1) & (points[alive] < best).any(axis=1)
        kept[alive[dominated]] = False
        alive = alive[~dominated]
        position += 1
    return kept


def _climbs(points: Points) -> NDArray[np.bool_]:
    """Which of pairs in lexicographic descent are non-dominated: who is above all before it, and its equals."""
    rise = np.append(-np.inf, np.maximum.accumulate(points[:-1, 1])) < points[:, 1]
    begins = np.append(True, (points[1:] != points[:-1]).any(axis=1))
    rise[0] = True  # though it may be as low as can be
    first = np.maximum.accumulate(np.where(begins, np.arange(len(points)), 0))
    return np.asarray(rise[first])


def clearly_dominated(points: Points, low: Points, high: Points) -> NDArray[np.bool_]:
    """Shape (n,): whether another point is at least as good everywhere, and somewhere better beyond the noise.

    ``low`` and ``high`` bound the points, all (n, d). A difference is beyond the noise where the interval of a
    difference stays above zero, the two taken as independent (MOVER: Zou & Donner 2008). Measured on the same
    images they are not: of two that agree on most images this says "not clear" more often than it must.
    """
    dominated = np.zeros(len(points), dtype=bool)
    for point, below in zip(points, points - low, strict=True):
        lead = point - points
        dominated |= (lead >= 0).all(axis=1) & (lead > np.hypot(below, high - points)).any(axis=1)
    return dominated


def hypervolume(points: Points, reference: Points) -> float:
    """The volume that is dominated by ``points`` (n, d) and better than ``reference`` (d,), exactly.

    A point that is not better than the reference everywhere counts nothing. The algorithm is that of While,
    Bradstreet and Barone (WFG, 2012): fast for the small fronts of a sweep in any number of objectives.
    """
    points, reference = np.asarray(points, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if points.ndim != 2 or reference.shape != points.shape[1:]:
        raise ValueError(f"expected points (n, d) and a reference (d,), got {points.shape} and {reference.shape}")
    edges = points[(points > reference).all(axis=1)] - reference
    return math.inf if np.isinf(edges).any() else _volume(edges)


def _volume(edges: Points) -> float:
    """The union of the boxes from the origin to each of ``edges`` (n, d), all positive."""
    edges = edges[non_dominated(edges)]
    if edges.shape[1] == 1:
        return float(edges.max(initial=0.0))
    # In ascending order of the last side, all later boxes are at least as deep as this one: what a box shares
    # with them has exactly its own depth, so the rest is a problem of one dimension less.
    edges = edges[np.argsort(edges[:, -1], kind="stable")]
    if edges.shape[1] == 2:
        return float(np.sum(edges[:, 1] * (edges[:, 0] - np.append(edges[1:, 0], 0.0))))
    total = 0.0
    for i, (*face, depth) in enumerate(edges):
        shared = np.minimum(edges[i + 1 :, :-1], face)
        total += float(depth) * (math.prod(face) - _volume(shared))
    return total
