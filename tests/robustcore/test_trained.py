"""A fine-tuned model that is loaded again is the one that its trial measured."""

from pathlib import Path
from typing import Any

import pytest

from robustcore.evaluation import Suite
from robustcore.finetune import finetune
from robustcore.precision import PRECISIONS
from robustcore.process import Process
from robustcore.trained import load_trained
from tests.support import small_recipe

STAGE = {"optim": {"lr": 1e-3, "steps": 2}}
RECIPES: dict[str, dict[str, Any]] = {
    "fare": {},
    "lora": {"model__lora": {"rank": 2}},
    "lora on both towers": {"model__lora": {"rank": 2, "towers": "both"}, "loss": {"kind": "tecoa"}},
    "text stage": {"loss": {"kind": "tima"}, "text": STAGE},
    "text stage through lora": {"loss": {"kind": "tima"}, "text": {**STAGE, "lora": {"rank": 2}}},
    "simclr": {"model": {"kind": "simclr", "weights": "digits-simclr"}},
}


@pytest.mark.parametrize("changes", RECIPES.values(), ids=RECIPES)
def test_it_measures_what_the_last_evaluation_of_its_trial_measured(
    digits: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    recipe, process = small_recipe(digits, **changes), Process(cache=tmp_path)
    *_, last = finetune(recipe, process)
    trained = load_trained(recipe, last.state().weights, process)
    precision = PRECISIONS[recipe.precision]
    suite = Suite(recipe.evaluation, trained.classifier_of, trained.loaded.preprocessing, recipe.seed, precision)
    again = suite(trained.loaded.encoder, process)
    assert again.metrics == {name: last.metrics[name] for name in again.metrics}
    assert (again.samples, again.flags) == (last.samples, last.flags)
