"""What is kept up trial by trial is what the pure functions say of all trials, at every moment."""

import dataclasses
import math
import random

import pytest

from sweeps.pareto import Objectives, front, front_hypervolume
from sweeps.results.records import TrialRecord
from sweeps.standing import Standing
from tests.sweeps.trials import repeat, study, trial

WAYS: list[Objectives] = [
    {"clean": "max"},
    {"clean": "max", "pgd": "max"},
    {"clean": "max", "pgd": "min", "loss": "min"},
]


def stream(seed: int) -> list[TrialRecord]:
    """Every kind of ending in some order; repeats come last, as in a sweep, some of trials off the front."""
    order = random.Random(seed)  # noqa: S311  # no secret
    records = study(30, seed)
    records += [dataclasses.replace(record, trial=f"1{record.trial}", copy_of=record.trial) for record in records[:3]]
    records += [trial(40, {"clean": math.nan, "pgd": 1.0, "loss": 0.0}), trial(41, {"clean": 1.0})]
    records.append(trial(42, records[0].metrics))  # an equal one
    order.shuffle(records)
    firsts = [record for record in records if record.state == "finished" and not record.copy_of]
    for number in (1, 2):
        for record in firsts[:6]:
            noisy = {name: value + order.gauss(0, 0.05) for name, value in record.metrics.items()}
            records.append(repeat(record, number, noisy))
    return records


@pytest.mark.parametrize("objectives", WAYS, ids=len)
@pytest.mark.parametrize("seed", range(3))
def test_front_and_hypervolume_are_those_of_all_trials_at_every_moment(seed: int, objectives: Objectives) -> None:
    standing, added = Standing(objectives, lambda m: m["clean"] > 0.93), list[TrialRecord]()
    for record in stream(seed):
        added.append(record)
        standing.add(record, added)
        assert standing.members == front(added, objectives, lambda m: m["clean"] > 0.93)
        assert standing.hypervolume == front_hypervolume(added, objectives, lambda m: m["clean"] > 0.93)
        assert standing.finished == sum(each.state == "finished" for each in added)
