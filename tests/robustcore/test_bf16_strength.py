"""Attacks whose forward runs in bf16 are as strong as in fp32, on a robust model; float16 would not be."""

import functools
from collections.abc import Callable
from importlib import import_module
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
from robustcore.models import Clip, LoadedClip
from robustcore.process import Process
from tests.robustcore.watching import noted, trained
from tests.support import members, small_recipe

FP32, BF16 = torch.float32, torch.bfloat16
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


Measure = Callable[..., dict[str, float]]


@pytest.fixture(scope="module")
def measured(robust: LoadedClip) -> Measure:
    """Metrics on the 400 held-out digits, of attacks in a precision, through a classifier of a logit scale."""

    def measure(precision: torch.dtype, scale: float, *attacks: Any) -> dict[str, float]:
        evaluation = Evaluation({"digits": Digits("test")}, {attack.kind: attack for attack in attacks})

        def classifier_of(images: ImageSet) -> ZeroShot:
            return ZeroShot(robust.classifier_rows(images.classes, evaluation.prompts), scale)

        suite = Suite(evaluation, classifier_of, robust.preprocessing, 0, precision)
        return suite(robust.encoder, Process())

    return functools.cache(measure)


def of_twenty_steps(measured: Measure, robust: LoadedClip, precision: torch.dtype) -> dict[str, float]:
    return measured(precision, robust.scale, PGD(BALL, steps=20), APGD(BALL, steps=20))


def test_the_model_is_robust(measured: Measure, robust: LoadedClip) -> None:
    found = of_twenty_steps(measured, robust, FP32)
    assert found["clean"] > 0.9
    assert min(found["pgd"], found["apgd"]) > 0.4  # from 0.08
    assert max(found["pgd"], found["apgd"]) < found["clean"] - 0.2  # and there is something left to find


@pytest.mark.parametrize("attack", ["pgd", "apgd"])
def test_an_attack_in_bf16_loses_less_than_a_point_of_strength(
    attack: str, measured: Measure, robust: LoadedClip
) -> None:
    full, half = (of_twenty_steps(measured, robust, precision) for precision in (FP32, BF16))
    assert half["clean"] == full["clean"]  # nothing is judged in bf16
    assert half[attack] - full[attack] < 0.01


def test_an_attack_in_float16_loses_far_more_and_the_share_of_zero_gradients_tells_it(
    measured: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = PGD(BALL, steps=5)
    full, half = (measured(precision, CLIPS_SCALE, attack) for precision in (FP32, BF16))
    monkeypatch.setattr(
        import_module("robustcore.evaluation.survivors"),
        "autocast",
        lambda device, precision: torch.autocast(device.type, torch.float16),
    )
    stalled = measured(torch.float16, CLIPS_SCALE, attack)
    assert half["pgd"] - full["pgd"] < 0.01 < 0.1 < stalled["pgd"] - full["pgd"]
    share = "zero_gradient/pgd"
    assert max(full[share], half[share]) < 0.01 < 0.5 < stalled[share]


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
        values = robust_term(self, perturbed, reference)
        note("loss", perturbed, values, *vars(reference).values())
        return values

    monkeypatch.setattr(member, "robust", watched)
    for owner, name in ((Linf, "steepest"), (Linf, "project"), (Best, "keep")):
        monkeypatch.setattr(owner, name, noted(getattr(owner, name), functools.partial(note, "steps")))
    hook = register_module_forward_hook(of_a_layer)
    looks = trained(digits, tmp_path, precision="bf16", loss={"kind": loss}, attack__climb="robust")
    hook.remove()
    assert seen["loss"] == seen["steps"] == {FP32}
    assert {BF16, "autocast"} <= seen["tower"]
    assert {look.precision for look in looks if look.climbs or look.descends} == {BF16}


def test_the_share_of_zero_gradients_is_a_metric_of_training_and_evaluation_in_both_precisions(
    digits: Path, tmp_path: Path, measured: Measure, robust: LoadedClip
) -> None:
    for precision in ("fp32", "bf16"):
        recipe = small_recipe(digits, precision=precision)
        for progress in finetune(recipe, Process(cache=tmp_path)):
            shares = [progress.metrics[f"zero_gradient/{name}"] for name in ("training", "pgd")]
            assert all(0 <= share < 0.01 for share in shares)
    for dtype in (FP32, BF16):
        found = of_twenty_steps(measured, robust, dtype)
        assert max(found["zero_gradient/pgd"], found["zero_gradient/apgd"]) < 0.01
