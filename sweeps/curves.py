"""Learning curves, and how they end: forecast from what those gained that were finished, given knobs and values so far.

The stopping rule and the sampler both ask here. Learnt from nothing but the sweep's own finished trials.
"""

import bisect
import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

import numpy as np

from sweeps.cube import Array, Knobs, coordinates, to_cube
from sweeps.gaussian import Process, Seen, one_core
from sweeps.pareto import signed
from sweeps.results import Evaluation
from sweeps.study import Study

LEAST = 8  # finished trials that tell anything
_LATEST = 48  # of them that are learnt from
_WEIGHT = 0.3  # of a value's spread, against the whole range of a knob


class Curve(NamedTuple):
    """A trial's evaluations; ``read_curve`` makes it."""

    cube: Array  # (knobs,) in [0, 1]
    place: Array  # (coordinates,) of the same
    shares: Array  # (evaluations,) of its training
    values: Array  # (evaluations, outputs), all the better the higher: objectives, then how well constraints are kept
    is_whole: bool
    is_sound: bool  # whether there is a last evaluation, of finite numbers

    def at(self, share: float) -> Array | None:
        """(outputs,) of the last evaluation up to there, if that was finite."""
        count = bisect.bisect_right(self.shares, share + 1e-9)
        return self.values[count - 1] if count and all(map(math.isfinite, self.values[count - 1])) else None


def read_curve(study: Study, knobs: Knobs, evaluations: Sequence[Evaluation], is_whole: bool) -> Curve:
    """Of a trial with values for all of the study's knobs."""
    cube = to_cube(study.knobs, [knobs])
    shares = np.array([share_of(study, knobs, each.step) for each in evaluations])
    values = outputs(study, evaluations)
    is_sound = bool(len(values) and np.isfinite(values[-1]).all())
    return Curve(cube[0], coordinates(study.knobs, cube)[0], shares, values, is_whole, is_sound)


def share_of(study: Study, knobs: Knobs, step: int) -> float:
    """How much of a training is over after so many of the optimiser's steps."""
    return step / int(knobs.get("optim.steps", study.recipe.optim.steps))  # type: ignore[arg-type]  # a number, if a knob


def outputs(study: Study, evaluations: Sequence[Evaluation]) -> Array:
    """(n, outputs): the signed objectives, then by how much each constraint is kept; NaN where one is missing."""
    metrics = [each.metrics for each in evaluations]
    kept = [[-constraint.violation(each) for constraint in study.constraints.values()] for each in metrics]
    return np.hstack([signed(metrics, study.objectives), np.array(kept).reshape(len(metrics), len(study.constraints))])


@one_core
def ends(begun: Sequence[Curve], share: float, whole: Sequence[Curve]) -> tuple[Array, Array] | None:
    """Means and deviations (n, outputs) at the end of trainings that were seen until ``share``, and that are finite.

    None where too few of the ``whole`` were evaluated up to there.
    """
    latest = ((each, before) for each in reversed(whole) if (before := each.at(share)) is not None)
    known = list(islice(latest, _LATEST))[::-1]
    if len(known) < LEAST:
        return None
    past, last = np.array([before for _, before in known]), np.array([each.values[-1] for each, _ in known])
    spread = np.maximum(past.std(axis=0), 1e-9) / _WEIGHT
    places = np.hstack([[each.place for each, _ in known], past / spread])
    process = _learnt(places.tobytes(), (last - past).tobytes(), len(known))
    now = np.array([each.values[-1] for each in begun])
    gains, deviations = process.at(np.hstack([[each.place for each in begun], now / spread]))
    return now + gains, np.hypot(deviations, process.noise()) * process.caution()


@lru_cache(maxsize=128)  # many trials come to the same share before another one is finished
def _learnt(places: bytes, gains: bytes, count: int) -> Process:
    """Of so few points the typical kernel is as good as a fitted one; how far it is off is measured."""
    values = np.frombuffer(gains).reshape(count, -1)
    return Process(Seen(np.frombuffer(places).reshape(count, -1), values, np.zeros_like(values)), typical=True)
