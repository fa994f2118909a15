"""Early stopping on simulated streams: against a plain second implementation, across kills, against Ray's own rules."""

import dataclasses
import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, TrialScheduler

from sweeps.results import Evaluation, TrialRecord
from sweeps.stop_early import Halving, Rungs, Stopping
from sweeps.study import StopEarly, Study, load_study
from tests.sweeps import plain_ranking as plain

OBJECTIVES = {1: "{clean: max}", 2: "{clean: max, pgd: max}", 3: "{clean: max, pgd: max, loss: min}"}
STEPS = range(10, 90, 10)
LAST = 80
Report = tuple[int, int, dict[str, float]]  # trial, step, metrics


def study(stop_early: str, objectives: int = 2, *settings: str, seed: int = 0) -> Study:
    """80 steps, evaluated at every tenth."""
    return load_study(
        "alpha_study",
        [
            "recipe.evaluation.every=10",
            f"stop_early={stop_early}",
            f"objectives={OBJECTIVES[objectives]}",
            f"search.seed={seed}",
            *settings,
        ],
    )


def stream(seed: int, trials: int = 24) -> Iterator[Report]:
    """Reports in a random order, each trial's own in the order of its steps; values repeat, some are no numbers."""
    order = random.Random(seed)  # noqa: S311  # no secret
    left = {trial: iter(STEPS) for trial in range(trials)}
    while left:
        trial = order.choice(list(left)[:4])
        step = next(left[trial], None)
        if step is None:
            del left[trial]
            continue
        metrics = {name: order.randrange(12) / 12 for name in ("clean", "pgd", "loss")}
        yield trial, step, metrics if order.random() > 0.05 else metrics | {"clean": float("nan")}


def verdict(stopping: Stopping, report: Report) -> bool:
    """As the sweep asks."""
    record, step, metrics = record_of(report[0]), *report[1:]
    return not stopping.remember(record, step, metrics) or step == LAST or stopping.goes_on(record, step, metrics)


def record_of(trial: int) -> TrialRecord:
    """With knobs all over their range."""
    return TrialRecord(f"{trial:04d}", {"loss.alpha": 0.03 * 1000 ** (0.618 * trial % 1)}, {}, "", 0, "running")


def played(stopping: Stopping, reports: Iterator[Report]) -> list[tuple[Report, bool]]:
    """Every report that is made, and whether its trial goes on."""
    stopped, verdicts = set(), []
    for report in reports:
        if report[0] not in stopped:
            verdicts.append((report, verdict(stopping, report)))
            if not verdicts[-1][1]:
                stopped.add(report[0])
    return verdicts


def recorded(verdicts: list[tuple[Report, bool]]) -> list[TrialRecord]:
    records: dict[int, TrialRecord] = {}
    for (trial, step, metrics), _ in verdicts:
        record = records.setdefault(trial, record_of(trial))
        record.evaluations.append(Evaluation(step, metrics, float(step)))
    return list(records.values())


class PlainHalving:
    """The rule from its definition, from the whole history at every question."""

    def __init__(self, keep: float, spares_front: bool, bracket: Any, objectives: int) -> None:
        self.keep, self.spares_front, self.bracket, self.objectives = keep, spares_front, bracket, objectives
        self.history: list[Report] = []

    def goes_on(self, trial: int, step: int, metrics: dict[str, float]) -> bool:
        self.history.append((trial, step, metrics))
        rungs = [rung for rung in self.bracket(trial) if rung <= step]
        if metrics["clean"] != metrics["clean"] or step == LAST or not rungs:
            return True
        seen = {}  # the first evaluation at the rung: at or past it, and before the next one
        for other, at, values in self.history:
            reached = [rung for rung in self.bracket(other) if rung <= at]
            is_there = reached[-1:] == rungs[-1:] and self.bracket(other) == self.bracket(trial)
            if is_there and values["clean"] == values["clean"]:
                seen.setdefault(other, (at, values))
        if seen[trial] != (step, metrics):
            return True
        rows = [self.point(values) for _, values in seen.values()]
        missed = [max(0.0, 0.25 - values["clean"]) for _, values in seen.values()]
        own = list(seen).index(trial)
        if self.spares_front and plain.leads(own, rows, missed):
            return True
        return plain.ahead(own, rows, missed) < self.keep * len(rows)

    def point(self, metrics: dict[str, float]) -> list[float]:
        return [metrics["clean"], metrics["pgd"], -metrics["loss"]][: self.objectives]


@pytest.mark.parametrize("keep", ["1/2", "1/3"])
@pytest.mark.parametrize("protect_front", ["true", "false"])
@pytest.mark.parametrize("brackets", [1, 3])
@pytest.mark.parametrize(("objectives", "seed"), [(1, 0), (2, 0), (2, 1), (2, 2), (3, 0)])
def test_every_verdict_is_that_of_the_plain_definition(
    objectives: int, seed: int, brackets: int, protect_front: str, keep: str
) -> None:
    plan = f"{{after: 8, keep: {keep}, brackets: {brackets}, protect_front: {protect_front}}}"
    asked = study(plan, objectives, "constraints={clean: '>= 0.25'}", seed=seed)
    rungs = {"1/2": [8, 16, 32, 64], "1/3": [8, 24, 72]}[keep]
    drawn = Halving(StopEarly(8, {"1/2": 1 / 2, "1/3": 1 / 3}[keep], brackets=brackets), LAST, seed)
    firsts = [drawn._brackets.index(drawn.bracket(f"{trial:04d}")) for trial in range(24)]
    reference = PlainHalving(
        drawn._brackets[0]._keep, protect_front == "true", lambda trial: rungs[firsts[trial] :], objectives
    )
    verdicts = played(Stopping(asked), stream(seed))
    assert [reference.goes_on(*report) for report, _ in verdicts] == [goes_on for _, goes_on in verdicts]
    assert {goes_on for _, goes_on in verdicts} == {True, False}


KINDS = {
    "moasha": ("{after: 10}", 2),
    "brackets": ("{after: 10, keep: 1/2, brackets: 3}", 3),
    "asha": ("{kind: asha, after: 20, keep: 1/2}", 1),
    "median": ("{kind: median, after: 20}", 1),
    "forecast": ("{kind: forecast}", 2),
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", KINDS)
def test_a_rule_rebuilt_from_the_results_at_any_moment_judges_as_the_undisturbed_one(kind: str, seed: int) -> None:
    asked = study(*KINDS[kind])
    verdicts = played(Stopping(asked), stream(seed))
    for moment in range(0, len(verdicts), 3):
        records = recorded(verdicts[:moment])
        random.Random(moment).shuffle(records)  # noqa: S311  # no secret
        rebuilt = Stopping(asked, records)
        assert [verdict(rebuilt, report) for report, _ in verdicts[moment : moment + 8]] == [
            goes_on for _, goes_on in verdicts[moment : moment + 8]
        ]


@pytest.mark.parametrize("moment", [5, 30])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_reported_again_changes_no_verdict(kind: str, moment: int) -> None:
    asked = study(*KINDS[kind])
    verdicts = played(Stopping(asked), stream(0))
    rebuilt = Stopping(asked, recorded(verdicts[:moment]))
    for report, _ in verdicts[:moment]:
        assert verdict(rebuilt, report)
    assert played(rebuilt, iter([report for report, _ in verdicts[moment:]])) == verdicts[moment:]


def test_copies_and_repeats_count_at_no_rung() -> None:
    asked, verdicts = study("{after: 10}"), played(Stopping(study("{after: 10}")), stream(0))
    records = recorded(verdicts[:40])
    others = [dataclasses.replace(record, trial=f"1{record.trial}") for record in records]
    copies = [dataclasses.replace(record, copy_of="0000") for record in others]
    repeats = [dataclasses.replace(record, repeat_of="0000") for record in others]
    rebuilt = Stopping(asked, [*copies, *records, *repeats])
    assert [verdict(rebuilt, report) for report, _ in verdicts[40:]] == [goes_on for _, goes_on in verdicts[40:]]


@pytest.mark.parametrize("seed", range(5))
def test_one_objective_under_moasha_is_asha_but_for_the_front(seed: int) -> None:
    reports = list(stream(seed, trials=40))
    asha, unprotected, protected = (
        played(Stopping(study(f"{{after: 10, keep: 1/3, {kind}}}", 1)), iter(reports))
        for kind in ("kind: asha", "kind: moasha, protect_front: false", "kind: moasha")
    )
    assert asha == unprotected
    going = {(report[0], report[1]) for report, goes_on in asha if goes_on}
    assert going <= {(report[0], report[1]) for report, goes_on in protected if goes_on}


def test_asha_judges_as_rays_but_for_the_rounding_of_the_cut() -> None:
    """Ray interpolates between the earlier values; here the trial itself counts too. It is one place at most."""
    theirs = AsyncHyperBandScheduler("step", "clean", "max", max_t=LAST, grace_period=10, reduction_factor=3)
    ours = Rungs([10, 30], keep=1 / 3, spares_front=False)
    values = np.random.default_rng(0).random(300)
    differ = 0
    for number, value in enumerate(values):
        trial: Any = RayTrial(number)
        theirs.on_trial_add(None, trial)
        goes_on = theirs.on_trial_result(None, trial, {"step": 10, "clean": value}) == TrialScheduler.CONTINUE
        ours.remember(str(number), 10, np.array([value]))
        if goes_on != ours.goes_on(str(number), 10):
            differ += 1
            assert abs((values[:number] > value).sum() - (number + 1) / 3) <= 1
    assert differ < 10


@dataclasses.dataclass(frozen=True)
class RayTrial:
    """All that Ray's schedulers ask of a trial."""

    number: int

    @property
    def trial_id(self) -> str:
        return str(self.number)


@pytest.mark.parametrize("way", ["max", "min"])
@pytest.mark.parametrize("seed", range(3))
def test_the_median_rule_judges_as_rays(seed: int, way: str) -> None:
    asked = study("{kind: median, after: 20}", 1, f"objectives={{clean: {way}}}")
    theirs = MedianStoppingRule("step", "clean", way, grace_period=20, min_time_slice=math.inf)  # pauses nobody

    def rays(report: Report) -> bool:
        trial, step, metrics = report
        if step == LAST:
            theirs.on_trial_complete(None, RayTrial(trial), {"step": step, **metrics})
            return True
        return theirs.on_trial_result(None, RayTrial(trial), {"step": step, **metrics}) == TrialScheduler.CONTINUE

    verdicts = played(Stopping(asked), (report for report in stream(seed) if report[2]["clean"] >= 0))
    assert [goes_on for _, goes_on in verdicts] == [rays(report) for report, _ in verdicts]
    assert {goes_on for _, goes_on in verdicts} == {True, False}


def test_the_first_trial_at_a_rung_goes_on() -> None:
    plan = Rungs([10], 0.1)
    assert plan.remember("0", 10, np.array([0.1, 0.1]))
    assert plan.goes_on("0", 10)


def test_a_trial_that_nothing_dominates_is_stopped_only_if_the_front_is_not_spared() -> None:
    for spares_front in (True, False):
        plan = Rungs([10], 0.1, spares_front)
        verdicts = []
        for number in range(20):
            plan.remember(str(number), 10, np.array([1 - number / 20, number / 20]))
            verdicts.append(plan.goes_on(str(number), 10))
        assert all(verdicts) == spares_front


@pytest.mark.parametrize("every", [3, 10, 25])
def test_a_rung_is_reached_at_the_first_evaluation_at_or_past_it(every: int) -> None:
    plan = Rungs([10, 30], 0.5)
    reached = [step for step in range(every, 80, every) if plan.remember("0", step, np.array([0.5]))]
    assert reached == [-(-10 // every) * every, -(-30 // every) * every]


@pytest.mark.parametrize("keep", [0.25, 1 / 3, 0.5])
def test_about_the_kept_share_of_a_long_random_stream_goes_on(keep: float) -> None:
    plan, generator, going = Rungs([10], keep), np.random.default_rng(0), []
    for number in range(200):
        plan.remember(str(number), 10, generator.random(1))
        going.append(plan.goes_on(str(number), 10))
    assert abs(np.mean(going[50:]) - keep) < 0.08


def test_all_brackets_spend_the_same() -> None:
    """Half of the trials pass each rung, so a trial of the three brackets costs 25, 40 and 60 steps of 80."""
    plan = Halving(StopEarly(10, 0.5, brackets=3), 80, seed=3)
    drawn = [plan._brackets.index(plan.bracket(f"{number:04d}")) for number in range(4000)]
    steps = np.bincount(drawn) * [25, 40, 60]
    assert steps / steps.mean() == pytest.approx(1, abs=0.06)
    other = Halving(StopEarly(10, 0.5, brackets=3), 80, seed=4)
    assert drawn[:50] != [other._brackets.index(other.bracket(f"{number:04d}")) for number in range(50)]


def test_rungs_reach_to_the_longest_training_that_the_knobs_allow() -> None:
    longer = study("{after: 100, keep: 1/2}", 2, "knobs={optim.steps: {integer: [40, 240]}}")
    stopping, record = Stopping(longer), record_of(0)
    assert not stopping.remember(record, 90, {"clean": 0.5, "pgd": 0.5})
    assert stopping.remember(record, 100, {"clean": 0.5, "pgd": 0.5})
    assert stopping.remember(record, 210, {"clean": 0.5, "pgd": 0.5})


def foreseen(worth: float, steps: tuple[int, ...], *settings: str, wild: bool = False) -> tuple[list[bool], list[int]]:
    """Verdicts on a trial that is ``worth`` so much, after 16 that were finished, and the steps that were judged.

    All gain evenly up to their end, or wildly: then the best of them start as the worst.
    """
    asked = study("{kind: forecast}", 2, *settings)
    stopping, generator = Stopping(asked), np.random.default_rng(0)

    def metrics(value: float, share: float) -> dict[str, float]:
        start = generator.random() * 0.5 if wild else 0.1
        reached = value if share == 1 else value * share if not wild else start
        return {"clean": reached, "pgd": reached}

    for trial in range(16):
        for step in (10, 20, 40, LAST):
            verdict(stopping, (trial, step, metrics(0.4 + trial / 40, step / LAST)))
    verdicts, judged = [], []
    for step in steps:
        seen, record = metrics(worth, step / LAST), record_of(16)
        if stopping.remember(record, step, seen):
            judged.append(step)
            verdicts.append(stopping.goes_on(record, step, seen))
    return verdicts, judged


def test_a_forecast_stops_whom_a_finished_trial_will_be_ahead_of_in_every_way() -> None:
    assert foreseen(0.2, (10, 20, 40)) == ([False] * 3, [10, 20, 40])
    assert foreseen(0.9, (10, 20, 40)) == ([True] * 3, [10, 20, 40])


def test_a_forecast_stops_nobody_where_beginnings_tell_nothing() -> None:
    assert all(foreseen(0.2, (10, 20, 40), wild=True)[0])


def test_a_forecast_is_asked_at_its_rungs_only() -> None:
    assert foreseen(0.2, (2, 5, 10, 20, 25, 28, 60, 75))[1] == [10, 20, 28, 60, 75]


def test_a_forecast_stops_whom_the_constraints_will_forbid_once_somebody_keeps_them() -> None:
    forbidding = "constraints={clean: '>= 0.7'}"
    assert foreseen(0.2, (40,), forbidding)[0] == [False]
    assert foreseen(0.2, (40,), "constraints={clean: '>= 0.95'}")[0] == [True]
    assert foreseen(0.9, (40,), forbidding)[0] == [True]
