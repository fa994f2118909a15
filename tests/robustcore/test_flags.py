"""Flags: planted reasons for distrust, each found by its name, and sound models, of which nothing is said."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustcore.attacks import PGD, AutoAttack, Linf
from robustcore.data import ImageSet, Parquet
from robustcore.evaluation import Evaluation, Outcome, Suite, Survival
from robustcore.evaluation.flags import added, blank, flags
from robustcore.finetune import finetune
from robustcore.losses import Probe, ZeroShot
from robustcore.models import Clip, Encoder
from robustcore.process import Process
from tests.support import small_recipe

CLIP = Clip(weights="digits").load()
BALL = Linf(8 / 255)
AUTOATTACK = AutoAttack(BALL, steps=10, queries=100, targets=2)


class Rounded(nn.Module):
    """Input quantised to a few levels: no gradient gets through."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.visual((images * 16).round() / 16)
        return result


class Dropping(Rounded):
    """Dropout that was left on; it draws anew at every pass."""

    def forward(self, images: Tensor) -> Tensor:
        return F.dropout(self.visual(images), 0.3, training=True)


def wrapped(wrapper: type[Rounded]) -> Encoder:
    return Encoder(wrapper(CLIP.encoder.visual), (0.5,) * 3, (0.5,) * 3)


def measured(
    path: Path, encoder: Encoder, attacks: dict[str, Any], scale: float = CLIP.scale, **options: Any
) -> Outcome:
    evaluation = Evaluation(datasets={"digits": Parquet(str(path), split="test")}, attacks=attacks, **options)

    def zero_shot(images: ImageSet, prompts: tuple[str, ...]) -> ZeroShot:
        return ZeroShot(CLIP.classifier_rows(images.classes, prompts), scale)

    return Suite(evaluation, zero_shot, CLIP.preprocessing, 0, torch.float32)(encoder, Process())


def test_a_quantised_input_is_masked_gradients_and_square_gets_through(digits: Path) -> None:
    found = measured(digits, wrapped(Rounded), {"autoattack": AUTOATTACK, "pgd": PGD(BALL, steps=3)}).flags
    assert {"zero_gradient", "black_box_beats_white_box"} <= set(found)
    assert "100% of the gradients" in found["zero_gradient"]
    assert "randomised" not in found


def test_a_huge_logit_scale_starves_cross_entropy_of_gradients(digits: Path) -> None:
    found = measured(digits, CLIP.encoder, {"autoattack": AUTOATTACK}, scale=1e5).flags
    assert "autoattack (apgd_ce) are zero" in found["zero_gradient"]


def test_dropout_that_was_left_on_is_a_random_model(digits: Path) -> None:
    found = measured(digits, wrapped(Dropping), {"autoattack": AUTOATTACK}).flags
    assert "expected version: rand" in found["randomised"]
    rand = AutoAttack(BALL, "rand", steps=2, eot=2)
    assert "randomised" not in measured(digits, wrapped(Dropping), {"autoattack": rand}).flags


def test_a_weaker_attack_in_the_same_ball_overstates(digits: Path) -> None:
    weak = PGD(BALL, steps=1, stride=0.01, random_start=False)
    other_ball = PGD(Linf(1 / 255), steps=1)
    found = measured(digits, CLIP.encoder, {"weak": weak, "elsewhere": other_ball, "autoattack": AUTOATTACK})
    left, truly = found.metrics["weak"], found.metrics["autoattack"]
    assert left > truly + 0.01
    sentence = found.flags["weaker_attack_overstates"]
    assert sentence == f"On digits, weak leaves {left:.1%} and autoattack {truly:.1%}: weak overstates robustness."


@cache
def trained(path: Path) -> Encoder:
    """Fine-tuned against PGD for a few steps: enough to be a model that nobody tampered with."""
    recipe = small_recipe(path, loss={"kind": "tecoa"}, optim__steps=8, evaluation__attacks={}, evaluation__every=8)
    (last,) = finetune(recipe, Process(cache=path.parent))
    encoder = Clip(weights="digits").load().encoder
    encoder.load_state_dict(last.state().weights)
    return encoder


@pytest.mark.parametrize("is_trained", [False, True], ids=["as shipped", "trained"])
def test_of_a_sound_model_nothing_is_said(is_trained: bool, digits: Path) -> None:
    encoder = trained(digits) if is_trained else CLIP.encoder
    outcome = measured(digits, encoder, {"autoattack": AUTOATTACK})
    assert outcome.flags == {}
    assert 0.1 < outcome.metrics["autoattack"] < outcome.metrics["clean"]


def test_an_attack_within_nothing_is_no_reason_for_a_flag(digits: Path) -> None:
    nothing = AutoAttack(Linf(0), steps=2, queries=2, targets=1)
    assert measured(digits, CLIP.encoder, {"autoattack": nothing}).flags == {}


ATTACKS = {"autoattack": AUTOATTACK}


def said(evidence: dict[str, float], count: int = 400, classes: int = 10) -> dict[str, str]:
    survival = Survival(
        tuple("abcdefghij"[:classes]),
        np.zeros(count, int),
        {"clean": np.ones(count, bool), "autoattack": np.ones(count, bool)},
    )
    whole = added(
        [
            blank(ATTACKS),
            {"probed/autoattack": 10, "0.5/autoattack": 10, "1.0/autoattack": 20, "2.0/autoattack": 40},
            evidence,
        ]
    )
    return flags(ATTACKS, {"it": survival}, {"it": whole})


@pytest.mark.parametrize(
    ("evidence", "name"),
    [
        ({}, None),
        ({"stalled/autoattack (fab_t)": 5, "taken/autoattack (fab_t)": 100}, None),
        ({"stalled/autoattack (fab_t)": 6, "taken/autoattack (fab_t)": 100}, "zero_gradient"),
        ({"alone/autoattack": 1}, None),
        ({"alone/autoattack": 2}, "black_box_beats_white_box"),
        ({"2.0/autoattack": -29}, None),  # 1.1 at twice eps, yet 2 at eps
        ({"1.0/autoattack": -11}, "loss_flat_in_eps"),
        ({"1.0/autoattack": -10, "2.0/autoattack": -29.5}, "loss_flat_in_eps"),
        ({"random/autoattack": 1}, "randomised"),
    ],
)
def test_thresholds(evidence: dict[str, float], name: str | None) -> None:
    assert list(said(evidence)) == ([] if name is None else [name])


def test_two_images_of_a_thousand_are_chance() -> None:
    assert said({"alone/autoattack": 4}, count=1000) == {}
    assert "black_box_beats_white_box" in said({"alone/autoattack": 5}, count=1000)


def test_too_few_classes_for_all_stages_are_said() -> None:
    assert said({}, classes=3)["fewer_stages"] == (
        "On it, autoattack ran apgd_ce, apgd_dlr, fab_t, square: 3 classes are too few for the targeted DLR."
    )


def test_evidence_of_parts_adds_up_to_that_of_the_whole_and_shares_come_from_it(digits: Path) -> None:
    """A process without any images has the same names to add."""
    evaluation = Evaluation(datasets={"digits": Parquet(str(digits), split="test")}, attacks=ATTACKS)
    rows = Probe(torch.eye(10, 64), torch.zeros(10))
    suite = Suite(evaluation, lambda images, prompts: rows, CLIP.preprocessing, 0, torch.float32)
    process, everyone = Process(), np.arange(31)
    whole, evidence = suite.attacked("digits", everyone, CLIP.encoder, process)
    parts = [
        suite.attacked("digits", part, CLIP.encoder, process) for part in (everyone[:20], everyone[20:], everyone[:0])
    ]
    total = added(part for _, part in parts)
    assert list(parts[2][1]) == list(evidence)
    assert total == pytest.approx(evidence, rel=1e-4)
    assert np.array_equal(np.concatenate([part["autoattack"] for part, _ in parts]), whole["autoattack"])
    assert evidence["taken/autoattack"] > 0
