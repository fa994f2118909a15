"""The order of ``sweeps.ranking`` once more, from its definition and without any cleverness."""

from collections.abc import Sequence

Point = Sequence[float]


def dominates(one: Point, other: Point) -> bool:
    return all(a >= b for a, b in zip(one, other, strict=True)) and list(one) != list(other)


def order(points: Sequence[Point], violations: Sequence[float]) -> list[list[int]]:
    """Rows from best to worst; equal rows together."""
    groups = []
    for violation in sorted(set(violations)):
        left = {tuple(p) for p, v in zip(points, violations, strict=True) if v == violation}
        while left:
            front = {one for one in left if not any(dominates(other, one) for other in left)}
            groups += [(violation, point) for point in net(front)]
            left -= front
    rows = [(v, tuple(p)) for p, v in zip(points, violations, strict=True)]
    return [[row for row, known in enumerate(rows) if known == group] for group in groups]


def net(front: set[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """The best in the first objective, then always the one that is farthest from all before."""
    extents = [max(axis) - min(axis) or 1 for axis in zip(*front, strict=True)]

    def distance(one: Point, other: Point) -> float:
        shares = ((a - b) / extent for a, b, extent in zip(one, other, extents, strict=True))
        return round(sum(share**2 for share in shares) ** 0.5, 9)

    found = [max(front)]
    while len(found) < len(front):
        found.append(min(front - set(found), key=lambda p: (-min(distance(p, known) for known in found), p)))
    return found


def ahead(row: int, points: Sequence[Point], violations: Sequence[float]) -> int:
    """How many rows come before ``row`` and those that equal it."""
    count = 0
    for equals in order(points, violations):
        if row in equals:
            return count
        count += len(equals)
    raise AssertionError("every row has a place")


def leads(row: int, points: Sequence[Point], violations: Sequence[float]) -> bool:
    """Whether no row has a smaller violation, or the same one and dominates."""
    return not any(
        v < violations[row] or (v == violations[row] and dominates(p, points[row]))
        for p, v in zip(points, violations, strict=True)
    )
