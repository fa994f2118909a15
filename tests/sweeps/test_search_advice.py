"""Over every sampler: points come first, earlier studies advise, changed ranges hold; all of it after a rebuild too."""

import copy
from typing import Any

import pytest
from optuna.trial import TrialState

from sweeps.earlier import Advice, complete, fitting
from sweeps.results import TrialRecord
from sweeps.search import Search
from sweeps.study import Study, load_study
from tests.sweeps.test_search import GUIDED, SAMPLERS, asked, end, question, trade_off

POINTS = "search.points=[{optim.warmup: 3}, {attack.ball.eps: 8/255, recipe.optim.warmup: 5}, {optim.warmup: 3}]"


def advice_for(study: Study, count: int) -> list[Advice]:
    """Finished trials of a study with the same knobs, anywhere in their ranges."""
    other = Search(question("grid" if study.search.sampler == "grid" else "random", seed=5))
    knobs = [other.ask()[0] for _ in range(count)]
    return [Advice(str(n), complete(study.recipe_at(each)), trade_off(each)) for n, each in enumerate(knobs)]


def within(study: Study, record: TrialRecord) -> bool:
    return all(knob.admit(record.knobs[path]) == record.knobs[path] for path, knob in study.knobs.items())


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_points_come_first_and_what_they_leave_out_is_filled_in(sampler: str) -> None:
    study = question(sampler, POINTS)
    search = Search(study)
    records = [asked(search, number) for number in range(4)]
    assert [record.knobs["optim.warmup"] for record in records[:3]] == [3, 5, 3]
    assert records[1].knobs["attack.ball.eps"] == 8 / 255
    assert all(list(record.knobs) == list(study.knobs) and within(study, record) for record in records)
    assert len({tuple(record.knobs.values()) for record in records}) == 4
    assert [bool(record.sampler.get("fixed_params")) for record in records] == [True, True, True, False]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_rebuilt_search_with_points_and_advice_asks_as_the_undisturbed_one(sampler: str) -> None:
    study = question(sampler, POINTS)
    advice = advice_for(study, 2)
    search, records = Search(study, advice), list[TrialRecord]()
    for number in range(9):
        rebuilt = Search(study, advice)
        for record in copy.deepcopy(records):
            rebuilt.remember(record)
        records.append(asked(search, number))
        again = asked(rebuilt, number)
        assert (again.knobs, again.sampler) == (records[-1].knobs, records[-1].sampler)
        end(search, records[-1], trade_off(records[-1].knobs))


@pytest.mark.parametrize("way", ["max", "min"])
@pytest.mark.parametrize("sampler", GUIDED)
def test_good_advice_makes_a_guided_sampler_ask_better_from_its_first_trial_on(sampler: str, way: str) -> None:
    study = question(sampler, f"objectives={{clean: {way}}}")
    advice = advice_for(study, 24)
    clean = {guided: list[float]() for guided in (True, False)}
    for guided, found in clean.items():
        for seed in range(3):
            search = Search(question(sampler, f"objectives={{clean: {way}}}", seed=seed), advice if guided else [])
            found.append(trade_off(search.ask()[0])["clean"])
    better = sum(clean[True]) - sum(clean[False])
    assert better > 0 if way == "max" else better < 0


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_advice_is_no_trial_of_the_study(sampler: str) -> None:
    study = question(sampler)
    advised, alone = Search(study, advice_for(study, 3)), Search(study)
    assert len(advised._optuna.get_trials(states=[TrialState.COMPLETE])) == 3
    for number in range(2):
        record = asked(advised, number)
        end(advised, record, trade_off(record.knobs))
        assert advised._optuna.get_trials()[-1].values == [record.metrics[name] for name in study.objectives]
    if sampler == "grid":
        again = [alone.ask()[0] for _ in range(4)]
        assert [advised.ask()[0] for _ in range(2)] == again[2:]


CHANGED = ["knobs.optim.warmup={integer: [2, 9]}", "knobs.seed={choice: [0, 1]}", "knobs.precision=null"]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_after_a_change_of_the_knobs_every_sampler_asks_in_the_new_ranges(sampler: str) -> None:
    before = question("grid" if sampler == "grid" else "random")
    settings = [change for change in CHANGED if sampler == "grid" or "precision" not in change]
    after, records = question(sampler, *settings), list[TrialRecord]()
    first = Search(before)
    for number in range(8):
        records.append(asked(first, number))
        records[-1].recipe = before.recipe_at(records[-1].knobs)
        end(first, records[-1], trade_off(records[-1].knobs), "stopped" if number == 2 else "finished")
    search = Search(after)
    for record in records:
        search.remember(record)
    fit = [r for r in records if r.knobs["optim.warmup"] in range(2, 10) and r.knobs.get("precision") != "bf16"]
    assert 0 < len(fit) < 8
    assert [trial.params["optim.warmup"] for trial in search._optuna.get_trials()] == [
        record.knobs["optim.warmup"] for record in fit
    ]
    for number in range(8, 9 if sampler == "gp" else 11):
        record = asked(search, number)
        assert list(record.knobs) == list(after.knobs)
        assert within(after, record)
        end(search, record, trade_off(record.knobs))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_trial_outside_the_changed_knobs_may_still_end(sampler: str) -> None:
    record = asked(Search(question(sampler, "knobs={optim.warmup: {integer: [0, 1]}}")), 0)
    search = Search(question(sampler, "knobs={optim.warmup: {integer: [4, 5]}}"))
    search.remember(record)
    end(search, record, trade_off({"optim.warmup": 0}))
    assert search._optuna.get_trials() == []
    assert asked(search, 1).knobs["optim.warmup"] in (4, 5)


def test_advice_fits_where_every_knob_has_a_value_in_its_range_and_every_objective_is_known() -> None:
    study = load_study(
        "alpha_study",
        [
            "knobs={loss.alpha: {uniform: [0, 1]}, attack.stride: {uniform: [0.2, 1]}}",
            "knobs.data.shots={choice: [null, 4]}",
            "constraints={worst: '>= 0.1'}",
        ],
    )
    metrics = {"clean": 0.9, "pgd": 0.5, "worst": 0.5}

    def fits(metrics: dict[str, float], *settings: str) -> Any:
        recipe = complete(load_study("alpha_study", ["knobs=null", *settings]).plain_recipe)
        return [knobs for knobs, _ in fitting(study, [Advice("0000", recipe, metrics)])]

    fixed = {"loss.alpha": 0.0, "attack.stride": 0.5, "data.shots": None}
    assert fits(metrics) == [fixed]
    assert fits(metrics, "attack={kind: pgd, ball: {kind: linf, eps: 1/255}}") == [{**fixed, "attack.stride": 0.25}]
    assert fits(metrics, "loss.alpha=2") == []
    assert fits(metrics, "data.shots=16") == []
    without_stride = ("loss={kind: tecoa, alpha: 0.5}", "attack={kind: fgsm, ball: {kind: linf, eps: 1/255}}")
    assert fits(metrics, *without_stride) == []
    assert fits({"clean": 0.9, "worst": 0.5}) == []
    assert fits({"clean": 0.9, "pgd": 0.5}) == []
