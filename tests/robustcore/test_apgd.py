"""Auto-PGD against another library's, on real digits and a trained encoder, and its rule step by step."""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from art.attacks.evasion import AutoProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from robustcore.attacks import APGD, L2, PGD, Linf
from robustcore.attacks.apgd import Pace, checkpoints
from robustcore.data import Digits, Pixels
from robustcore.data.images import as_pixels
from robustcore.losses.classifiers import ZeroShot
from robustcore.losses.dlr import dlr
from robustcore.losses.reference import Reference, cross_entropy
from robustcore.models import Clip
from robustcore.noise import Noise
from robustcore.types import Embeddings, Logits, PerImage

LOSSES: dict[str, Callable[[Embeddings, Reference], PerImage]] = {
    "cross_entropy": cross_entropy,
    "difference_logits_ratio": dlr,
}


class ZeroShotDigits(nn.Module):
    """The shipped CLIP and its zero-shot classifier over the 400 test digits."""

    def __init__(self) -> None:
        super().__init__()
        clip, digits = Clip(weights="digits").load(), Digits("test").open()
        self.encoder = clip.encoder.requires_grad_(False)
        self.classifier = ZeroShot(clip.classifier_rows(digits.classes, ("a photo of a {}.",)), clip.scale)
        self.images = as_pixels(Pixels(digits, clip.preprocessing).at(np.arange(400)), torch.device("cpu"))
        self.labels = torch.from_numpy(digits.labels)
        self.reference = Reference(self.labels, classifier=self.classifier)

    def forward(self, images: Tensor) -> Logits:
        return self.classifier(self.encoder(images))

    @torch.no_grad()
    def right(self, images: Tensor) -> Tensor:
        return self(images).argmax(dim=1) == self.labels

    def loss_at(self, loss: str) -> Callable[[Tensor], PerImage]:
        return lambda images: LOSSES[loss](self.encoder(images), self.reference)


@cache
def digits() -> ZeroShotDigits:
    return ZeroShotDigits()


def found(attack: Any, loss: str) -> Tensor:
    model = digits()
    result: Tensor = attack(model.loss_at(loss), model.images, Noise.of(0, 0, torch.arange(400)))
    return result


def theirs(ball: Any, loss: str, steps: int) -> tuple[Tensor, Tensor]:
    """What the Adversarial Robustness Toolbox finds: images, and the best loss of each that was right."""
    model = digits()
    np.random.seed(0)  # the library draws its starts from there
    attack = AutoProjectedGradientDescent(
        PyTorchClassifier(model, nn.CrossEntropyLoss(), (3, 16, 16), 10, clip_values=(0, 1), device_type="cpu"),
        norm={"linf": np.inf, "l2": 2}[ball.kind],
        eps=ball.eps,
        eps_step=2 * ball.eps,
        max_iter=steps,
        nb_random_init=1,
        batch_size=400,
        loss_type=loss,
        verbose=False,
    )
    images = torch.from_numpy(attack.generate(model.images.numpy(), model.labels.numpy()))
    return images, torch.from_numpy(attack.f_max)


@pytest.mark.parametrize("ball", [Linf(8 / 255), L2(0.5)], ids=lambda ball: ball.kind)
@pytest.mark.parametrize("loss", LOSSES)
def test_it_is_as_strong_as_an_independent_implementation_on_a_trained_model(ball: Any, loss: str) -> None:
    model, mine = digits(), found(APGD(ball=ball, steps=10), loss)
    images, best = theirs(ball, loss, steps=10)
    survivors = int(model.right(mine).sum())
    assert 200 < survivors < 300  # of 390: neither attack is trivially perfect or powerless
    assert abs(survivors - int(model.right(images).sum())) <= 2  # 0.5 points of 400
    with torch.no_grad():
        reached = model.loss_at(loss)(mine)[model.right(model.images)]
    # DLR has no upper bound where the three largest logits are alike; beyond 1 no image counts more.
    assert reached.clamp_max(1).mean().item() == pytest.approx(best.clamp_max(1).mean().item(), abs=0.01)


def test_it_finds_more_the_more_steps_it_has_and_more_than_pgd_with_as_many() -> None:
    loss_at = digits().loss_at("cross_entropy")

    def reached(attack: Any) -> float:
        with torch.no_grad():
            return loss_at(found(attack, "cross_entropy")).mean().item()

    by_steps = [reached(APGD(ball=Linf(8 / 255), steps=steps)) for steps in (1, 2, 4, 10)]
    assert by_steps == sorted(by_steps)
    assert by_steps[-1] > reached(PGD(ball=Linf(8 / 255), steps=10))


SHAPE = (12, 3, 4, 4)
IMAGES = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
WAVES = 3 * torch.randn(SHAPE[1:], generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def wavy(images: Tensor) -> Tensor:
    """Many local maxima, so that some images get stuck at each checkpoint and others do not."""
    return torch.sin(8 * images * WAVES).sum(dim=(1, 2, 3)) + 2 * torch.cos(20 * images).sum(dim=(1, 2, 3))


def by_hand(image: Tensor, ball: Any, steps: int) -> tuple[Tensor, list[bool]]:
    """Algorithm 1 of the paper for one image (1, 3, H, W), and at which checkpoints it restarted from its best."""

    def climbed(x: Tensor, eta: float) -> Tensor:
        gradient = torch.autograd.functional.jacobian(wavy, x)[0]
        return ball.project(x + eta * ball.steepest(gradient), image)

    eta = 2 * ball.eps
    points = [image, climbed(image, eta)]
    values = [wavy(point).item() for point in points]
    best_value, best_point = max(zip(values, points, strict=True), key=lambda pair: pair[0])
    last, best_then, rises, halved = 0, values[0], int(values[1] > values[0]), []
    shares = [Fraction(0), Fraction(22, 100)]
    for k in range(1, steps):
        if k == math.ceil(shares[-1] * steps):
            too_few = rises < 0.75 * (k - last)
            same = not (halved and halved[-1]) and best_value == best_then
            halved.append(too_few or same)
            if halved[-1]:
                eta, points[k], values[k] = eta / 2, best_point, best_value
            last, best_then, rises = k, best_value, 0
        while k >= math.ceil(shares[-1] * steps):
            shares.append(shares[-1] + max(shares[-1] - shares[-2] - Fraction(3, 100), Fraction(6, 100)))
        x = points[k]
        z = climbed(x, eta)
        points.append(ball.project(x + 0.75 * (z - x) + 0.25 * (x - points[k - 1]), image))
        values.append(wavy(points[-1]).item())
        rises += values[-1] > values[k]
        if values[-1] > best_value:
            best_value, best_point = values[-1], points[-1]
    return best_point, halved


@pytest.mark.parametrize("ball", [Linf(0.2), L2(1.5)], ids=lambda ball: ball.kind)
@pytest.mark.parametrize("steps", [1, 2, 7, 10, 40, 100])
def test_a_batch_takes_the_steps_that_the_paper_describes_for_each_image_alone(ball: Any, steps: int) -> None:
    batch = APGD(ball=ball, steps=steps, random_start=False)(wavy, IMAGES, Noise.of(0, 0, torch.arange(len(IMAGES))))
    alone = [by_hand(IMAGES[index : index + 1], ball, steps) for index in range(len(IMAGES))]
    torch.testing.assert_close(batch, torch.cat([point for point, _ in alone]), atol=1e-5, rtol=0)
    if steps >= 10:  # some images restart where others do not
        assert any(0 < sum(at_once) < len(alone) for at_once in zip(*(halved for _, halved in alone), strict=True))


def test_checkpoints_come_at_22_percent_and_then_sooner_and_sooner() -> None:
    assert list(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert list(checkpoints(100).values()) == [22, 19, 16, 13, 10, 7, 6, 6]
    assert list(checkpoints(10)) == [3, 5, 6, 7, 8, 9]
    assert list(checkpoints(2)) == [1]
    assert not checkpoints(1)


@pytest.mark.parametrize("steps", [3, 10, 17, 1000])
def test_the_gaps_between_checkpoints_add_up(steps: int) -> None:
    gaps = checkpoints(steps)
    assert list(np.cumsum(list(gaps.values()))) == list(gaps)
    assert all(0 < step < steps for step in gaps)


@pytest.mark.parametrize(
    ("checks", "strides"),
    [
        ([[1, 2, 3, 4], [5, 6, 7, 8]], [1, 1]),  # climbs: goes on as it was
        ([[-1, 1, 2, 3], [4, 5, 6, 5.5]], [1, 1]),  # three of four rose: enough
        ([[1, 0, 2, 1], [3, 2, 4, 3]], [0.5, 0.25]),  # two of four rose, though to a new best
        ([[1, 2, 3, 4], [-9, -8, -7, -6]], [1, 0.5]),  # three rose, to no new best at an unchanged stride
        ([[-9, -8, -7, -6], [-9, -8, -7, -6], [-9, -8, -7, -6]], [0.5, 0.5, 0.25]),  # a new stride gets its chance
        ([[1, 2, 1, 0], [1.5, 3, 4, 5]], [0.5, 0.5]),  # 1.5 is no rise from the best, 2, where it went on; three are
        ([[1, 2, 1, 0], [1.5, 1.6, 1.5, 3]], [0.5, 0.25]),  # and of these only two
        ([[torch.nan] * 4, [1, 2, 3, 4]], [0.5, 0.5]),  # what is not a number has not risen
    ],
)
def test_the_stride_is_halved_where_too_few_steps_rose_or_nothing_has_changed(
    checks: list[list[float]], strides: list[float]
) -> None:
    """A start at loss 0 and the four losses up to each checkpoint; the stride after each."""
    pace, best = Pace.start(1, torch.zeros(1)), torch.zeros(1)
    for losses, stride in zip(checks, strides, strict=True):
        for loss in losses:
            pace.saw(torch.tensor([loss]), first=torch.tensor([False]))
            best = best.fmax(torch.tensor([loss]))
        before = pace.stride.item()
        assert pace.halve(best, gap=torch.tensor([4])).item() == (stride < before)
        assert pace.stride.item() == stride
