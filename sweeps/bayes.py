"""Bayesian optimisation of any number of objectives that learns from stopped trials too.

What it suggests depends on the results alone, and the time it takes does not grow with them.
"""

from collections.abc import Sequence

import numpy as np

from sweeps.cube import Array, coordinates, from_cube, snapped
from sweeps.curves import Curve, ends
from sweeps.gaussian import Process, Seen, one_core
from sweeps.history import History
from sweeps.pareto import non_dominated
from sweeps.results.records import Value
from sweeps.study import Study
from sweeps.study.space import Choice, Integer

START = 5  # trials before there is a model; fewer in a short study
WAITING = 64  # running trials that are looked at, the newest: the older ones are over before long
_CORNER = 8  # first trials whose lower quartile is what hypervolume is measured from
_CANDIDATES, _DRAWS, _WAYS = 128, 6, 32
_NEARLY = 0.9  # share of a training after which a running trial is as good as finished
_CAUTION = 2.0  # by how much the deviations of forecasts are widened: they come from the better trials
_NEAR = 0.2, 0.07, 0.02  # of the front, in shares of a knob's range


@one_core
def suggest(study: Study, history: History, running: Sequence[Curve], number: int) -> dict[str, Value]:
    """Knobs for trial ``number``, from trials that are over and those that run, as far as they have come.

    Where a finished training is expected to add the most hypervolume to the front that the model believes in. Where
    trials run that have told little yet, the model counts on its own expectation, so that those at the same time go
    to different places.
    """
    space, generator = study.knobs, np.random.default_rng([study.search.seed, number])
    known = history.known()
    nearly = [curve for curve in running if curve.is_sound and curve.shares[-1] >= _NEARLY]
    ready = len(nearly) + sum(curve.is_whole for curve in known)
    if ready < min(START, max(4, study.search.trials // 4)):
        return from_cube(space, _evenly(len(space), number, study.search.seed)[None])[0]
    seen = _seen([*known, *nearly], history.broken())
    silent = [curve.place for curve in running if not (curve.is_sound and curve.shares[-1] >= _NEARLY)]
    model = Process(seen, np.array(silent))
    coming = [*(curve for curve in known if curve.is_whole), *running]  # what can be on the front
    corner = np.quantile(seen.values[:_CORNER], 0.25, axis=0)[: len(study.objectives)]
    gain = _Gain(model.at(np.array([curve.place for curve in coming]))[0], corner, generator)
    taken = np.empty((0, len(space)))
    if _is_listed(study):
        taken = np.array([*history.cubes(), *(curve.cube for curve in running)])

    def best_of(places: Array) -> Array:
        places = snapped(space, places)
        worth = gain.expected(*model.at(coordinates(space, places)))
        worth[(places[:, None] == taken).all(axis=-1).any(axis=1)] -= 1e9  # nothing new is learnt there
        return np.asarray(places[np.argsort(-worth, kind="stable")[:4]])

    leaders = np.array([coming[each].cube for each in gain.front])
    around = (_around(leaders, width, generator) for width in _NEAR)
    best = best_of(np.vstack([generator.random((_CANDIDATES, len(space))), *around]))
    for width in (0.05, 0.015):
        best = best_of(np.vstack([best, _around(best, width, generator)]))
    return from_cube(space, best[:1])[0]


def _is_listed(study: Study) -> bool:
    """Whether the same knobs may come up twice."""
    return all(isinstance(knob, Choice | Integer) for knob in study.knobs.values())


def _evenly(dimensions: int, number: int, seed: int) -> Array:
    """(dimensions,) in [0, 1): the additive recurrence of Roberts (2018), whose every beginning fills the space."""
    root = 2.0
    for _ in range(60):  # the positive root of x^(d + 1) = x + 1
        root = (1 + root) ** (1 / (dimensions + 1))
    shift = np.random.default_rng(seed).random(dimensions)
    return np.asarray((shift + (number + 1) * root ** -np.arange(1.0, dimensions + 1)) % 1)


def _seen(known: Sequence[Curve], broken: Sequence[Curve]) -> Seen:
    """Of trials that are no whole trainings, what they would end with.

    Those that failed count as about as bad as the worst: a machine may have been at fault, or the recipe.
    """
    whole = [curve for curve in known if curve.is_whole]
    now = np.array([curve.values[-1] for curve in known])
    values, doubts = now.copy(), np.zeros_like(now)
    shares = np.array([1.0 if curve.is_whole else curve.shares[-1] for curve in known])
    for share in np.unique(shares[shares < 1]):
        there = np.flatnonzero(shares == share)
        told = ends([known[int(each)] for each in there], float(share), whole)
        # Before that can be told: as they are, which the rest of the training may change.
        values[there], deviations = told or (now[there], (1 - share) * now.std(axis=0) + 1e-9)
        doubts[there] = _CAUTION * deviations
    places = np.array([curve.place for curve in [*known, *broken]])
    count = (len(broken), 1)
    worst, wide = np.tile(values.min(axis=0), count), np.tile(values.std(axis=0) + 1e-9, count)
    return Seen(places, np.vstack([values, worst]), np.vstack([doubts, wide]))


class _Gain:
    """The hypervolume that values would add to a front, with any number of objectives, all to be maximised.

    Hypervolume is a mean over ways between the objectives of how far the front reaches (Zhang & Golovin 2020).
    Outputs after the objectives keep a constraint where they are not negative.
    """

    def __init__(self, believed: Array, corner: Array, generator: np.random.Generator, ways: int = _WAYS) -> None:
        self._objectives = objectives = len(corner)
        kept = np.asarray((believed[:, objectives:] >= 0).all(axis=1))
        values = np.where(kept[:, None], believed[:, :objectives], np.nan)
        self.front = np.flatnonzero(non_dominated(values) if kept.any() else np.full(len(believed), True))
        front = believed[self.front, :objectives]
        self._corner = np.minimum(corner, front.max(axis=0) - 1e-9)
        extent = front.max(axis=0) - self._corner
        drawn = np.abs(generator.normal(size=(ways, objectives))) + 1e-9
        self._slopes = np.linalg.norm(drawn, axis=1, keepdims=True) / (extent * drawn)
        self._reached = self._reach(front).max(axis=1) if kept.any() else np.zeros(ways)

    def _reach(self, values: Array) -> Array:
        """(ways, ...) of ``values`` (..., objectives)."""
        above = np.moveaxis(values - self._corner, -1, 0)
        found = np.multiply.outer(self._slopes[:, 0], above[0])
        for each in range(1, self._objectives):
            np.minimum(found, np.multiply.outer(self._slopes[:, each], above[each]), out=found)
        return np.asarray(found)

    def expected(self, means: Array, deviations: Array) -> Array:
        """(n,) of outputs of these ``means`` and ``deviations`` (n, outputs), over draws that are the same for all."""
        half = np.random.default_rng(0).normal(size=(_DRAWS, 1, means.shape[1]))
        drawn = means + deviations * np.vstack([half, -half])
        power, reached = self._objectives, self._reach(drawn[..., : self._objectives])
        floor = np.maximum(self._reached, 0)
        np.maximum(reached, floor[:, None, None], out=reached)
        gained = (reached**power).mean(axis=0) - (floor**power).mean()
        missed = np.maximum(-drawn[..., self._objectives :], 0).sum(axis=-1)
        gained = np.where(missed > 0, 0, gained).mean(axis=0)
        # Where nothing is gained: what comes nearest.
        near = (self._reach(means[:, : self._objectives]) - self._reached[:, None]).max(axis=0)
        return np.asarray(gained + 1e-6 * near - 1e-3 * missed.mean(axis=0))


def _around(places: Array, width: float, generator: np.random.Generator) -> Array:
    """(_CANDIDATES, knobs) near the places; each time about half of the knobs move, one of them always."""
    centres = places[generator.integers(len(places), size=_CANDIDATES)]
    moves = generator.random(centres.shape) < 0.5
    moves[np.arange(len(moves)), generator.integers(centres.shape[1], size=len(moves))] = True
    moved = centres + moves * generator.normal(0, width, centres.shape)
    # Reflected: with a clip, every other candidate would lie on an edge.
    return np.asarray(np.clip(1 - np.abs(1 - np.abs(moved)), 0, np.nextafter(1, 0)))
