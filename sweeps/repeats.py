"""Which trials run again with other seeds: a function of the records alone, so that a resumed sweep repeats the same.

A search keeps the luckiest of what it tried; one more look at each of them tells luck from merit.
"""

from collections.abc import Iterable
from dataclasses import replace

from robustcore.recipe import recipe_from
from sweeps.pareto import contenders, front
from sweeps.results.records import TrialRecord
from sweeps.study import Study


def due_repeats(records: Iterable[TrialRecord], study: Study) -> list[TrialRecord]:
    """What is missing now, pending; empty when the repeats are complete. Call it when no trial is unfinished.

    At first these are the contenders by their first runs: the front, and the runners-up that noise does not
    separate from it. Once repeated, some sink in the mean, and a trial that nobody thought a candidate may
    come out on the front: it is repeated too, until every member has all its seeds. Each time at least one trial
    gets them all, so this ends after at most (seeds - 1) repeats of every trial.
    """
    records = list(records)
    first_runs = [record for record in records if not record.repeat_of]
    candidates = contenders(first_runs, study.objectives, study.feasible)
    candidates += front(records, study.objectives, study.feasible)
    there = {record.trial for record in records}
    by_trial = {record.trial: record for record in first_runs}
    due = (_repeat(by_trial[trial], n) for trial in sorted({c.trial for c in candidates}) for n in _others(study))
    return [record for record in due if record.trial not in there]


def _others(study: Study) -> range:
    return range(1, study.search.seeds)


def _repeat(first: TrialRecord, number: int) -> TrialRecord:
    """``0007.1``: the recipe of trial 0007 with the next seed; its results are its own, the sampler's are not."""
    recipe = {**first.recipe, "seed": first.seed + number}
    return replace(
        first,
        trial=f"{first.trial}.{number}",
        recipe=recipe,
        recipe_hash=recipe_from(recipe).fingerprint(),
        seed=first.seed + number,
        state="pending",
        reason="",
        repeat_of=first.trial,
        evaluations=[],
        device="",
        started=None,
        sampler={},
        samples={},
        flags={},
        certificate=None,
    )
