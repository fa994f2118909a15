"""A rehearsal takes real steps of the recipe and says what they took; sizes are those of real checkpoints."""

from pathlib import Path

import torch

from robustcore.finetune import finetune
from robustcore.process import Process
from robustcore.rehearsal import rehearse
from tests.support import small_recipe, write_digits


def test_a_rehearsal_knows_the_size_of_what_a_run_writes_and_that_everything_takes_time(tmp_path: Path) -> None:
    recipe, process = small_recipe(write_digits(tmp_path / "digits.parquet", 64, 20)), Process(cache=tmp_path / "cache")
    found = rehearse(recipe, process)
    first, last = (progress.state() for progress in finetune(recipe, process))
    assert found.weights == sum(tensor.nbytes for tensor in last.weights.values())
    assert found.optimizer == sum(tensor.nbytes for tensor in first.optimizer.values())
    assert found.embeddings == 64 * 4 * recipe.model.load().encoder(torch.zeros(1, 3, 16, 16)).shape[1]
    assert min(found.first, found.again, found.step, found.evaluation) > 0
    assert found.memory > found.weights


def test_a_recipe_without_steps_has_only_an_evaluation(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "digits.parquet", 64, 20)
    found = rehearse(small_recipe(data, optim__steps=0, optim__warmup=0), Process(cache=tmp_path / "cache"))
    assert found.step == 0
    assert found.evaluation > 0
