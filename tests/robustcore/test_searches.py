"""What all of AutoAttack's searches have in common: rows that neither know nor disturb each other."""

import itertools
from typing import Any

import pytest
import torch

from robustcore.attacks.rows import Look
from robustcore.noise import Noise
from tests.robustcore.searches import BALLS, SEARCHES, SHAPE, STEPS, Started, look_at, noise, pixels, walked

every_search = pytest.mark.parametrize(
    ("start", "ball"),
    [
        pytest.param(start, ball, id=f"{name}-{ball.kind}")
        for (name, start), ball in itertools.product(SEARCHES.items(), BALLS)
    ],
)


@every_search
def test_rows_that_join_and_leave_in_the_middle_walk_as_they_do_alone(start: Started, ball: Any) -> None:
    """Rows 0-3 begin, 1 and 3 leave after three looks, 4 and 5 join after five."""
    images, alone = pixels(), []
    for index in range(SHAPE[0]):
        row = torch.tensor([index])
        alone.append(walked(start(ball, images[row], Noise(noise().keys[row])), STEPS))
    search = start(ball, images[:4], Noise(noise().keys[:4]))
    present, walks = [0, 1, 2, 3], [[] for _ in range(SHAPE[0])]
    for turn in range(STEPS + 5):
        if turn == 3:
            search, present = search.at(torch.tensor([0, 2])), [0, 2]
        if turn == 5:
            search, present = search.joined(start(ball, images[4:], Noise(noise().keys[4:]))), [0, 2, 4, 5]
        for row, index in enumerate(present):
            walks[index].append(search.points[row : row + 1])
        search.saw(look_at(search.points))
    for one, other in zip(walks, alone, strict=True):
        for point, expected in zip(one, other, strict=False):
            torch.testing.assert_close(point, expected, atol=1e-6, rtol=0)
    assert [len(walk) for walk in walks] == [17, 3, 17, 3, 12, 12]


@every_search
def test_points_stay_in_the_box_and_all_but_those_of_fab_in_the_ball(start: Started, ball: Any) -> None:
    images = pixels()
    search = start(ball, images, noise())
    points = torch.stack(walked(search, 40))
    assert points.min() >= 0
    assert points.max() <= 1
    farthest = max(float(ball.norm(at - images).max()) for at in points)
    if start is SEARCHES["fab"]:
        assert farthest > 0
    else:
        assert ball.eps / 2 < farthest <= ball.eps * (1 + 1e-5)


@every_search
def test_a_search_counts_its_looks_and_leaves_the_images_alone(start: Started, ball: Any) -> None:
    images = pixels()
    search = start(ball, images, noise())
    walked(search, 4)
    assert search.step.tolist() == [4] * SHAPE[0]
    assert torch.equal(search.images, pixels())
    assert torch.equal(images, pixels())


@every_search
def test_no_search_asks_the_device_for_a_number(start: Started, ball: Any) -> None:
    """Tensors without values raise where anything would wait for one."""
    empty = torch.empty(SHAPE, device="meta")
    search = start(ball, empty, Noise(torch.empty(SHAPE[0], dtype=torch.int64, device="meta")))
    loss = torch.empty(SHAPE[0], device="meta")
    for _ in range(3):
        search.saw(Look(loss, empty, loss > 0))
    assert search.points.shape == SHAPE
