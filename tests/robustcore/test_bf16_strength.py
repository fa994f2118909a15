"""Attacks whose forward runs in bf16 are as strong as in fp32, on a robust model; float16 would not be."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from robustcore.attacks import APGD, PGD, Linf
from robustcore.attacks.climb import Best
from robustcore.data import Digits, ImageSet
from robustcore.evaluation import Evaluation, Suite
from robustcore.finetune import finetune
from robustcore.losses import Loss, ZeroShot
from robustcore.models import Clip, Encoder, LoadedClip
from robustcore.precision import PRECISIONS
from robustcore.process import Process
from tests.robustcore.watching import noted, trained
from tests.support import members, small_recipe

FP32, BF16 = torch.float32, torch.bfloat16
Found = dict[torch.dtype, dict[str, float]]
BALL = Linf(16 / 255)
CLIPS_SCALE = 100.0  # where a wrong answer is so unlikely that float16 cannot tell its gradient from zero


@pytest.fixture(scope="module")
def robust(tmp_path_factory: pytest.TempPathFactory) -> LoadedClip:
    """The digits model after 40 steps of FARE."""
    recipe = small_recipe(
        Path(),
        data__train={"kind": "digits"},
        data__batch_size=64,
        loss={"kind": "fare"},
        attack={"kind": "pgd", "ball": {"kind": "linf", "eps": "16/255"}, "steps": 3, "stride": 0.5},
        optim={"lr": 3e-3, "steps": 40, "warmup": 5},
        evaluation={"datasets": {"digits": {"kind": "digits", "split": "test"}}, "attacks": {}},
    )
    (progress,) = finetune(recipe, Process(cache=tmp_path_factory.mktemp("cache")))
    loaded = Clip(weights="digits").load()
    loaded.encoder.load_state_dict(progress.state().weights)
    return loaded


def measured(robust: LoadedClip, precision: torch.dtype, scale: float, *attacks: Any) -> dict[str, float]:
    """Metrics on the 400 held-out digits, through a classifier of that logit scale."""
    evaluation = Evaluation(datasets={"digits": Digits("test")}, attacks={attack.kind: attack for attack in attacks})

    def classifier_of(images: ImageSet, prompts: tuple[str, ...]) -> ZeroShot:
        return ZeroShot(robust.classifier_rows(images.classes, evaluation.prompts), scale)

    suite = Suite(evaluation, classifier_of, robust.preprocessing, 0, precision)
    return suite(robust.encoder, Process()).metrics


@pytest.fixture(scope="module")
def found(robust: LoadedClip) -> Found:
    """By precision, the metrics of strong attacks at the checkpoint's own scale."""
    attacks = PGD(BALL, steps=20), APGD(BALL, steps=20)
    return {precision: measured(robust, precision, robust.scale, *attacks) for precision in (FP32, BF16)}


def test_the_model_is_robust_and_there_is_something_to_find(found: Found) -> None:
    full = found[FP32]
    assert full["clean"] > 0.9
    assert 0.4 < full["worst"] < full["clean"] - 0.2  # from 0.065


@pytest.mark.parametrize("attack", ["pgd", "apgd"])
def test_an_attack_in_bf16_loses_less_than_a_point_of_strength(attack: str, found: Found) -> None:
    assert found[BF16]["clean"] == found[FP32]["clean"]  # nothing is judged in bf16
    assert found[BF16][attack] - found[FP32][attack] < 0.01


def test_an_attack_whose_gradients_pass_through_float16_loses_far_more_and_zero_gradients_tell_it(
    robust: LoadedClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack, forward = PGD(BALL, steps=5), Encoder.forward
    full, half = (measured(robust, precision, CLIPS_SCALE, attack) for precision in (FP32, BF16))
    monkeypatch.setattr(
        Encoder,
        "forward",
        lambda self, images: forward(self, images.half().float() if images.requires_grad else images),
    )
    stalled = measured(robust, FP32, CLIPS_SCALE, attack)
    assert half["pgd"] - full["pgd"] < 0.01 < 0.1 < stalled["pgd"] - full["pgd"]
    shares = [metrics["zero_gradient/pgd"] for metrics in (full, half, stalled)]
    assert max(shares[:2]) < 0.01 < 0.5 < shares[2]


@pytest.mark.parametrize("loss", [loss.kind for loss in members(Loss)])
def test_in_bf16_the_towers_alone_are_in_bf16_and_loss_and_steps_are_in_float32(
    loss: str, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, set[Any]] = {"tower": set(), "loss": set(), "steps": set()}

    def note(kind: str, *given: Any) -> None:
        seen[kind] |= {one.dtype for one in given if isinstance(one, Tensor) and one.is_floating_point()}
        seen[kind] |= {"autocast"} if torch.is_autocast_enabled("cpu") else set()

    def of_a_layer(module: nn.Module, given: Any, made: Any) -> None:
        if isinstance(module, nn.Linear):
            note("tower", made)

    member = next(member for member in members(Loss) if member.kind == loss)
    robust_term = member.robust

    def watched(self: Any, perturbed: Tensor, reference: Any) -> Tensor:
        values: Tensor = robust_term(self, perturbed, reference)
        note("loss", perturbed, values, *vars(reference).values())
        return values

    monkeypatch.setattr(member, "robust", watched)
    for owner, name in ((Linf, "steepest"), (Linf, "project"), (Best, "keep")):
        monkeypatch.setattr(owner, name, noted(getattr(owner, name), functools.partial(note, "steps")))
    with register_module_forward_hook(of_a_layer):
        looks = trained(digits, tmp_path, precision="bf16", loss={"kind": loss}, attack__climb="robust")
    assert seen["loss"] == seen["steps"] == {FP32}
    assert {BF16, "autocast"} <= seen["tower"]
    assert {look.precision for look in looks if look.climbs or look.descends} == {BF16}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_share_of_zero_gradients_is_a_metric_of_training_and_of_every_attack(
    precision: str, digits: Path, tmp_path: Path, found: Found
) -> None:
    for progress in finetune(small_recipe(digits, precision=precision), Process(cache=tmp_path)):
        assert all(0 <= progress.metrics[f"zero_gradient/{name}"] < 0.01 for name in ("training", "pgd"))
    assert all(0 <= found[PRECISIONS[precision]][f"zero_gradient/{name}"] < 0.01 for name in ("pgd", "apgd"))
