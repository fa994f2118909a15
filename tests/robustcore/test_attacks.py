"""Every attack over every ball: what an attacker may do, what it must find, and what it must leave alone."""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from robustcore.attacks import FGSM, NFGSM, RSFGSM, Attack, Ball, Climber, Linf, Universal
from robustcore.noise import Noise
from robustcore.precision import without_weight_gradients
from robustcore.types import LossAt
from tests.support import members

SHAPE = (6, 3, 5, 5)
EPS = {"linf": 8 / 255, "l2": 0.5}
DISTANCE = {
    "linf": lambda offset: offset.abs().amax(dim=(1, 2, 3)),
    "l2": lambda offset: offset.flatten(1).norm(dim=1),
}
BALLS = [ball(eps=EPS[ball.kind]) for ball in members(Ball)]


def named(attack: type) -> set[str]:
    return {field.name for field in fields(attack)}


def balls(attack: type) -> list[Any]:
    """The balls that an attack is defined on."""
    kinds = {field.name: field.type for field in fields(attack)}.get("ball", ())
    return [ball for ball in BALLS if kinds in (Ball, type(ball))] or [None]


def family() -> Iterator[Any]:
    """Every attack on every ball, with and without a random start where that is a choice."""
    for member in members(Climber):
        for ball in balls(member):
            attack = member(ball=ball) if ball else member()
            label = f"{attack.kind}-{ball.kind}" if ball else attack.kind
            yield pytest.param(attack, id=label)
            if "random_start" in named(member):
                yield pytest.param(replace(attack, random_start=False), id=f"{label}-from-the-image")


def attacked(attack: Any, loss_at: LossAt, images: Tensor, seed: int = 0) -> Tensor:
    result: Tensor = attack(loss_at, images, Noise.of(seed, 0, torch.arange(len(images))))
    return result


def pixels(low: float = 0.0, high: float = 1.0) -> Tensor:
    """Images whose first has pixels at both walls of the box where the box is theirs."""
    images = low + (high - low) * torch.rand(SHAPE, generator=torch.Generator().manual_seed(1))
    images[0, 0], images[0, 1] = low, high
    return images


WEIGHTS = torch.randn(SHAPE[1:], generator=torch.Generator().manual_seed(2))


def linear(images: Tensor) -> Tensor:
    return (images * WEIGHTS).sum(dim=(1, 2, 3))


def bumpy(images: Tensor) -> Tensor:
    return torch.sin(9 * images * WEIGHTS).sum(dim=(1, 2, 3))


def steep(images: Tensor) -> Tensor:
    return torch.exp(3 * images * WEIGHTS.sign()).sum(dim=(1, 2, 3))


def constant(images: Tensor) -> Tensor:
    return (images * 0).sum(dim=(1, 2, 3))


def broken(images: Tensor) -> Tensor:
    return (images * torch.nan).sum(dim=(1, 2, 3))


def reach(attack: Any) -> float:
    """How far from the image an attack may end: eps, and with N-FGSM, by design, its noise beside it."""
    eps: float = attack.ball.eps
    return eps * (1 + attack.noise) if isinstance(attack, NFGSM) else eps


def but(attacks: list[Any], *kinds: type) -> list[Any]:
    return [param for param in attacks if not isinstance(param.values[0], kinds)]


ATTACKS = list(family())
ON_BALLS = [param for param in ATTACKS if hasattr(param.values[0], "ball")]
# These return the point at which their last step ends; all others the best point that they have seen.
LAST_POINT = (FGSM, RSFGSM, NFGSM, Universal)
every_attack = pytest.mark.parametrize("attack", ATTACKS)
every_attack_on_a_ball = pytest.mark.parametrize("attack", ON_BALLS)


@every_attack_on_a_ball
@pytest.mark.parametrize("loss_at", [linear, bumpy, steep, constant])
def test_an_attack_never_leaves_its_ball_or_the_pixel_box(attack: Any, loss_at: LossAt) -> None:
    images = pixels()
    perturbed = attacked(attack, loss_at, images)
    assert (DISTANCE[attack.ball.kind](perturbed - images) <= reach(attack) * (1 + 1e-5)).all()
    assert perturbed.min() >= 0
    assert perturbed.max() <= 1


@pytest.mark.parametrize("attack", but(ATTACKS, *LAST_POINT))
@pytest.mark.parametrize("loss_at", [linear, bumpy, steep, constant])
def test_an_attack_that_keeps_the_best_is_never_worse_than_its_start(attack: Any, loss_at: LossAt) -> None:
    images = pixels()
    noise = Noise.of(0, 0, torch.arange(len(images)))
    start = attack.ball.sample(images, noise) if attack.random_start else images
    assert (loss_at(attack(loss_at, images, noise)) >= loss_at(start)).all()


@pytest.mark.parametrize("attack", but(ON_BALLS, *LAST_POINT))
def test_the_result_is_the_best_of_all_points_the_attack_has_looked_at(attack: Any) -> None:
    """Strides that are long against the ripples of the loss: the last point is rarely the best."""
    looked: list[Tensor] = []

    def rippled(images: Tensor) -> Tensor:
        loss = torch.sin(200 * images * WEIGHTS).sum(dim=(1, 2, 3))
        looked.append(loss.detach())
        return loss

    found = rippled(attacked(attack, rippled, pixels()))
    best = torch.stack(looked[:-1]).max(dim=0).values
    assert torch.equal(found, best)
    assert not torch.equal(found, looked[-2])


def on(kind: str) -> list[Any]:
    """Attacks that get to the optimum of a linear loss: one step from a random start does not."""
    return [param for param in but(ON_BALLS, RSFGSM, NFGSM) if param.values[0].ball.kind == kind]


@pytest.mark.parametrize("attack", on("linf"))
def test_under_linf_a_linear_loss_is_climbed_to_its_corner_of_ball_and_box(attack: Any) -> None:
    images = pixels()
    best = (images + attack.ball.eps * WEIGHTS.sign()).clamp(0, 1)
    torch.testing.assert_close(attacked(attack, linear, images), best, atol=1e-6, rtol=0)


@pytest.mark.parametrize("attack", on("l2"))
def test_under_l2_a_linear_loss_is_climbed_along_its_gradient_to_the_rim(attack: Any) -> None:
    patient = replace(attack, steps=60) if "steps" in named(type(attack)) else attack
    images = pixels(0.45, 0.55)
    small = replace(patient, ball=replace(attack.ball, eps=0.1))  # away from the walls of the box
    best = images + 0.1 * WEIGHTS / WEIGHTS.norm()
    torch.testing.assert_close(
        attacked(small, linear, images), best, atol=1e-4, rtol=0
    )  # the loss is flat to float32 there


# One perturbation for all images of a batch is another one where the batch is another.
@pytest.mark.parametrize("attack", but(ATTACKS, Universal))
def test_the_result_does_not_depend_on_how_images_are_batched(attack: Any) -> None:
    images, noise = pixels(), Noise.of(3, 1, torch.arange(100, 100 + SHAPE[0]))
    together = attack(bumpy, images, noise)
    apart = [attack(bumpy, images[part], Noise(noise.keys[part])) for part in (slice(0, 1), slice(1, 4), slice(4, 6))]
    assert torch.equal(together, torch.cat(apart))


@every_attack
def test_one_seed_gives_one_result_and_another_seed_another_random_start(attack: Any) -> None:
    images = pixels()
    assert torch.equal(attacked(attack, bumpy, images), attacked(attack, bumpy, images))
    moved = not torch.equal(attacked(attack, bumpy, images), attacked(attack, bumpy, images, seed=1))
    assert moved == attack.random_start


@every_attack_on_a_ball
def test_a_ball_of_radius_zero_holds_the_image_alone(attack: Any) -> None:
    images = pixels()
    assert torch.equal(attacked(replace(attack, ball=replace(attack.ball, eps=0)), bumpy, images), images)


@every_attack
def test_a_loss_that_is_not_a_number_does_not_stop_an_attack(attack: Any) -> None:
    assert attacked(attack, broken, pixels()).shape == SHAPE


@pytest.mark.parametrize("attack", but(ATTACKS, Universal))  # the mean over a batch with a NaN in it is NaN
def test_one_broken_image_does_not_spoil_the_others(attack: Any) -> None:
    images = pixels()

    def partly_broken(perturbed: Tensor) -> Tensor:
        return torch.cat([broken(perturbed[:1]), bumpy(perturbed[1:])])

    assert torch.equal(attacked(attack, partly_broken, images)[1:], attacked(attack, bumpy, images)[1:])


@pytest.mark.parametrize("attack", but(ATTACKS, *LAST_POINT))
def test_an_attack_that_keeps_the_best_returns_pixels_even_where_no_loss_is_a_number(attack: Any) -> None:
    assert torch.equal(attacked(attack, broken, pixels()), pixels())


@every_attack
def test_no_attack_asks_the_device_for_a_number_while_it_runs(attack: Any) -> None:
    """Tensors without values raise where anything would wait for one: ``.item()``, ``if tensor``, a boolean index."""
    images = torch.empty(SHAPE, device="meta")
    noise = Noise(torch.empty(SHAPE[0], dtype=torch.int64, device="meta"))
    assert attack(lambda at: at.square().sum(dim=(1, 2, 3)), images, noise).shape == SHAPE


@every_attack
def test_an_attack_leaves_no_gradient_on_weights_and_no_graph_on_its_result(attack: Any) -> None:
    encoder = nn.Linear(SHAPE[1] * SHAPE[2] * SHAPE[3], 4)
    images = pixels()
    perturbed = attacked(attack, lambda at: encoder(at.flatten(1)).square().sum(dim=1), images)
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert not perturbed.requires_grad
    assert not images.requires_grad


@every_attack
def test_an_attack_leaves_the_images_it_is_given_as_they_are(attack: Any) -> None:
    images = pixels()
    before = images.clone()
    attacked(attack, bumpy, images)
    assert torch.equal(images, before)


@every_attack
def test_an_attack_also_climbs_where_gradients_are_switched_off(attack: Any) -> None:
    with torch.no_grad():
        perturbed = attacked(attack, bumpy, pixels())
    assert torch.equal(perturbed, attacked(attack, bumpy, pixels()))


@every_attack
def test_an_attack_takes_as_many_gradients_as_it_says(attack: Any) -> None:
    taken = 0

    def counting(perturbed: Tensor) -> Tensor:
        nonlocal taken
        taken += perturbed.requires_grad
        return bumpy(perturbed)

    attacked(attack, counting, pixels())
    assert taken == attack.gradients


@every_attack
def test_an_attack_of_no_images_is_no_images(attack: Any) -> None:
    assert attacked(attack, bumpy, pixels()[:0]).shape == (0, *SHAPE[1:])


@pytest.mark.parametrize("attack", but(ON_BALLS, Universal))
def test_an_attack_of_its_kind_alone_is_ready_to_use_and_says_what_it_climbs(attack: Any) -> None:
    """Fields beside the ball have defaults, and what is climbed is the loop's choice until it is named."""
    assert attack.climb is None
    assert replace(attack, climb="embedding").climb == "embedding"
    with pytest.raises(ValueError, match="climb"):
        replace(attack, climb="entropy")


def test_rs_fgsm_is_one_long_step_from_its_random_start_back_into_the_ball() -> None:
    for ball in BALLS:
        attack = RSFGSM(ball=ball)
        images, noise = pixels(), Noise.of(0, 0, torch.arange(SHAPE[0]))
        step = 1.25 * ball.eps * ball.steepest(WEIGHTS.expand(SHAPE))
        assert torch.equal(attack(linear, images, noise), ball.project(ball.sample(images, noise) + step, images))


def test_n_fgsm_steps_from_noise_of_twice_its_eps_and_is_not_clipped_back() -> None:
    attack, images = NFGSM(ball=Linf(0.05)), torch.full((4000, 3, 1, 1), 0.5)
    weights = torch.tensor([1.0, -1.0, 2.0]).reshape(3, 1, 1)
    offset = attacked(attack, lambda at: (at * weights).sum(dim=(1, 2, 3)), images) - images
    noise = offset - 0.05 * weights.sign()  # what is left without the step: uniform in +-0.1
    assert 0.0999 < noise.abs().max() <= 0.1 + 1e-6
    assert noise.mean().abs() < 1e-3
    assert noise.std() == pytest.approx(0.1 / 3**0.5, rel=0.02)
    assert (offset.abs() > 0.05).float().mean() > 0.3  # beyond eps
    assert 0.149 < offset.abs().max() <= 0.15 + 1e-6  # and within 3 eps


def test_n_fgsm_takes_its_gradient_at_the_noisy_image_within_the_box() -> None:
    seen: list[Tensor] = []

    def watched(images: Tensor) -> Tensor:
        seen.append(images.detach())
        return linear(images)

    images = pixels()
    found = attacked(NFGSM(ball=Linf(0.1)), watched, images)
    (noisy,) = seen
    assert 0.1 < (noisy - images).abs().max() <= 0.2 + 1e-6
    assert (noisy.min(), noisy.max()) == (0, 1)
    torch.testing.assert_close(found, (noisy + 0.1 * WEIGHTS.sign()).clamp(0, 1), atol=1e-7, rtol=0)


def test_n_fgsm_is_not_defined_under_l2() -> None:
    with pytest.raises(ValueError, match=r"ball\.kind\n  Input should be 'linf'"):
        TypeAdapter(Attack).validate_python({"kind": "n_fgsm", "ball": {"kind": "l2", "eps": 1}})


def test_what_leaves_the_ball_or_hangs_on_the_batch_is_for_training_alone() -> None:
    assert {member.kind for member in members(Climber) if member.training_only} == {"n_fgsm", "universal"}


@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: ball.kind)
def test_random_starts_fill_the_ball(ball: Any) -> None:
    """Uniform in the ball: of the radius, the share t**d lies within t; d is the dimension where it is Euclidean."""
    images = torch.full((4000, 3, 1, 1), 0.5)
    small = replace(ball, eps=0.2)
    offset = small.sample(images, Noise.of(0, 0, torch.arange(len(images)))) - images
    radius = DISTANCE[ball.kind](offset) / 0.2
    for share in (0.5, 0.8, 0.9):
        assert (radius <= share).float().mean().item() == pytest.approx(share**3, abs=0.03)
    assert offset.mean(dim=0).abs().max() < 0.01


@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: ball.kind)
def test_a_projection_is_the_nearest_point_or_nothing_at_all_for_a_point_inside(ball: Any) -> None:
    images = pixels(0.4, 0.6)
    direction = ball.steepest(WEIGHTS.expand(SHAPE))
    inside, outside = images + 0.01 * direction, images + 3 * 0.05 * direction
    small = replace(ball, eps=0.05)
    torch.testing.assert_close(small.project(inside, images), inside)
    torch.testing.assert_close(small.project(outside, images), images + 0.05 * direction)


@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: ball.kind)
def test_the_steepest_direction_has_norm_one_and_none_climbs_faster(ball: Any) -> None:
    gradient = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
    direction = ball.steepest(gradient)
    torch.testing.assert_close(DISTANCE[ball.kind](direction), torch.ones(len(gradient)))
    climb = (gradient * direction).sum(dim=(1, 2, 3))
    for seed in range(50):
        other = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))
        other = other / DISTANCE[ball.kind](other).reshape(-1, 1, 1, 1)
        assert ((gradient * other).sum(dim=(1, 2, 3)) <= climb * (1 + 1e-6)).all()  # seed 3 is the gradient itself
    assert not ball.steepest(torch.zeros(SHAPE)).any()


@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: ball.kind)
@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e30])
def test_the_steepest_direction_does_not_shrink_with_a_vanishing_gradient(ball: Any, scale: float) -> None:
    """An attack that stalls where gradients are tiny makes a model look robust."""
    gradient = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(ball.steepest(gradient * scale), ball.steepest(gradient))


def test_weights_get_their_gradients_back_after_an_attack_even_one_that_fails() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[1].requires_grad_(False)
    before = [parameter.requires_grad for parameter in module.parameters()]

    def failing_attack() -> None:
        with without_weight_gradients(module):
            assert not any(parameter.requires_grad for parameter in module.parameters())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing_attack()
    assert [parameter.requires_grad for parameter in module.parameters()] == before


def test_an_eps_in_steps_of_255_is_refused_with_the_quotient_that_was_meant() -> None:
    with pytest.raises(ValueError, match=r"cannot exceed 1, got 4; did you mean 4/255\?"):
        Linf(4)
