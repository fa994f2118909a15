"""Square: its schedule, its squares and its bumps against the paper's words, and its strength against another one."""

import numpy as np
import pytest
import torch

from robustcore.attacks import L2, Linf
from robustcore.attacks.rows import Look
from robustcore.attacks.square import Squares, bump
from robustcore.noise import Noise

SIZE = 16


def searching(ball: Linf | L2, count: int = 40) -> Squares:
    images = torch.full((count, 3, SIZE, SIZE), 0.5)
    return Squares.start(ball, images, Noise.of(0, 0, torch.arange(count)))


def changed(search: Squares) -> torch.Tensor:
    """(B, H, W) bool: where the next point is another one than the best, in any channel."""
    return (search.points != search.best.images).any(dim=1)


def worse(search: Squares) -> Look:
    return Look(search.best.loss - 1)


def test_a_square_is_one_square_of_one_side_a_channel_on_the_rim_of_the_ball() -> None:
    search = searching(Linf(0.1))
    search.saw(Look(torch.zeros(40)))
    corners = set()
    for _ in range(60):
        for points, where in zip(search.points, changed(search), strict=True):
            rows, columns = where.nonzero(as_tuple=True)
            if len(rows):  # the stripes may have been there already
                corners.add((int(rows.min()), int(columns.min())))
                assert max(int(rows.max() - rows.min()), int(columns.max() - columns.min())) < 14
            torch.testing.assert_close((points - 0.5).abs(), torch.full_like(points, 0.1))
        search.saw(worse(search))
    assert (0, 0) in corners
    assert max(max(corner) for corner in corners) > 8


def test_squares_reach_every_pixel() -> None:
    search = searching(Linf(0.1))
    search.saw(Look(torch.zeros(40)))
    search.step = search.step + 5000  # squares of one pixel
    seen = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    for _ in range(120):
        search.saw(worse(search))
        where = changed(search)
        assert where.sum(dim=(1, 2)).max() <= 1
        seen |= where.any(dim=0)
    assert seen.all()


@pytest.mark.parametrize(
    ("after", "share"),
    [(0, 0.8), (10, 0.8), (11, 0.4), (50, 0.4), (51, 0.2), (201, 0.1), (501, 0.05), (1001, 0.025), (4001, 0.00625)],
)
def test_squares_shrink_by_the_paper_s_schedule(after: int, share: float) -> None:
    search = searching(Linf(0.1), 400)
    search.saw(Look(torch.zeros(400)))
    search.step = search.step + after - 1
    search.saw(worse(search))
    rows = changed(search).any(dim=2).sum(dim=1)
    assert rows.max() == max(round((share * SIZE**2) ** 0.5), 1)


def test_only_what_rises_is_kept() -> None:
    search = searching(Linf(0.1), 3)
    search.saw(Look(torch.zeros(3)))
    first, second = search.best.images, search.points
    search.saw(Look(torch.tensor([1.0, 0.0, -1.0])))
    expected = torch.where(torch.tensor([True, False, False]).reshape(-1, 1, 1, 1), second, first)
    assert torch.equal(search.best.images, expected)
    assert search.best.loss.tolist() == [1, 0, 0]


def bump_by_hand(side: int) -> np.ndarray:
    """Nested rectangles around the middle of each half, the k-th adding 1 / k**2; the lower half is negative."""

    def hill(height: int, width: int) -> np.ndarray:
        values = np.zeros((height, width))
        for k in range(max(height // 2, width // 2) + 1):
            rows = slice(max(height // 2 - k, 0), height // 2 + k + 1)
            columns = slice(max(width // 2 - k, 0), width // 2 + k + 1)
            values[rows, columns] += 1 / (k + 1) ** 2
        return values / np.linalg.norm(values)

    both = np.vstack([hill(side // 2, side), -hill(side - side // 2, side)])
    return both / np.linalg.norm(both)


@pytest.mark.parametrize("side", [2, 3, 5, 8, 15])
def test_a_bump_is_two_hills_of_nested_rectangles(side: int) -> None:
    np.testing.assert_allclose(bump(side).numpy(), bump_by_hand(side), atol=1e-6)


@pytest.mark.parametrize("size", [4, 5, 16])
def test_under_l2_the_whole_ball_is_used_at_every_step(size: int) -> None:
    ball, images = L2(0.1), torch.full((5, 3, size, size), 0.5)
    search = Squares.start(ball, images, Noise.of(0, 0, torch.arange(5)))
    for step in range(30):
        torch.testing.assert_close(ball.norm(search.points - images).flatten(), torch.full((5,), 0.1))
        search.saw(Look(torch.full((5,), float(step % 3))))
