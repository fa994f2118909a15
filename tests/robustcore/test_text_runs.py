"""A run with a text stage: the angles it reports, the stage that trials share, and the text that a state holds."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from robustcore.data import Digits
from robustcore.finetune import finetune
from robustcore.losses.energy import angles
from robustcore.models import Clip, TextTower
from robustcore.process import Process
from robustcore.text_stage import ANGLES
from tests.support import small_recipe

CLASSES = Digits("test").open().classes


TEXT = {"optim": {"lr": 2e-3, "steps": 4}, "distill_weight": 0, "prompts": ["a {}"]}
TECOA: dict[str, Any] = {
    "loss": {"kind": "tecoa"},
    "text": TEXT,
    "optim__steps": 2,
    "evaluation__every": 1,
    "evaluation__attacks": {},
}


def tower() -> TextTower:
    return Clip(weights="digits").load().text


def angles_of(weights: dict[str, Tensor], prompts: Sequence[str]) -> tuple[float, float]:
    """Mean and minimum, between the rows of a tower with the text of a state."""
    tuned = tower()
    tuned.load({name.removeprefix("text."): value for name, value in weights.items() if name.startswith("text.")})
    with torch.no_grad():
        return angles(tuned.rows(CLASSES, prompts))


@pytest.mark.parametrize("loss", ["fare", "tecoa"])
def test_a_run_reports_the_angles_of_the_untouched_and_of_the_tuned_tower(
    loss: str, digits: Path, tmp_path: Path
) -> None:
    recipe = small_recipe(digits, **(TECOA | {"loss": {"kind": loss}}))
    progress = list(finetune(recipe, Process(cache=tmp_path)))
    prompts = recipe.loss.prompts or recipe.evaluation.prompts
    with torch.no_grad():
        before = angles(tower().rows(CLASSES, prompts))
    after = angles_of(progress[-1].state().weights, prompts)
    for one in progress:
        assert [one.metrics[name] for name in ANGLES] == pytest.approx([*before, *after], abs=1e-4)
    assert after[0] > before[0] + 2


def test_a_run_without_text_reports_no_angles(digits: Path) -> None:
    assert not set(ANGLES) & set(small_recipe(digits).metrics())


def test_trials_that_differ_elsewhere_share_one_text_stage(digits: Path, tmp_path: Path) -> None:
    for changes in ({}, {"loss": {"kind": "tima", "margin": 0.1}}, {"optim__lr": 1e-4, "model__lora": {"rank": 1}}):
        list(finetune(small_recipe(digits, **(TECOA | changes)), Process(cache=tmp_path)))
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    list(finetune(small_recipe(digits, **TECOA, seed=1), Process(cache=tmp_path)))
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_a_resumed_run_takes_the_tuned_text_from_its_state(digits: Path, tmp_path: Path) -> None:
    """The state is of a machine that is gone, and its text is another than what this one's cache would give."""
    recipe = small_recipe(digits, **TECOA)
    state = next(iter(finetune(recipe, Process(cache=tmp_path / "gone")))).state()
    text = {f"text.{name}": value for name, value in tower().tensors().items()}
    (progress,) = finetune(recipe, Process(cache=tmp_path / "here"), replace(state, weights=state.weights | text))
    untouched = angles_of(progress.state().weights, recipe.loss.prompts)
    assert [progress.metrics[name] for name in ANGLES] == pytest.approx([*untouched, *untouched], abs=1e-4)
    assert not list((tmp_path / "here").glob("*.safetensors"))  # what is known is not tuned again


def test_training_the_images_leaves_the_tuned_text_as_it_is(digits: Path, tmp_path: Path) -> None:
    first, last = (one.state().weights for one in finetune(small_recipe(digits, **TECOA), Process(cache=tmp_path)))
    text = {f"text.{name}" for name in tower().tensors()}
    assert {name for name in first if torch.equal(first[name], last[name])} == text
    assert first.keys() - text == Clip(weights="digits").load().encoder.state_dict().keys()
