"""One perturbation for all images: what a batch does to it, and that it can be carried from batch to batch."""

from typing import Any

import pytest
import torch
from torch import Tensor

from robustcore.attacks import FGSM, L2, Ball, Linf, Universal
from robustcore.noise import Noise
from tests.support import members

EPS = {"linf": 0.05, "l2": 0.3}
every_ball = pytest.mark.parametrize("ball", [ball(eps=EPS[ball.kind]) for ball in members(Ball)], ids=lambda b: b.kind)
LENGTH = {"linf": lambda delta: delta.abs().max(), "l2": lambda delta: delta.norm()}
IMAGES = 0.3 + 0.4 * torch.rand(8, 3, 5, 5, generator=torch.Generator().manual_seed(0))
NOISE = Noise.of(0, 0, torch.arange(8))
# The images pull in different directions: what is best for their mean is best for none of them.
WEIGHTS = torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(1))


def pulling(images: Tensor) -> Tensor:
    return (images * WEIGHTS[: len(images)]).sum(dim=(1, 2, 3))


@every_ball
def test_every_image_moves_by_the_same_delta(ball: Any) -> None:
    moved = Universal(ball=ball)(pulling, IMAGES, NOISE) - IMAGES
    torch.testing.assert_close(moved, moved[:1].expand_as(moved), atol=1e-6, rtol=0)
    assert LENGTH[ball.kind](moved[0]).item() == pytest.approx(ball.eps, rel=1e-4)


@every_ball
def test_of_a_linear_loss_it_finds_the_delta_that_is_best_for_the_mean(ball: Any) -> None:
    found = Universal(ball=ball)(pulling, IMAGES, NOISE)
    best = IMAGES + ball.eps * ball.steepest(WEIGHTS.mean(dim=0, keepdim=True))
    torch.testing.assert_close(found, best, atol=1e-6, rtol=0)


@every_ball
def test_of_one_image_it_is_fgsm(ball: Any) -> None:
    one = IMAGES[:1], Noise(NOISE.keys[:1])
    torch.testing.assert_close(Universal(ball=ball)(pulling, *one), FGSM(ball=ball)(pulling, *one))


@every_ball
def test_a_call_is_its_steps_made_one_by_one_from_zero(ball: Any) -> None:
    """What the training loop does with the parts, delta kept in its hands."""
    attack = Universal(ball=ball, steps=3, stride=0.4)

    def curved(images: Tensor) -> Tensor:
        return torch.sin(7 * images * WEIGHTS).sum(dim=(1, 2, 3))

    delta = attack.start(IMAGES)
    assert delta.shape == IMAGES.shape[1:]
    assert not delta.any()
    for _ in range(3):
        delta = attack.ascend(delta, attack.gradient(curved, IMAGES, delta))
    assert torch.equal(attack(curved, IMAGES, NOISE), attack.apply(IMAGES, delta))


@every_ball
def test_delta_stays_in_the_ball_however_often_it_ascends(ball: Any) -> None:
    attack = Universal(ball=ball, stride=0.7)
    delta = attack.start(IMAGES)
    for seed in range(20):
        delta = attack.ascend(delta, torch.randn(delta.shape, generator=torch.Generator().manual_seed(seed)))
        assert LENGTH[ball.kind](delta) <= ball.eps * (1 + 1e-6)


@every_ball
def test_the_gradients_of_the_workers_add_up_to_that_of_the_batch(ball: Any) -> None:
    attack = Universal(ball=ball)
    delta = attack.ascend(attack.start(IMAGES), WEIGHTS[0])

    def loss_at(images: Tensor) -> Tensor:
        return torch.exp(images).sum(dim=(1, 2, 3))

    parts = [attack.gradient(loss_at, IMAGES[part], delta) for part in (slice(0, 3), slice(3, 8))]
    torch.testing.assert_close(sum(parts), attack.gradient(loss_at, IMAGES, delta))


def test_the_length_of_a_gradient_does_not_matter() -> None:
    for ball in (Linf(0.05), L2(0.3)):
        attack = Universal(ball=ball, stride=0.5)
        start = attack.start(IMAGES)
        torch.testing.assert_close(attack.ascend(start, WEIGHTS[0] / 8), attack.ascend(start, WEIGHTS[0]))


def test_a_pixel_that_the_box_clips_in_every_image_finds_its_way_back() -> None:
    """Digits have a black background: below it, the pixel does nothing, and the true gradient of that is zero."""
    attack, black = Universal(ball=Linf(0.1)), torch.zeros(4, 3, 2, 2)
    delta = attack.ascend(attack.start(black), -torch.ones(3, 2, 2))
    assert torch.equal(attack.apply(black, delta), black)
    delta = attack.ascend(delta, attack.gradient(lambda at: at.sum(dim=(1, 2, 3)), black, delta))
    assert not delta.any()  # up again by a whole step


def test_an_ascent_leaves_delta_and_gradient_as_they_are() -> None:
    attack, delta, gradient = Universal(ball=Linf(0.05)), torch.zeros(3, 5, 5), WEIGHTS[0].clone()
    attack.ascend(delta, gradient)
    assert not delta.any()
    assert torch.equal(gradient, WEIGHTS[0])
