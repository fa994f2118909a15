"""What a sweep will take: its cheapest and its dearest trial rehearsed here, times their number.

Ends of ranges are honest, means are not known: which values the sampler will ask for shows only in the sweep.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from robustcore.recipe import Recipe, recipe_from
from robustcore.rehearsal import Rehearsal
from sweeps import wording
from sweeps.check.plan import Cost, cost_at, ends_of_cost
from sweeps.results.records import Value
from sweeps.stored import embeddings_cache
from sweeps.study import Study
from trainables.memory import CONTEXT, trials_a_gpu
from trainables.rehearse import rehearsed
from trainables.resources import Demand, this_machine

# Seconds on two cores, with Ray 2.60: what no rehearsal can see. The start has the end in it, drawing and MLflow.
START_OF_RAY, START_OF_TRIAL = 15.0, 1.0
# Bytes, of the demo: a trial's results and its runs in MLflow, and the front's pictures in the three places they are
# kept, whose page holds plotly itself.
_RECORD, _PICTURES = 100_000, 15_000_000

Range = dict[str, float]


def estimate(
    study: Study, at_once: int | None, rehearse: Callable[[Recipe], Rehearsal] | None = None
) -> dict[str, Any]:
    """Plain values: times in seconds or hours, sizes in bytes, each from ``least`` to ``most`` as the knobs have it.

    ``at_once`` is the number of trials that run at a time. The most includes every repeat that there may be, and takes
    no trial for stopped early (``at_most``). Raises InputError or NonFiniteLoss as a trial would.
    """
    sizes: dict[Any, int] = {}
    least, most = ends_of_cost(study, sizes)
    ends = [(knobs, cost_at(study, knobs, sizes)) for knobs in (least, most)]
    if ends[0][1] == ends[1][1]:
        ends = ends[1:]
    beside = _beside(study, at_once or 1)
    run = rehearse or (lambda recipe: rehearsed(recipe, _demand(study), embeddings_cache(study.storage), beside))
    found = [(knobs, cost, run(recipe_from(study.recipe_at(knobs)))) for knobs, cost in ends]
    return _totals(study, at_once or 1, found)


def _demand(study: Study) -> Demand:
    return Demand(study.resources.workers, study.resources.cpus, study.resources.gpus)


def _beside(study: Study, at_once: int) -> int:
    """Whom a worker shares its processor with: all others on CPUs; on a GPU those that have shares of the same one."""
    gpus, on_cpu = study.resources.gpus, at_once * study.resources.workers
    return (min(on_cpu, max(1, int(1 / gpus))) if gpus else on_cpu) - 1


def _totals(study: Study, at_once: int, found: list[tuple[dict[str, Value], Cost, Rehearsal]]) -> dict[str, Any]:
    trials, resources = study.num_trials(), study.resources
    repeats = (study.search.seeds - 1) * trials
    seconds = _range([_seconds(cost, rehearsal) for _, cost, rehearsal in found])
    once = max(rehearsal.first - rehearsal.again for _, _, rehearsal in found)
    counts = {"least": trials, "most": trials + repeats}
    rounds = {end: math.ceil(count / at_once) for end, count in counts.items()}
    wall = {end: (START_OF_RAY + max(0.0, once) + rounds[end] * seconds[end]) / 3600 for end in counts}
    of = "gpu_hours" if resources.gpus else "cpu_hours"
    units = resources.workers * (resources.gpus or resources.cpus)
    work = {end: counts[end] * seconds[end] * units / 3600 for end in counts}
    steps = _range([cost["steps"] for _, cost, _ in found])
    price = resources.price_per_gpu_hour
    cost = {"cost": {end: work[end] * price for end in work}} if price is not None and resources.gpus else {}
    return {
        "trials": counts,
        "at_once": at_once,
        "steps": {end: counts[end] * steps[end] for end in counts},
        "seconds_of_a_trial": seconds,
        of: work,
        "hours": wall,
        **cost,
        **_within(study, counts, {"hours": wall, of: work, **cost}),
        "storage_bytes": _storage(counts, found),
        "peak_memory_bytes": max(rehearsal.memory for _, _, rehearsal in found),
        "memory_of": "GPU" if resources.gpus else "process",
        "share_of_a_gpu": _share(resources.workers, [rehearsal for *_, rehearsal in found]),
        "at_most": study.stop_early is not None,
        "at_one_value_of": [path for path in study.knobs if path.startswith("model.") or path == "precision"],
        "rehearsals": [_told(*each) for each in found],
    }


def _within(study: Study, counts: dict[str, int], totals: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """How many trials the budget pays for, where that is fewer than there are to be."""
    limits = study.budget.limits() if study.budget is not None else {}
    shares = [(min(limit / totals[name][end] for name, limit in limits.items()), end) for end in counts if limits]
    if all(share >= 1 for share, _ in shares):
        return {}
    paid = [math.floor(counts[end] * min(1.0, share)) for share, end in shares]
    return {"trials_in_budget": _range(paid)}


def _seconds(cost: Cost, rehearsal: Rehearsal) -> float:
    work = cost["steps"] * rehearsal.step + cost["evaluations"] * rehearsal.evaluation
    return START_OF_TRIAL + rehearsal.again + work


def _storage(counts: Mapping[str, int], found: list[tuple[dict[str, Value], Cost, Rehearsal]]) -> Range:
    """Checkpoints (the last, without its optimizer, and the one before), results, pictures, original embeddings."""
    trials = []
    for _, cost, rehearsal in found:
        before = rehearsal.weights + rehearsal.optimizer if cost["evaluations"] > 1 else 0
        trials.append(rehearsal.weights + before + _RECORD)
    size, shared = _range(trials), max(rehearsal.embeddings for _, _, rehearsal in found)
    return {end: counts[end] * size[end] + shared + _PICTURES for end in counts}


def _share(workers: int, rehearsals: list[Rehearsal]) -> dict[str, Any]:
    """The least ``resources.gpus`` that holds a trial and packs whole trials on a GPU, or why there is none."""
    total, memory = min(each.gpu_memory for each in rehearsals), max(each.memory for each in rehearsals)
    if not total:
        where = "no GPU here" if not this_machine().gpus else "resources.gpus is 0"
        return {"gpus": None, "why": f"not measured, for the rehearsal ran on a CPU ({where})"}
    needs = f"a trial takes {wording.size(memory + CONTEXT)} of {wording.size(total)}, CUDA's own included"
    fitting = trials_a_gpu(memory, total)
    if workers > 1 or fitting < 2:
        alone = "its workers share no GPU" if workers > 1 else needs
        return {"gpus": 1 if fitting else None, "why": f"whole GPUs: {alone}"}
    return {"gpus": f"1/{fitting}", "trials": fitting, "why": f"1/{fitting} puts {fitting} trials on one: {needs}"}


def _range(values: list[Any]) -> Range:
    return {"least": min(values), "most": max(values)}


def _told(knobs: dict[str, Value], cost: Cost, rehearsal: Rehearsal) -> dict[str, Any]:
    return {
        "knobs": knobs,
        "attack_steps": cost["attack_steps"],
        "seconds_to_prepare_first": rehearsal.first,
        "seconds_to_prepare": rehearsal.again,
        "seconds_of_a_step": rehearsal.step,
        "seconds_of_an_evaluation": rehearsal.evaluation,
    }


def estimate_text(found: Mapping[str, Any]) -> str:
    """For people, a line each."""
    is_short = "trials_in_budget" in found
    unit = "GPU-hours" if "gpu_hours" in found else "CPU-hours"
    lines = {
        "trials": f"{_span(found['trials'], str)}, {found['at_once']} at a time",
        "optimiser steps": _span(found["steps"], lambda value: f"{value:,.0f}"),
        "a trial": _span(found["seconds_of_a_trial"], wording.duration),
        unit: _span(found.get("gpu_hours") or found["cpu_hours"], lambda value: f"{value:.3g}"),
        "wall time": _span(found["hours"], lambda value: wording.duration(3600 * value)),
        **({"cost": _span(found["cost"], lambda value: f"{value:,.2f}")} if "cost" in found else {}),
        **({"budget ends it after": f"{_span(found['trials_in_budget'], str)} trials"} if is_short else {}),
        "storage": _span(found["storage_bytes"], wording.size),
        f"peak memory of a {found['memory_of']}": wording.size(found["peak_memory_bytes"]),
        "resources.gpus": found["share_of_a_gpu"]["why"],
    }
    width = max(map(len, lines)) + 2
    notes = ["At most: no trial is taken for stopped early."] if found["at_most"] else []
    # Ends of cost are told apart by attack steps, whose own time these knobs change.
    notes += [f"Measured at one value alone of {', '.join(paths)}."] if (paths := found["at_one_value_of"]) else []
    return "\n".join([*(f"{name:{width}}{value}" for name, value in lines.items()), *notes])


def _span(ends: Mapping[str, Any], word: Callable[[Any], str]) -> str:
    low, high = word(ends["least"]), word(ends["most"])
    return low if low == high else f"{low} to {high}"
