"""FAB: its projection against solvers, and the way to the boundary where that is known."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, linprog
from torch import Tensor

from robustcore.attacks import L2, Linf
from robustcore.attacks.fab import Boundary, to_hyperplane
from robustcore.attacks.rows import Look

COUNT, PIXELS = 40, 12


def problems(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Points (COUNT, 3, 2, 2), normals and what is missing: within reach but for the last five, none for the first."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(COUNT, 3, 2, 2, generator=generator)
    points[: COUNT // 2] = (
        points[: COUNT // 2].round(decimals=0).where(points[: COUNT // 2] > 0.7, points[: COUNT // 2])
    )
    normals = torch.randn(points.shape, generator=generator) * torch.rand(COUNT, 1, 1, 1, generator=generator).exp()
    normals[COUNT // 4 : COUNT // 2, :, 0] = 0
    sign = torch.where(torch.rand(COUNT, generator=generator) < 0.5, -1.0, 1.0)
    reach = (normals.abs() * torch.where(normals * sign.reshape(-1, 1, 1, 1) > 0, 1 - points, points)).sum(
        dim=(1, 2, 3)
    )
    missing = sign * reach * torch.rand(COUNT, generator=generator)
    missing[0], missing[-5:] = 0, (sign * reach)[-5:] * 3
    return points, normals, missing


def by_linprog(point: np.ndarray, normal: np.ndarray, missing: float) -> float:
    """The least t with |d| <= t everywhere: d = up - down."""
    bounds = [(0, 1 - p) for p in point] + [(0, p) for p in point] + [(0, None)]
    eye, ones = np.eye(len(point)), np.ones((len(point), 1))
    solution = linprog(
        [0] * (2 * len(point)) + [1],
        A_ub=np.hstack([eye, eye, -ones]),
        b_ub=np.zeros(len(point)),
        A_eq=[[*normal, *-normal, 0]],
        b_eq=[missing],
        bounds=bounds,
    )
    return float(solution.fun)


def by_root(point: np.ndarray, normal: np.ndarray, missing: float) -> float:
    """Lagrange: d = clip(s * normal) to the box; the s at which it gets there."""

    def offset(s: float) -> Any:
        return np.clip(s * normal, -point, 1 - point)

    s = brentq(lambda s: float(offset(s) @ normal - missing), -1e6, 1e6, xtol=1e-14, maxiter=1000)
    return float(np.linalg.norm(offset(s)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("ball", "solved"), [(Linf(0.1), by_linprog), (L2(0.1), by_root)], ids=["linf", "l2"])
def test_the_projection_is_the_nearest_point_of_hyperplane_and_box(ball: Any, solved: Any, seed: int) -> None:
    points, normals, missing = problems(seed)
    offset = to_hyperplane(points, normals, missing, ball)
    moved = points + offset
    assert moved.min() >= 0
    assert moved.max() <= 1
    reached = (normals * offset).sum(dim=(1, 2, 3))
    torch.testing.assert_close(reached[:-5], missing[:-5], atol=2e-5, rtol=2e-5)
    lengths = ball.norm(offset).flatten().tolist()
    for index in range(1, COUNT - 5):
        point, normal = (t[index].flatten().double().numpy() for t in (points, normals))
        assert lengths[index] == pytest.approx(solved(point, normal, float(missing[index])), rel=1e-4, abs=1e-5)
    assert not offset[0].any()


@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.1)], ids=lambda ball: ball.kind)
def test_a_hyperplane_beyond_the_box_is_approached_as_far_as_the_box_goes(ball: Any) -> None:
    points, normals, missing = (tensor[-5:] for tensor in problems(0))
    corner = torch.where(normals * missing.sign().reshape(-1, 1, 1, 1) > 0, 1 - points, -points)
    offset = to_hyperplane(points, normals, missing, ball)
    torch.testing.assert_close(offset, torch.where(normals == 0, 0, corner))


@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.1)], ids=lambda ball: ball.kind)
def test_without_a_gradient_nothing_moves(ball: Any) -> None:
    points, normals, missing = problems(0)
    assert not to_hyperplane(points, normals * 0, missing, ball).any()


@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.1)], ids=lambda ball: ball.kind)
def test_a_round_boundary_is_met_where_it_is_nearest(ball: Any) -> None:
    """Wrong is what is farther than 0.2 from the middle; the nearest such point is known, and not in the first step."""
    generator = torch.Generator().manual_seed(0)
    images = 0.5 + 0.05 * (torch.rand(8, 3, 1, 1, generator=generator) - 0.5)
    search = Boundary.start(ball, images)
    found = torch.full((8,), torch.inf)
    for _ in range(60):
        offset = search.points - 0.5
        loss = offset.square().sum(dim=(1, 2, 3)) - 0.2**2
        distance = ball.norm(search.points - images).flatten()
        found = torch.where(loss > 0, torch.minimum(found, distance), found)
        search.saw(Look(loss, 2 * offset, loss > 0))
    start = (images - 0.5).flatten(1)
    nearest = 0.2 - start.norm(dim=1) if ball.kind == "l2" else _corner(start)
    assert (found >= nearest - 1e-6).all()
    assert (found <= nearest * 1.08).all()


def _corner(start: Tensor) -> Tensor:
    """The least t at which a corner of the cube of half side t around ``start`` is 0.2 from the middle."""
    a, b, c = 3.0, 2 * start.abs().sum(dim=1), start.square().sum(dim=1) - 0.2**2
    return (-b + (b.square() - 4 * a * c).sqrt()) / (2 * a)
