"""Trials of two workers under a real Ray Train: the same numbers as one worker, and nothing held after a stop."""

import pytest

from tests.sweeps.commands import STUDY, status, sweep, write_study

# The second trial is hopeless, so the scheduler stops it; the third needs what it held.
STOPPING = (
    STUDY.replace("loss.alpha: {choice: [0, 1]}", "optim.lr: {choice: [1e-3, 0.5, 2e-3]}")
    .replace("sampler: grid, trials: 2", "sampler: grid, trials: 3, seed: 4")
    .replace("resources: {cpus: 1}", "resources: {workers: 2, cpus: 1}\nstop_early: {after: 2, keep: 0.3}")
)


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    study = write_study(folder, STOPPING)
    sweep("launch", study, "--storage", folder / "runs", timeout=550)
    return status(study, folder / "runs")


def test_stopped_trials_free_their_workers_for_the_next(two_workers):
    assert [trial["state"] for trial in two_workers] == ["finished", "stopped", "finished"]


def test_a_stopped_trial_says_when_and_has_the_metrics_of_that_step(two_workers):
    for trial in two_workers:
        if trial["state"] == "stopped":
            assert trial["step"] == 2
            assert "step 2" in trial["reason"]
            assert 0 <= trial["metrics"]["clean"] <= 1


def test_two_workers_give_the_numbers_of_one(two_workers, tmp_path):
    study = write_study(tmp_path, STOPPING.replace("workers: 2", "workers: 1"))
    sweep("launch", study, "--storage", tmp_path / "runs")
    alone = {trial["knobs"]["optim.lr"]: trial for trial in status(study, tmp_path / "runs")}
    compared = 0
    for trial in two_workers:
        other = alone[trial["knobs"]["optim.lr"]]
        if trial["state"] == other["state"] == "finished":
            compared += 1
            assert trial["metrics"]["loss"] == pytest.approx(other["metrics"]["loss"], rel=1e-4)
            for name in ("clean", "pgd", "worst"):
                assert trial["metrics"][name] == pytest.approx(other["metrics"][name], abs=2 / 400)
    assert compared
