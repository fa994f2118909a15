"""Verdicts of early stopping in a sweep that is killed: what was decided is decided, and on disk."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.trial import TrialState

from sweeps.study import Study, load_study
from tests.sweeps.sessions import Session, result, session

QUALITY = [0.5, 0.9, 0.2, 0.7, 0.1, 0.8]
LAST = 60


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Six trials of 60 steps, evaluated at every tenth; rungs at 10, 20 and 40."""
    steps = ["optim={lr: 1e-3, steps: 60}", "evaluation.every=10", "stop_early={after: 10, keep: 1/2}"]
    return load_study(
        "alpha_study", [*steps, "search={sampler: random, trials: 6}", "name=tiny", f"storage={tmp_path}/runs"]
    )


def reports() -> Iterator[tuple[int, int]]:
    """Trial and step, as the trials come along: an early one is slow."""
    yield from ((trial, 10) for trial in (1, 3, 0, 2))
    yield from ((trial, step) for step in (20, 30) for trial in (3, 1, 0, 2))
    yield from ((trial, step) for step in (10, 20, 30, 40, 50, LAST) for trial in (5, 4))
    yield from ((trial, step) for step in (40, 50, LAST) for trial in (3, 1, 0, 2))


def report(only: Session, trial: int, step: int) -> bool:
    """What Ray does with a result: asks, tells, and ends the trial; whether it was to be stopped."""
    values = {"clean": QUALITY[trial] * step / LAST, "pgd": QUALITY[trial] / 2, "loss": 1.0}
    outcome = result(step, final=step == LAST) | {"metrics": values}
    goes_on = only.sweep.goes_on(f"{trial:04d}", outcome)
    only.sweep.evaluated(f"{trial:04d}", outcome)
    return not goes_on


def run(only: Session, events: list[tuple[int, int]]) -> None:
    """Whatever is not over reports."""
    for trial, step in events:
        name = f"{trial:04d}"
        is_over = only.sweep.results.records[name] not in only.sweep.unfinished()
        if not is_over and (report(only, trial, step) or step == LAST):
            only.sweep.ended(name)


def outcome(only: Session) -> list[tuple[str, str, int]]:
    return [(record.state, record.reason, record.step) for record in only.records]


def test_a_sweep_that_is_killed_at_any_moment_stops_whom_an_undisturbed_one_stops(study: Study) -> None:
    events = list(reports())
    undisturbed = session(study)
    for _ in range(6):
        undisturbed.begin()
    run(undisturbed, events)
    assert {record.state for record in undisturbed.records} == {"finished", "stopped"}
    for moment in range(1, len(events), 3):
        own = dataclasses.replace(study, name=f"killed-{moment}")
        killed = session(own)
        for _ in range(6):
            killed.begin()
        run(killed, events[:moment])
        resumed = session(own)  # knows what is on disk
        for _ in range(len(resumed.sweep.unfinished())):
            resumed.begin()
        run(resumed, events[:moment])  # a trial tells everything again
        run(resumed, events[moment:])
        assert outcome(resumed) == outcome(undisturbed)


def test_a_trial_that_was_told_to_stop_is_not_run_again_where_the_sweep_died_before_its_end(study: Study) -> None:
    killed = session(study)
    trials = [killed.begin() for _ in range(3)]
    assert [report(killed, trial, 10) for trial in (1, 0, 2)] == [False, True, True]
    resumed = session(study)
    assert [record.state for record in resumed.records] == ["stopped", "running", "stopped"]
    assert resumed.records[0].reason == "among the worse at step 10"
    assert resumed.heard.by_trial == {trials[0]: ["stopped"], trials[2]: ["stopped"]}
    pruned = resumed.sweep._search._optuna.get_trials(states=[TrialState.PRUNED])
    assert [trial.number for trial in pruned] == [0, 2]
    assert resumed.assignments()[0] == trials[1]


def test_repeats_are_never_stopped(study: Study) -> None:
    only = session(study)
    for _ in range(3):
        only.begin()
    only.records[2].repeat_of = "0001"
    assert [report(only, trial, 10) for trial in (1, 0, 2)] == [False, True, False]


def test_nobody_is_stopped_without_a_rule_or_after_a_failure(study: Study) -> None:
    for plan in (None, study.stop_early):
        only = session(dataclasses.replace(study, stop_early=plan, name=f"{plan is None}"))
        trials = [only.begin() for _ in range(3)]
        assert not report(only, 1, 10)
        assert report(only, 0, 10) == (plan is not None)
        assert only.sweep.goes_on(trials[2], result(10, failure="the loss became nan"))
