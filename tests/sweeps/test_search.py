"""Search over every sampler, with made-up results: what it asks depends on the results alone, and what counts in it."""

import copy
import itertools
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from optuna.trial import TrialState

from sweeps import memory
from sweeps.results import Evaluation, Results, TrialRecord
from sweeps.results.records import State, Value
from sweeps.search import Search
from sweeps.study import Study, load_study
from sweeps.study.keys import Search as Plan

SAMPLERS = get_args(get_type_hints(Plan)["sampler"])
GUIDED = [sampler for sampler in SAMPLERS if sampler not in ("random", "grid")]
MIXED = {
    "loss.alpha": "{log_uniform: [0.01, 10]}",
    "attack.stride": "{uniform: [0.1, 1]}",
    "optim.warmup": "{integer: [0, 20]}",
    "attack.ball.eps": "{choice: [2/255, 4/255, 8/255]}",
}
LISTED = {
    "optim.warmup": "{integer: [0, 6]}",
    "attack.ball.eps": "{choice: [2/255, 4/255, 8/255]}",
    "precision": "{choice: [fp32, bf16]}",
}
OBJECTIVES = {1: "{clean: max}", 2: "{clean: max, pgd: max}", 3: "{clean: max, pgd: max, loss: min}"}


def question(sampler: str, *settings: str, seed: int = 0, trials: int = 16, objectives: int = 2) -> Study:
    """Four kinds of knobs; for the grid, the kinds that can be listed."""
    knobs = [f"{path}: {knob}" for path, knob in (LISTED if sampler == "grid" else MIXED).items()]
    return load_study(
        "alpha_study",
        [
            f"search={{sampler: {sampler}, seed: {seed}, trials: {trials}}}",
            f"knobs={{{', '.join(knobs)}}}",
            f"objectives={OBJECTIVES[objectives]}",
            *settings,
        ],
    )


def trade_off(knobs: dict[str, Any]) -> dict[str, float]:
    """Clean accuracy grows with alpha and falls with the stride, robustness the other way round."""
    alpha = (math.log10(knobs["loss.alpha"]) + 2) / 3 if "loss.alpha" in knobs else knobs["optim.warmup"] / 6
    stride = knobs.get("attack.stride", 0.5)
    clean, pgd = 0.5 + 0.4 * alpha - 0.2 * stride, 0.7 - 0.5 * alpha + 0.1 * stride
    return {"clean": clean, "pgd": pgd, "loss": 1 - clean * pgd}


def ending(number: int) -> State:
    """Mostly finished, some failed, some stopped."""
    return "failed" if number % 5 == 3 else "stopped" if number % 7 == 4 else "finished"


def asked(search: Search, number: int) -> TrialRecord:
    knobs, sampler = search.ask()
    return TrialRecord(f"{number:04d}", knobs, {}, "", 0, "running", sampler=sampler)


def end(search: Search, record: TrialRecord, metrics: dict[str, float], state: State = "finished") -> None:
    record.state, record.evaluations = state, [Evaluation(10, metrics, 1.0)]
    search.tell(record)


def play(
    study: Study,
    trials: int = 16,
    at_once: int = 1,
    ends_as: Callable[[int], State] = ending,
    before_asking: Callable[[list[TrialRecord]], None] = lambda records: None,
) -> tuple[Search, list[TrialRecord]]:
    """A sweep with ``at_once`` trials under way that end in no particular order."""
    search, order = Search(study), random.Random(1)  # noqa: S311  # no secret
    records: list[TrialRecord] = []
    under_way: list[TrialRecord] = []
    while under_way or len(records) < trials:
        while len(under_way) < at_once and len(records) < trials:
            before_asking(records)
            records.append(asked(search, len(records)))
            under_way.append(records[-1])
        record = under_way.pop(order.randrange(len(under_way)))
        end(search, record, trade_off(record.knobs), ends_as(int(record.trial)))
    return search, records


def knobs_of(records: list[TrialRecord]) -> list[dict[str, Value]]:
    return [record.knobs for record in records]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_suggestion_lies_in_the_ranges_of_all_knobs(sampler: str) -> None:
    study = question(sampler)
    _, records = play(study)
    for record in records:
        assert list(record.knobs) == list(study.knobs)
        for path, knob in study.knobs.items():
            value: Any = record.knobs[path]
            listed, ends = knob.grid(), list[Any](knob.ends())
            assert value in listed if listed is not None else ends[0] <= value <= ends[1]


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_rebuilt_from_the_results_at_any_moment_asks_as_the_undisturbed_one(
    sampler: str, at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "NEWEST", 6)  # so that some of the trials are forgotten
    study, rebuilt = question(sampler), []

    def interrupted(records: list[TrialRecord]) -> None:
        results = Results(str(tmp_path / "results.parquet"))
        results.records = {record.trial: record for record in records}
        results.save()
        search = Search(study)
        for record in Results.read(results.uri).records.values():
            search.remember(record)
        rebuilt.append(asked(search, len(records)))

    _, records = play(study, at_once=at_once, before_asking=interrupted)
    assert [(record.knobs, record.sampler) for record in rebuilt] == [(r.knobs, r.sampler) for r in records]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_seed_and_the_same_results_give_the_same_suggestions(sampler: str) -> None:
    first, second = (play(question(sampler))[1] for _ in range(2))
    assert knobs_of(first) == knobs_of(second)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_another_seed_asks_differently_from_the_first_trial_on(sampler: str) -> None:
    first, second = (asked(Search(question(sampler, seed=seed)), 0).knobs for seed in (0, 1))
    assert first != second


@pytest.mark.parametrize("seed", [0, 1])
def test_the_grid_asks_every_point_exactly_once(seed: int) -> None:
    study = question("grid", seed=seed, trials=1000)
    _, records = play(study, study.num_trials(), at_once=3)
    found = [tuple(record.knobs.values()) for record in records]
    assert len(found) == len(set(found)) == 7 * 3 * 2
    assert set(found) == set(itertools.product(*(knob.grid() or [] for knob in study.knobs.values())))


@pytest.mark.parametrize("objectives", OBJECTIVES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_only_finished_trials_count_with_values_and_none_stays_open(sampler: str, objectives: int) -> None:
    study = question(sampler, objectives=objectives)
    search, records = play(study, at_once=2)
    trials = search._optuna.get_trials()
    assert len(trials) == len(records)
    for trial, record in zip(trials, records, strict=True):
        assert trial.params == record.knobs
        if record.state == "finished":
            assert trial.state == TrialState.COMPLETE
            assert trial.values == [record.metrics[name] for name in study.objectives]
        else:
            assert trial.state == {"failed": TrialState.FAIL, "stopped": TrialState.PRUNED}[record.state]
            assert trial.values is None


@pytest.mark.parametrize("state", ["failed", "stopped"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sweep_of_which_nothing_finishes_is_still_asked_to_its_end(sampler: str, state: State) -> None:
    search, records = play(question(sampler), 14, ends_as=lambda number: state)
    assert len({tuple(record.knobs.values()) for record in records}) > 10
    assert not search._optuna.get_trials(states=[TrialState.COMPLETE, TrialState.RUNNING])


@pytest.mark.parametrize("objective", [math.nan, math.inf, -math.inf, None])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_finished_trial_without_a_finite_objective_is_a_failure(sampler: str, objective: float | None) -> None:
    search = Search(question(sampler))
    record = asked(search, 0)
    end(search, record, {"clean": 0.9} if objective is None else {"clean": 0.9, "pgd": objective})
    assert search._optuna.get_trials()[0].state == TrialState.FAIL
    assert asked(search, 1).knobs != record.knobs


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_trials_that_are_under_way_stay_open_until_they_are_told(sampler: str) -> None:
    search = Search(question(sampler))
    records = [asked(search, number) for number in range(8)]
    assert len({tuple(record.knobs.values()) for record in records}) == 8
    for record in reversed(records):
        open_before = len(search._optuna.get_trials(states=[TrialState.RUNNING]))
        end(search, record, trade_off(record.knobs))
        assert len(search._optuna.get_trials(states=[TrialState.RUNNING])) == open_before - 1


@pytest.mark.parametrize("state", ["pending", "running"])
def test_an_unfinished_trial_of_an_earlier_process_is_remembered_as_open(state: State) -> None:
    study = question("tpe")
    record = asked(Search(study), 0)
    record.state = state
    search = Search(study)
    search.remember(copy.deepcopy(record))
    assert [trial.state for trial in search._optuna.get_trials()] == [TrialState.RUNNING]
    end(search, record, trade_off(record.knobs))
    assert [trial.state for trial in search._optuna.get_trials()] == [TrialState.COMPLETE]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_with_constraints_only_feasible_trials_are_the_best(sampler: str) -> None:
    study = question(sampler, "constraints={clean: '>= 0.6', pgd: '>= 0.3'}")
    search, records = play(study)
    best = {f"{trial.number:04d}" for trial in search._optuna.best_trials}
    feasible = {record.trial for record in records if record.state == "finished" and study.feasible(record.metrics)}
    assert best
    assert best <= feasible < {record.trial for record in records}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_constraint_on_what_a_trial_did_not_measure_is_violated_and_harms_nobody(sampler: str) -> None:
    search = Search(question(sampler, "constraints={worst: '>= 0.3'}"))
    for number in range(16):
        record = asked(search, number)
        end(search, record, trade_off(record.knobs) | ({"worst": 0.5} if number % 3 else {}))
    assert {trial.number % 3 for trial in search._optuna.best_trials} <= {1, 2}


@pytest.mark.parametrize("seed", range(3))
def test_tpe_asks_less_in_a_region_that_the_constraints_forbid(seed: int) -> None:
    """Clean accuracy is what alpha buys, so asking for much of it forbids small alphas."""
    forbidden = []
    for settings in ([], ["constraints={clean: '>= 0.65'}"]):
        study = question("tpe", *settings, seed=seed, trials=40)
        _, records = play(study, 40, ends_as=lambda number: "finished")
        forbidden.append(sum(record.metrics["clean"] < 0.65 for record in records[10:]))
    assert forbidden[1] < 0.7 * forbidden[0]


@pytest.mark.parametrize("way", ["max", "min"])
@pytest.mark.parametrize("sampler", GUIDED)
def test_a_guided_sampler_moves_the_way_of_the_objective(sampler: str, way: str) -> None:
    study = question(sampler, f"objectives={{clean: {way}}}", trials=24)
    _, records = play(study, 24, ends_as=lambda number: "finished")
    clean = [record.metrics["clean"] for record in records]
    early, late = sum(clean[:6]) / 6, sum(clean[-6:]) / 6
    assert late > early if way == "max" else late < early


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_study_without_knobs_asks_for_its_recipe_as_it_stands(sampler: str) -> None:
    study = load_study("alpha_study", ["knobs=null", f"search.sampler={sampler}"])
    search, records = Search(study), []
    for number in range(study.num_trials()):
        records.append(asked(search, number))
        end(search, records[-1], {"clean": 0.9, "pgd": 0.5})
    assert knobs_of(records) == [{}]
