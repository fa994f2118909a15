"""Early stopping: its order against brute force, its decisions on a stream made by hand."""

import itertools

import numpy as np
import pytest

from sweeps.stop_early import MultiObjectiveASHA, Rungs, positions
from sweeps.study import StopEarly, load_study
from tests.sweeps.trials import repeat, trial


def dominates(one, other):
    return bool((one >= other).all() and (one > other).any())


@pytest.mark.parametrize("objectives", [1, 2, 3])
@pytest.mark.parametrize("seed", range(20))
def test_a_trial_is_never_placed_behind_one_that_it_dominates(objectives, seed):
    points = np.random.default_rng(seed).integers(0, 5, (9, objectives)).astype(float)
    place = positions(points)
    assert sorted(place) == list(range(9))
    for one, other in itertools.permutations(range(9), 2):
        if dominates(points[one], points[other]):
            assert place[one] < place[other]


def test_inside_a_front_the_first_places_go_to_its_ends():
    points = np.array([[0.5, 0.5], [0.0, 1.0], [1.0, 0.0], [0.9, 0.1]])
    place = positions(points)
    assert place[2] == 0  # the best in the first objective
    assert place[1] == 1  # the farthest from it
    assert place[0] == 2  # the farthest from both


def rungs(after=10, keep=0.5, last=80):
    return Rungs(StopEarly(after=after, keep=keep), last)


def test_the_first_trial_at_a_rung_goes_on():
    assert rungs().goes_on("0000", 10, np.array([0.1, 0.1]))


def test_a_trial_that_nothing_dominates_is_never_stopped():
    plan = rungs(keep=0.1)
    for number in range(20):
        assert plan.goes_on(f"{number:04d}", 10, np.array([number / 20, 1 - number / 20]))


def test_the_worst_trial_at_a_rung_is_stopped():
    plan = rungs()
    plan.goes_on("0000", 10, np.array([0.9, 0.9]))
    plan.goes_on("0001", 10, np.array([0.8, 0.8]))
    assert not plan.goes_on("0002", 10, np.array([0.1, 0.1]))


def test_before_the_first_rung_nobody_is_stopped():
    plan = rungs(after=10)
    plan.goes_on("0000", 10, np.array([0.9]))
    plan.goes_on("0001", 10, np.array([0.8]))
    assert plan.goes_on("0002", 9, np.array([0.0]))


def test_a_trial_is_judged_once_a_rung():
    plan = rungs()
    assert plan.goes_on("0000", 10, np.array([0.1]))
    for number in range(1, 5):
        plan.goes_on(f"{number:04d}", 10, np.array([0.9]))
    assert plan.goes_on("0000", 15, np.array([0.1]))  # passed rung 10 long ago, rung 20 is ahead


def test_a_metric_that_is_not_a_number_stops_nobody():
    plan = rungs()
    plan.goes_on("0000", 10, np.array([0.9]))
    assert plan.goes_on("0001", 10, np.array([np.nan]))


@pytest.mark.parametrize("keep", [0.25, 1 / 3, 0.5])
def test_about_the_kept_share_of_a_long_random_stream_goes_on(keep):
    plan, generator = rungs(keep=keep), np.random.default_rng(0)
    goes_on = [plan.goes_on(str(number), 10, generator.random(1)) for number in range(400)]
    assert abs(np.mean(goes_on[100:]) - keep) < 0.08


def test_a_repeat_is_never_stopped_and_never_a_measure_for_others():
    class Running:
        def __init__(self, trial):
            self.config = {"assignment": {"trial": trial}}

    study = load_study("alpha_study", ["stop_early={after: 10, keep: 0.5}"])
    past = [trial(i, dict.fromkeys(study.objectives, 0.9)) for i in range(4)]
    scheduler = MultiObjectiveASHA(study, past)
    for name, decision in (("0001.1", "CONTINUE"), ("0009", "STOP")):
        poor = {"step": 200, **{f"metrics/{each}": 0.1 for each in study.objectives}}
        assert scheduler.on_trial_result(None, Running(name), poor) == decision

    lucky = [repeat(past[0], seed, dict.fromkeys(study.objectives, 0.99)) for seed in range(1, 9)]
    for record in past:
        record.evaluations[0].metrics.update(dict.fromkeys(study.objectives, 0.1))
    good = {"step": 200, **{f"metrics/{each}": 0.5 for each in study.objectives}}
    assert MultiObjectiveASHA(study, [*past, *lucky]).on_trial_result(None, Running("0009"), good) == "CONTINUE"
