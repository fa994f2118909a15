"""Budgets: what is asked and refused, how time is counted over all lives, and how a sweep ends that has spent it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sweeps.budget import SPENT, Purse, Spent, over_budget, spent_by
from sweeps.cli import main
from sweeps.conclusion import conclude
from sweeps.launch import Outcome
from sweeps.study import Budget, Study, load_study
from sweeps.study.space import Uniform
from tests.sweeps.commands import write_study
from tests.sweeps.questions import written
from tests.sweeps.sessions import Session, launched, result


class Clock:
    """Goes on by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Eight different questions; a trial takes two workers with half a GPU each."""
    settings = ["search={sampler: random, trials: 8}", f"storage={tmp_path}/runs"]
    plain = load_study(str(write_study(tmp_path)), settings)
    resources = dataclasses.replace(plain.resources, gpus=1, price_per_gpu_hour=3.0)
    return dataclasses.replace(plain, knobs={"loss.alpha": Uniform((0, 1))}, resources=resources)


def process(study: Study, **budget: Any) -> tuple[Session, Clock]:
    """One that launches or goes on, its clock stopped."""
    only, clock = launched(dataclasses.replace(study, budget=Budget(**budget))), Clock()
    only.sweep.purse = Purse(only.sweep.study, clock)
    return only, clock


def test_gpu_hours_are_those_of_all_gpus_that_trials_hold(study: Study) -> None:
    clock = Clock()
    purse = Purse(study, clock)
    for passed, event in ((5, "start a"), (10, "start b"), (100, "end a"), (20, "end b"), (7, "")):
        clock.now += passed
        verb, _, trial = event.partition(" ")
        if verb:
            (purse.started if verb == "start" else purse.ended)(trial)
    # One GPU each: a held its own for 110 seconds, b for 120.
    assert purse.count() == Spent(142, 230)
    assert purse.count().amounts(3.0) == pytest.approx(
        {"hours": 142 / 3600, "gpu_hours": 230 / 3600, "cost": 690 / 3600}
    )
    assert "cost" not in purse.count().amounts(None)


def test_what_one_process_spent_the_next_one_knows(study: Study) -> None:
    clock = Clock()
    first = Purse(study, clock)
    first.started("0000")
    clock.now += 3600
    first.note()  # and is killed
    second = Purse(study, clock)
    clock.now += 60
    assert second.count() == Spent(3660, 3600)
    second.keep()
    assert spent_by(study) == Spent(3660, 3600)


@pytest.mark.parametrize(
    ("budget", "spent", "said"),
    [
        ({"hours": 2}, Spent(7199, 0), ""),
        ({"hours": 2}, Spent(7200, 0), "the budget of 2 hours is spent"),
        ({"gpu_hours": 1.5}, Spent(0, 5436), "the budget of 1.5 GPU-hours is spent"),
        ({"cost": 3}, Spent(0, 3600), "the budget of 3 (cost) is spent"),
        ({"hours": 9, "cost": 3}, Spent(100, 3600), "the budget of 3 (cost) is spent"),
        ({"hours": 9, "cost": 30, "gpu_hours": 10}, Spent(7200, 3600), ""),
    ],
)
def test_the_first_limit_that_is_reached_ends_it(
    budget: dict[str, float], spent: Spent, said: str, study: Study
) -> None:
    assert over_budget(dataclasses.replace(study, budget=Budget(**budget)), spent) == said


def test_at_the_limit_no_trial_starts_and_running_ones_finish(study: Study) -> None:
    only, clock = process(study, hours=1)
    first, second = only.begin(), only.begin()
    clock.now += 3600
    assert only.sweep.next_assignment() is None
    assert not only.sweep.has_repeats()
    assert only.sweep.goes_on(first, result(2))
    for trial in (first, second):
        only.sweep.evaluated(trial, result(4, final=True))
        only.sweep.ended(trial)
    only.sweep.close()
    assert {record.state for record in only.on_disk.values()} == {"finished"}
    assert len(only.on_disk) == 2
    assert only.shown.getvalue().count("warning: the budget of 1 hours is spent") == 1
    assert only.heard.sweep == pytest.approx({"spent/hours": 1.0, "spent/gpu_hours": 2.0, "spent/cost": 6.0})


def test_where_they_are_to_stop_they_do_at_their_next_evaluation_and_a_resume_goes_on(study: Study) -> None:
    only, clock = process(study, gpu_hours=1, then="stop")
    first, second = only.begin(), only.begin()
    assert only.sweep.goes_on(first, result(2))
    only.sweep.evaluated(first, result(2))
    clock.now += 1800
    assert only.sweep.goes_on(second, result(4, final=True))  # its work is done
    only.sweep.evaluated(second, result(4, final=True))
    only.sweep.ended(second)
    assert not only.sweep.goes_on(first, result(3))
    only.sweep.evaluated(first, result(3))
    only.sweep.ended(first)
    assert only.sweep.next_assignment() is None
    only.sweep.close()
    records = only.on_disk
    assert [(r.state, r.step, r.reason) for r in records.values()] == [("running", 3, ""), ("finished", 4, "")]
    assert only.heard.by_trial[first] == ["start", 2, 3, "running"]

    resumed, _ = process(study, gpu_hours=2, then="stop")
    assert resumed.begin() == first
    resumed.sweep.evaluated(first, result(4, final=True))
    resumed.sweep.ended(first)
    assert [evaluation.step for evaluation in resumed.on_disk[first].evaluations] == [2, 3, 4]
    assert resumed.on_disk[first].state == "finished"
    assert resumed.sweep.next_assignment() is not None


@pytest.mark.parametrize("then", ["finish", "stop"])
def test_a_sweep_that_has_spent_its_budget_says_how_to_go_on(
    then: str, study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    only, clock = process(study, hours=1, cost=100, then=then)
    trial = only.begin()
    clock.now += 3600
    if then == "finish":
        only.run(trial)
    else:
        assert not only.sweep.goes_on(trial, result(2))
        only.sweep.evaluated(trial, result(2))
        only.sweep.ended(trial)
    only.sweep.close()
    code = conclude(Outcome(only.sweep, "sqlite:///x", ""), None, "local")
    assert code == (0 if then == "finish" else 1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("the budget of 1 hours is spent; `sweep resume ")
    assert f"--storage {study.storage} --set budget.hours=2`" in line


def test_a_complete_sweep_says_nothing_of_its_budget(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    only, clock = process(dataclasses.replace(study, search=dataclasses.replace(study.search, trials=1)), hours=1)
    only.run(only.begin())
    clock.now += 3600
    only.sweep.close()
    assert conclude(Outcome(only.sweep, "sqlite:///x", ""), None, "local") == 0
    assert capsys.readouterr().err == ""


def test_a_resume_without_budget_is_refused_before_anything_starts(study: Study, tmp_path: Path) -> None:
    only, clock = process(study, hours=1)
    only.run(only.begin())
    clock.now += 7200
    only.sweep.close()
    before = (tmp_path / "runs" / "tiny" / "study.json").read_bytes()
    arguments = ["resume", study.path, "--storage", study.storage]
    for more in ([], ["--set", "budget.hours=2"], ["--trials", "9"]):
        done = CliRunner().invoke(main, [*arguments, *more], catch_exceptions=False)
        assert done.exit_code == 2
        limit = 2 if "budget.hours=2" in more else 1
        assert done.stderr == (f"the budget of {limit} hours is spent; `--set budget.hours={2 + limit}` raises it\n")
    assert (tmp_path / "runs" / "tiny" / "study.json").read_bytes() == before


def test_a_sweep_without_a_budget_counts_too(study: Study) -> None:
    only = launched(dataclasses.replace(study, budget=None))
    only.run(only.begin())
    only.sweep.close()
    assert json.loads(only.sweep.folder.read(SPENT))["seconds"] > 0
    assert only.heard.sweep["spent/gpu_hours"] > 0
    assert not only.sweep.purse.over()


@pytest.mark.parametrize(
    ("budget", "resources", "expected"),
    [
        ("{}", "{gpus: 1}", ["budget: expected at least one limit: gpu_hours, hours or cost, got none"]),
        ("{then: stop}", "{gpus: 1}", ["budget: expected at least one limit"]),
        ("{gpu_hours: 1}", "{cpus: 1}", ["budget.gpu_hours: no trial takes a GPU (resources.gpus is 0)"]),
        ("{cost: 1}", "{cpus: 1}", ["budget.cost: no trial takes a GPU"]),
        ("{cost: 1}", "{gpus: 1}", ["budget.cost: nothing says what a GPU costs; expected resources.price_per_gpu"]),
        ("{hour: 1}", "{gpus: 1}", ["budget.hour: unknown key; did you mean 'hours'?"]),
        ("{hours: 0}", "{gpus: 1}", ["budget.hours: expected a number above 0, got 0"]),
        ("{hours: 1, then: halt}", "{gpus: 1}", ["budget.then: expected 'finish' or 'stop', got 'halt'"]),
        ("{cost: 1, hours: 1/2}", "{gpus: 1, price_per_gpu_hour: 2.5}", []),
        ("{hours: 1e-3}", "{cpus: 1}", []),
    ],
)
def test_a_budget_that_cannot_be_meant_is_refused_by_its_key(
    budget: str, resources: str, expected: list[str], tmp_path: Path
) -> None:
    from sweeps.source import read_source
    from sweeps.study import draft_study

    study = written(tmp_path / "question.yaml", ("{workers: 2}", resources), ("storage: runs", f"budget: {budget}"))
    found = [str(problem).split(": ", 1)[1] for problem in draft_study(read_source(study))[1]]
    assert len(found) == len(expected)
    assert all(sentence.startswith(start) for sentence, start in zip(found, expected, strict=True)), found
