"""AutoAttack: what it may be asked for, and verdicts that are known, repeat, and hang on nothing but the image."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from robustcore.attacks import L2, Attack, AutoAttack, Linf
from robustcore.attacks.autoattack import TARGETED, Stage
from robustcore.evaluation.autoattack import Verdict, Victim, withstand
from robustcore.losses import Probe
from robustcore.models import Encoder
from robustcore.noise import Noise

COUNT, CLASSES, PIXELS = 24, 5, 3 * 4 * 4
SMALL = {"steps": 12, "queries": 60, "targets": 3}
BALLS = [Linf(0.06), L2(0.25)]


class Curved(nn.Module):
    """Two layers between pixels and embedding: attacks meet different fates, and none has a closed form."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Parameter(torch.randn(PIXELS, 16, generator=generator) / 4)
        self.second = nn.Parameter(torch.randn(16, CLASSES, generator=generator))

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1) @ self.first).tanh() @ self.second


CURVED = Encoder(Curved(), (0.5,) * 3, (1,) * 3)
IDENTITY = Probe(torch.eye(CLASSES), torch.zeros(CLASSES))
IMAGES = torch.rand(COUNT, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def victim(encoder: Encoder = CURVED, images: Tensor = IMAGES, **changes: Any) -> Victim:
    """Labels are what the encoder says: all images are right as they stand."""
    with torch.no_grad():
        labels = encoder(images).argmax(dim=1)
    noise = Noise.of(0, 0, torch.arange(len(images)))
    return replace(Victim(encoder, IDENTITY, labels, lambda places: images[places], noise), **changes)


def part(whole: Victim, places: Tensor) -> Victim:
    noise = Noise(whole.noise.keys[places])
    return replace(whole, labels=whole.labels[places], images=lambda some: whole.images(places[some]), noise=noise)


def fates(ball: Any, whole: Victim, batch_size: int = 8) -> list[int]:
    return withstand(AutoAttack(ball, **SMALL), whole, batch_size).fooled_in.tolist()


@contextmanager
def shown(encoder: Encoder) -> Iterator[list[Tensor]]:
    """What the encoder is shown, pass by pass."""
    passes: list[Tensor] = []
    hook = encoder.register_forward_pre_hook(lambda _, given: passes.append(given[0].detach().clone()))
    yield passes
    hook.remove()


@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: ball.kind)
def test_a_verdict_hangs_neither_on_the_batch_nor_on_who_attacks_the_others(ball: Any) -> None:
    whole = victim()
    expected = fates(ball, whole)
    assert {-1, 0} <= set(expected)
    assert all(fates(ball, whole, size) == expected for size in (5, 100))
    assert fates(ball, part(whole, torch.arange(3)), 1) == expected[:3]
    apart = torch.zeros(COUNT, dtype=torch.int64)
    for places in (torch.arange(0, COUNT, 2), torch.arange(1, COUNT, 2).flip(0)):
        apart[places] = torch.tensor(fates(ball, part(whole, places)))
    assert apart.tolist() == expected


def test_two_cores_attack_side_by_side_and_nothing_changes() -> None:
    seen, at_once = [], []

    def images(places: Tensor) -> Tensor:
        at_once.append(1)
        seen.append(len(at_once))
        time.sleep(0.001)  # time for another thread to come in
        at_once.pop()
        return IMAGES[places]

    one = withstand(AutoAttack(BALLS[0], **SMALL), victim(), 8)
    torch.set_num_threads(2)
    try:
        two = withstand(AutoAttack(BALLS[0], **SMALL), replace(victim(), images=images), 8)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert two.fooled_in.tolist() == one.fooled_in.tolist()
    assert set(seen) == {1}  # images are read by one thread at a time
    assert two.gradients["apgd_ce"].counts() == one.gradients["apgd_ce"].counts()


def linear(scale: float = 1.0) -> tuple[Encoder, Tensor]:
    """An encoder whose logits are linear in the pixels, and its rows (CLASSES, PIXELS)."""
    layer = nn.Linear(PIXELS, CLASSES, bias=False)
    rows = scale * torch.randn(CLASSES, PIXELS, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        layer.weight.copy_(rows)
    return Encoder(nn.Sequential(nn.Flatten(), layer), (0.5,) * 3, (1,) * 3), rows


def distances(images: Tensor, rows: Tensor, ball: Any) -> Tensor:
    """How far each image is from the nearest other class, the box being far away."""
    logits = (images - 0.5).flatten(1) @ rows.T
    labels = logits.argmax(dim=1)
    ahead = logits.gather(1, labels[:, None]) - logits
    apart = rows[labels][:, None] - rows[None]
    steepness = apart.abs().sum(dim=2) if ball.kind == "linf" else apart.norm(dim=2)
    return (ahead / steepness.clamp_min(1e-9)).scatter(1, labels[:, None], torch.inf).amin(dim=1)


@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: ball.kind)
@pytest.mark.parametrize("stage", ["apgd_ce", "apgd_dlr", "apgd_t", "fab_t"])
def test_of_a_linear_model_those_fall_that_are_nearer_to_another_class_than_eps(stage: Stage, ball: Any) -> None:
    encoder, rows = linear()
    images = 0.5 + 0.1 * (IMAGES - 0.5)
    distance = distances(images, rows, ball)
    at_median = replace(ball, eps=float(distance.median()))
    attack = AutoAttack(at_median, version="custom", stages=(stage,), steps=40, targets=4)
    survived = withstand(attack, victim(encoder, images), 8).survived
    found = 0.99 if stage in TARGETED else 0.5  # without a target, the steepest way may lead past the nearest class
    assert not survived[distance < at_median.eps * found].any()
    assert survived[distance > at_median.eps * 1.0001].all()


def test_square_finds_what_gradients_would_find_where_a_corner_is_enough() -> None:
    encoder, rows = linear()
    images = 0.5 + 0.1 * (IMAGES - 0.5)
    distance = distances(images, rows, Linf(1))
    eps = float(distance.median())
    attack = AutoAttack(Linf(eps), version="custom", stages=("square",), queries=600)
    survived = withstand(attack, victim(encoder, images), 32).survived
    assert survived[distance > eps * 1.0001].all()
    assert survived[distance < 0.7 * eps].sum() == 0


def test_a_stage_sees_what_the_one_before_has_left() -> None:
    whole = victim()
    verdict = withstand(AutoAttack(BALLS[0], **SMALL), whole, 8)
    fooled = verdict.fooled_by()
    assert sum(fooled.values()) == COUNT - int(verdict.survived.sum())
    assert list(fooled) == ["apgd_ce", "apgd_t", "fab_t", "square"]
    alone = {
        stage: set(
            (~withstand(AutoAttack(BALLS[0], "custom", (stage,), **SMALL), whole, 8).survived)
            .nonzero()
            .flatten()
            .tolist()
        )
        for stage in fooled
    }
    found = set((~verdict.survived).nonzero().flatten().tolist())
    assert alone["apgd_ce"] <= found
    assert len(alone["apgd_ce"]) == fooled["apgd_ce"] > 0


class Scripted(nn.Module):
    """Says class 0 until its ``wrong_at``-th pass over an image's rows; gradients lead nowhere in particular."""

    def __init__(self, wrong_at: int) -> None:
        super().__init__()
        self.wrong_at, self.passes = wrong_at, 0

    def forward(self, images: Tensor) -> Tensor:
        self.passes += 1
        logits = images.flatten(1)[:, :CLASSES] * 1e-3
        return logits + torch.eye(CLASSES)[1 if self.passes == self.wrong_at else 0]


@pytest.mark.parametrize("look", [1, 2, 7, 13])
def test_one_wrong_look_is_enough_whichever_it_is(look: int) -> None:
    """The first pass is over the images as they stand, for the targets; then come the start and 12 steps."""
    attack = AutoAttack(Linf(0.1), "custom", ("apgd_ce",), steps=12)
    for wrong_at, fooled in ((look + 1, True), (15, False)):
        encoder = Encoder(Scripted(wrong_at + 1), (0,) * 3, (1,) * 3)  # and one pass for the labels
        verdict = withstand(attack, victim(encoder, IMAGES[:8]), 8)
        assert (~verdict.survived).tolist() == [fooled] * 8


def test_a_fooled_image_is_looked_at_no_more() -> None:
    encoder = Encoder(Scripted(4), (0,) * 3, (1,) * 3)
    whole = victim(encoder, IMAGES[:8])
    with shown(encoder) as passes:
        withstand(AutoAttack(Linf(0.1), **SMALL), whole, 8)
    assert len(passes) == 3  # as they stand, the start, and the first step, which fools all


def test_a_batch_is_full_until_nobody_waits() -> None:
    whole = victim()
    with shown(CURVED) as passes:
        withstand(AutoAttack(BALLS[0], "custom", ("apgd_t",), steps=12, targets=3), whole, 10)
    sizes = [len(images) for images in passes[3:]]  # three passes over the images as they stand
    assert 8 <= sizes[0] <= 10  # as many rounds as batches of 10 take, and each of the same size
    assert all(one >= other for one, other in pairwise(sizes))  # once it is no longer full, nobody waits
    assert sizes.count(sizes[0]) >= 5


def test_no_row_is_wasted_on_a_target_of_an_image_that_is_fooled() -> None:
    """Rows looked at, all together, are at most what survivors take, and less for everyone else."""
    whole = victim()
    attack = AutoAttack(BALLS[0], "custom", ("apgd_t",), steps=12, targets=3)
    with shown(CURVED) as passes:
        survivors = int(withstand(attack, whole, 16).survived.sum())
    rows = sum(len(images) for images in passes[2:])
    assert survivors * 3 * 13 <= rows < survivors * 3 * 13 + (COUNT - survivors) * 13 * 3 / 2 + 8 * 13


class Precise(nn.Module):
    """Wrong under autocast alone."""

    def forward(self, images: Tensor) -> Tensor:
        wrong = torch.is_autocast_enabled("cpu")
        return images.flatten(1)[:, :CLASSES] * 1e-3 + torch.eye(CLASSES)[1 if wrong else 0]


@pytest.mark.parametrize("stage", ["apgd_ce", "fab_t", "square"])
def test_what_is_wrong_in_half_precision_alone_is_right(stage: Stage) -> None:
    whole = victim(Encoder(Precise(), (0,) * 3, (1,) * 3), precision=torch.bfloat16)
    assert withstand(AutoAttack(Linf(0.1), "custom", (stage,), **SMALL), whole, 8).survived.all()


def test_half_precision_finds_what_full_precision_finds_but_for_a_few() -> None:
    found = [withstand(AutoAttack(BALLS[0], **SMALL), victim(precision=p), 8) for p in (torch.bfloat16, torch.float32)]
    half, full = (int(verdict.survived.sum()) for verdict in found)
    assert abs(half - full) <= 2


def test_a_radius_of_zero_leaves_everyone_right() -> None:
    for ball in BALLS:
        few = part(victim(), torch.arange(4))
        assert withstand(AutoAttack(replace(ball, eps=0), steps=5, queries=9, targets=1), few, 8).survived.all()


def test_weights_get_no_gradient_and_can_be_trained_afterwards() -> None:
    withstand(AutoAttack(BALLS[0], **SMALL), victim(), 8)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in CURVED.parameters())


def test_nobody_to_attack_is_a_verdict_too() -> None:
    verdict = withstand(AutoAttack(BALLS[0]), part(victim(), torch.arange(0)), 8)
    assert verdict.survived.tolist() == []
    assert sum(verdict.fooled_by().values()) == 0


class Noisy(nn.Module):
    """Logits with noise of its own at every pass, larger than what tells the classes apart."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, images: Tensor) -> Tensor:
        noise = torch.randn(len(images), CLASSES, generator=self.generator)
        return images.flatten(1)[:, :CLASSES] * 1e-3 + torch.eye(CLASSES)[0] + 0.4 * noise


def test_the_version_for_random_models_judges_a_mean_of_passes() -> None:
    """A random model is wrong now and then; its mean over 20 passes is not."""
    noise = Noise.of(0, 0, torch.arange(8))
    labels = torch.zeros(8, dtype=torch.int64)

    def survivors(attack: AutoAttack) -> int:
        whole = Victim(Encoder(Noisy(), (0,) * 3, (1,) * 3), IDENTITY, labels, lambda places: IMAGES[places], noise)
        return int(withstand(attack, whole, 8).survived.sum())

    assert survivors(AutoAttack(Linf(0.01), "rand", steps=5)) == 8
    assert survivors(AutoAttack(Linf(0.01), steps=5)) < 4


def test_programmes_by_the_number_of_classes() -> None:
    standard = AutoAttack(Linf(0.1))
    assert standard.programme(2) == ("apgd_ce", "square")
    assert standard.programme(3) == ("apgd_ce", "apgd_dlr", "fab_t", "square")
    assert standard.programme(4) == standard.programme(1000) == ("apgd_ce", "apgd_t", "fab_t", "square")
    assert AutoAttack(Linf(0.1), "rand").programme(10) == ("apgd_ce", "apgd_dlr")
    assert (standard.draws, AutoAttack(Linf(0.1), "rand").draws, AutoAttack(Linf(0.1), eot=3).draws) == (1, 20, 3)


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_run_what_they_allow(classes: int) -> None:
    class Few(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, :classes]

    encoder = Encoder(Few(), (0,) * 3, (1,) * 3)
    probe = Probe(torch.eye(classes), torch.zeros(classes))
    verdict = withstand(AutoAttack(Linf(0.05), **SMALL), victim(encoder, classifier=probe), 8)
    assert verdict.stages == AutoAttack(Linf(0.05)).programme(classes)
    assert 0 < verdict.survived.sum() < COUNT


@pytest.mark.parametrize(
    ("attack", "classes", "message"),
    [
        (AutoAttack(Linf(0.1), "rand"), 2, "'apgd_dlr' compares at least 3 classes, got 2"),
        (AutoAttack(Linf(0.1), "custom", ("square", "apgd_t")), 3, "'apgd_t' compares at least 4 classes, got 3"),
    ],
)
def test_what_was_asked_for_by_name_is_not_left_out(attack: AutoAttack, classes: int, message: str) -> None:
    attack.check_classes(4)
    with pytest.raises(ValueError, match=message):
        attack.check_classes(classes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "custom"}, "expected a list of apgd_ce, apgd_dlr, apgd_t, fab_t, square with version 'custom'"),
        ({"stages": ["square"]}, "expected none with version 'standard'"),
        ({"version": "custom", "stages": []}, "at least 1 item"),
        ({"version": "custom", "stages": ["square", "square"]}, "expected each stage once, got square, square"),
        ({"version": "custom", "stages": ["apgd"]}, "Input should be 'apgd_ce'"),
        ({"version": "plus"}, "Input should be 'standard', 'rand' or 'custom'"),
        ({"queries": 0}, "greater than or equal to 1"),
        ({"climb": "dlr"}, "Unexpected keyword argument|Extra inputs|unexpected"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    plain = {"kind": "autoattack", "ball": {"kind": "linf", "eps": "4/255"}}
    adapter: TypeAdapter[Any] = TypeAdapter(Attack)
    assert adapter.validate_python(plain).version == "standard"
    with pytest.raises(ValueError, match=message):
        adapter.validate_python(plain | changes)


def test_gradients_are_counted_for_what_a_study_costs() -> None:
    standard = AutoAttack(Linf(0.1))
    assert standard.gradients == 101 * (1 + 9 + 9) + 1667
    assert AutoAttack(Linf(0.1), "rand").gradients == 20 * 2 * 101
    assert AutoAttack(Linf(0.1), "custom", ("square",), queries=30).gradients == 10


def test_a_verdict_counts_by_stage() -> None:
    verdict = Verdict(("apgd_ce", "square"), torch.tensor([-1, 0, 0, 1]), {})
    assert verdict.fooled_by() == {"apgd_ce": 2, "square": 1}
    assert verdict.survived.tolist() == [True, False, False, False]
