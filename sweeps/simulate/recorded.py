"""Real learning curves made a surface: between the recorded recipes, those of the nearest are mixed."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from robustcore.errors import InputError
from sweeps.cube import Array, Knobs, coordinates, to_cube
from sweeps.results import Results, TrialRecord
from sweeps.simulate.surface import Surface
from sweeps.study import Study, load_study

NEIGHBOURS = 6
_HERE = Path(__file__).parent


def digits() -> Surface:
    """Of the digits CLIP, over the clean term, the radius and the learning rate: what ``digits.yaml`` recorded."""
    return recorded(load_study(str(_HERE / "digits.yaml")), Results.read(str(_HERE / "digits.parquet")))


def recorded(study: Study, results: Results) -> Surface:
    """The finished trials of any study whose trials were evaluated at the same steps; raises InputError.

    Every curve is a mean of the six nearest recorded ones, weighted by (1 - (d / d7)^3)^3, where d7 is the distance
    of the seventh, so that curves change continuously. Such a mean has less noise than one training: what is lost is
    put back, as Gaussian noise of the size of the last evaluations' median departure from their neighbours' mean.
    """
    steps, trials = _alike(study, results)

    def embedded(recipes: Sequence[Knobs]) -> Array:
        return coordinates(study.knobs, to_cube(study.knobs, recipes))

    places = embedded([trial.knobs for trial in trials])
    metrics = list(dict.fromkeys([*study.objectives, *study.constraints]))
    curves = np.array([[[each.metrics[name] for name in metrics] for each in trial.evaluations] for trial in trials])

    def between(recipes: Sequence[Knobs]) -> Array:
        return _mixed(embedded(recipes), places, curves)

    bends = np.abs(np.diff(curves, n=2, axis=1)) if len(steps) > 2 else np.zeros(1)
    noise = float(np.median(bends) / (0.6745 * math.sqrt(6)))
    return Surface(study, steps, between, noise, f"{len(trials)} recorded trials of {study.name}")


def _alike(study: Study, results: Results) -> tuple[tuple[int, ...], list[TrialRecord]]:
    """The steps of the evaluations of most finished trials, and those trials."""
    wanted = {*study.objectives, *study.constraints}
    whole = [
        record
        for record in results.records.values()
        if record.state == "finished" and not record.copy_of and not record.repeat_of
        if all(wanted <= {n for n, v in each.metrics.items() if np.isfinite(v)} for each in record.evaluations)
    ]
    layouts = Counter(tuple(each.step for each in record.evaluations) for record in whole)
    steps, count = layouts.most_common(1)[0] if layouts else ((), 0)
    if count <= NEIGHBOURS + 1:
        raise InputError(
            f"{results.uri}: expected at least {NEIGHBOURS + 2} finished trials that were evaluated at the same steps, "
            f"got {count}"
        )
    return steps, [record for record in whole if tuple(each.step for each in record.evaluations) == steps]


def _mixed(wanted: Array, places: Array, curves: Array) -> Array:
    """(n, steps, metrics) at the coordinates ``wanted`` (n, coordinates), from known ``curves`` at ``places``."""
    distances = np.linalg.norm(wanted[:, None] - places, axis=-1)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, : NEIGHBOURS + 1]
    reach = np.take_along_axis(distances, nearest, axis=1)
    seventh = reach[:, -1:]
    weights = (1 - np.divide(reach, seventh, out=np.zeros_like(reach), where=seventh > 0) ** 3)[:, :-1] ** 3
    weights += 1e-9  # where all seven are as far away, all count the same
    weights /= weights.sum(axis=1, keepdims=True)
    mixed: Array = np.einsum("nk,nksm->nsm", weights, curves[nearest[:, :-1]])
    return mixed
