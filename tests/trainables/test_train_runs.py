"""Trials of two workers under a real Ray Train: the same numbers as one worker, and nothing held after a stop."""

import pytest

from robustcore.finetune import finetune
from robustcore.recipe import recipe_from
from sweeps.study import load_study
from tests.sweeps.commands import STUDY, status, sweep, write_study
from tests.sweeps.sessions import launched

# The second trial is hopeless, so the scheduler stops it; the third needs what it held.
STOPPING = (
    STUDY.replace("loss.alpha: {choice: [0, 1]}", "optim.lr: {choice: [1e-3, 0.5, 2e-3]}")
    .replace("sampler: grid, trials: 2", "sampler: grid, trials: 3, seed: 4")
    .replace("resources: {cpus: 1}", "resources: {workers: 2, cpus: 1}\nstop_early: {after: 2, keep: 0.3}")
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    return load_study(str(write_study(folder, STOPPING)), [f"storage={folder / 'runs'}"])


@pytest.fixture(scope="module")
def two_workers(study):
    """A sweep that goes on after its first trial, which ended with other numbers long ago."""
    earlier = launched(study)
    earlier.run(earlier.begin())
    sweep("resume", study.path, "--storage", study.storage, timeout=550)
    return status(study.path, study.storage)


def test_stopped_trials_free_their_workers_for_the_next(two_workers):
    assert [trial["state"] for trial in two_workers] == ["finished", "stopped", "finished"]


def test_a_stopped_trial_says_when_and_has_the_metrics_of_that_step(two_workers):
    stopped = two_workers[1]
    assert stopped["step"] == 2
    assert "step 2" in stopped["reason"]
    assert 0 <= stopped["metrics"]["clean"] <= 1


def test_two_workers_give_the_numbers_of_one(study, two_workers):
    last = two_workers[2]
    *_, alone = finetune(recipe_from(study.recipe_at(last["knobs"])))
    assert last["metrics"]["loss"] == pytest.approx(alone.metrics["loss"], rel=1e-4)
    for name in ("clean", "pgd", "worst"):
        assert last["metrics"][name] == pytest.approx(alone.metrics[name], abs=2 / 400)
