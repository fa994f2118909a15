"""``check --measure``: what a sweep takes follows from what its cheapest and dearest trial took, in the right units."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from robustcore.recipe import Recipe
from robustcore.rehearsal import Rehearsal
from sweeps.check.estimate import START_OF_RAY, START_OF_TRIAL, estimate, estimate_text
from sweeps.cli import main
from sweeps.study import Study, load_study
from tests.sweeps.commands import write_study


def study(tmp_path: Path, *settings: str) -> Study:
    return load_study(str(write_study(tmp_path)), ["search={sampler: random, trials: 7}", *settings])


def took(recipe: Recipe) -> Rehearsal:
    """A step takes a second for each gradient of its attack."""
    return Rehearsal(12.0, 2.0, recipe.attack.gradients, 5.0, 3_000_000, 1000, 2000, 50_000)


def estimated(asked: Study, at_once: int = 2) -> dict[str, Any]:
    return estimate(asked, at_once, took)


def test_times_add_up_from_steps_evaluations_and_rounds(tmp_path: Path) -> None:
    found = estimated(study(tmp_path))
    trial = START_OF_TRIAL + 2 + 4 * 1 + 2 * 5
    assert found["seconds_of_a_trial"] == {"least": trial, "most": trial}
    assert found["trials"] == {"least": 7, "most": 7}
    assert found["steps"] == {"least": 28, "most": 28}
    assert found["cpu_hours"]["most"] == pytest.approx(7 * trial / 3600)
    # Seven trials, two at a time, are four rounds; the original embeddings are made once.
    assert found["hours"]["most"] == pytest.approx((START_OF_RAY + 10 + 4 * trial) / 3600)
    # The last checkpoint has no optimizer, the one before has.
    without_trials = estimated(study(tmp_path, "search.trials=1"))["storage_bytes"]["most"]
    more = estimate(study(tmp_path), 2, lambda recipe: replace(took(recipe), weights=1001, optimizer=2005))
    assert more["storage_bytes"]["most"] - found["storage_bytes"]["most"] == 7 * (1 + 1 + 5)
    assert 6 * 4000 < found["storage_bytes"]["most"] - without_trials < 6 * 4000 + 10**6
    assert found["peak_memory_bytes"] == 3_000_000
    assert "cost" not in found
    assert not found["at_most"]


def test_both_ends_of_what_knobs_cost_are_measured_and_no_more(tmp_path: Path) -> None:
    asked = study(tmp_path, "knobs={attack.steps: {integer: [1, 9]}, loss.alpha: {uniform: [0, 1]}}")
    found = estimated(asked)
    assert found["at_one_value_of"] == []
    assert [each["knobs"]["attack.steps"] for each in found["rehearsals"]] == [1, 9]
    assert found["seconds_of_a_trial"]["most"] - found["seconds_of_a_trial"]["least"] == 4 * 8
    other = estimated(study(tmp_path, "knobs={precision: {choice: [fp32, bf16]}}"))
    assert len(other["rehearsals"]) == 1
    assert estimate_text(other).endswith("Measured at one value alone of precision.")


def test_gpus_are_paid_for_by_the_hour_and_repeats_count_in_the_most(tmp_path: Path) -> None:
    resources = "resources={workers: 2, gpus: 2, price_per_gpu_hour: 3}"
    found = estimated(study(tmp_path, resources, "search.seeds=3", "stop_early={after: 2}"), at_once=3)
    trial = found["seconds_of_a_trial"]["most"]
    assert found["trials"] == {"least": 7, "most": 21}
    assert found["gpu_hours"] == pytest.approx({"least": 7 * trial * 4 / 3600, "most": 21 * trial * 4 / 3600})
    assert found["cost"] == pytest.approx({end: 3 * hours for end, hours in found["gpu_hours"].items()})
    rounds = {"least": math.ceil(7 / 3), "most": 7}
    assert found["hours"] == pytest.approx(
        {end: (START_OF_RAY + 10 + rounds[end] * trial) / 3600 for end in ("least", "most")}
    )
    assert found["at_most"]
    text = estimate_text(found)
    assert "GPU-hours" in text
    assert "At most" in text


@pytest.mark.parametrize(("share", "paid"), [(0.5, 3), (0.99, 6), (1.01, None)])
def test_a_budget_that_ends_the_sweep_early_says_after_how_many_trials(
    share: float, paid: int | None, tmp_path: Path
) -> None:
    resources = "resources={gpus: 1, price_per_gpu_hour: 3}"
    found = estimated(study(tmp_path, resources))
    limits = {"cost": share * found["cost"]["most"], "gpu_hours": 100.0}
    budgeted = estimated(study(tmp_path, resources, *(f"budget.{name}={limit}" for name, limit in limits.items())))
    assert budgeted.get("trials_in_budget") == (paid and {"least": paid, "most": paid})
    assert ("budget ends it after" in estimate_text(budgeted)) == (paid is not None)


@pytest.mark.parametrize(
    ("resources", "memory", "gpus", "said"),
    [
        ("{gpus: 1}", 4, "1/3", "1/3 puts 3 trials on one: a trial takes 4.92 GB of 17.2 GB"),
        ("{gpus: 1}", 1, "1/10", "1/10 puts 10 trials on one"),
        ("{gpus: 1}", 12, 1, "whole GPUs: a trial takes 13"),
        ("{gpus: 1}", 20, None, "whole GPUs: a trial takes 22"),
        ("{workers: 2, gpus: 1}", 1, 1, "whole GPUs: its workers share no GPU"),
    ],
)
def test_a_share_of_a_gpu_is_advised_that_packs_whole_trials(
    resources: str, memory: float, gpus: Any, said: str, tmp_path: Path
) -> None:
    def held(recipe: Recipe) -> Rehearsal:
        return replace(took(recipe), memory=int(memory * 2**30), gpu_memory=16 * 2**30)

    asked = study(tmp_path, f"resources={resources}")
    found = estimate(asked, 2, held)
    assert found["share_of_a_gpu"]["gpus"] == gpus
    assert said in estimate_text(found)
    if isinstance(gpus, str):
        assert study(tmp_path, f"resources.gpus={gpus}").resources.gpus == pytest.approx(1 / int(gpus[2:]))


def test_check_measures_here_and_says_what_the_sweep_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_study(tmp_path)
    done = CliRunner().invoke(main, ["check", str(path), "--measure", "--format", "json"], catch_exceptions=False)
    found = json.loads(done.stdout)["estimate"]
    (rehearsal,) = found["rehearsals"]
    assert rehearsal["seconds_of_a_step"] > 0
    assert found["seconds_of_a_trial"]["most"] == pytest.approx(
        START_OF_TRIAL
        + rehearsal["seconds_to_prepare"]
        + 4 * rehearsal["seconds_of_a_step"]
        + 2 * rehearsal["seconds_of_an_evaluation"]
    )
    assert found["storage_bytes"]["least"] > 100_000
    assert not (tmp_path / "runs" / "tiny").exists()
    text = estimate_text(found)
    assert "ran on a CPU" in text
    for words in ("trials", "optimiser steps", "CPU-hours", "wall time", "storage", "peak memory of a process"):
        assert words in text


def test_a_trial_that_diverges_in_its_first_steps_is_a_sentence(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        main,
        ["check", str(write_study(tmp_path)), "--measure", "--set", "optim.lr=1e30", "--set", "resources.at_once=1"],
        catch_exceptions=False,
    )
    assert done.exit_code == 1
    assert "the training loss became" in done.stderr
