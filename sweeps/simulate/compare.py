"""Policies on surfaces over seeds: how much compute each needs for a good front."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sweeps.cube import Array, Knobs, from_cube
from sweeps.pareto import Points, hypervolume, non_dominated, signed
from sweeps.simulate.policies import Policy
from sweeps.simulate.simulator import simulate
from sweeps.simulate.surface import Surface

TARGET = 0.95  # of the hypervolume of the best known front, and of what TPE ends with
_SAMPLES, _ROUNDS, _FRONT = 1 << 14, 8, 256


@dataclass(frozen=True)
class Run:
    """One simulated sweep: the hypervolume of the finished trials' front, as a share of the best, over compute."""

    seed: int
    trials: int
    spent: tuple[float, ...]  # full trainings, ascending
    shares: tuple[float, ...]

    def needed(self, target: float) -> float:
        """Full trainings until that share was reached; infinite where the budget was not enough."""
        return next((spent for spent, share in zip(self.spent, self.shares, strict=True) if share >= target), np.inf)

    def share_at(self, spent: float) -> float:
        """The share that was reached with so much compute."""
        done = int(np.searchsorted(self.spent, spent, side="right"))
        return self.shares[done - 1] if done else 0.0


@dataclass(frozen=True)
class Yardstick:
    """The hypervolume of the best known front of a surface, and the point that it is measured from, signed.

    That point is the lower quartile of recipes drawn at random, in each objective: measured from zero, as a sweep
    does, a few random trials have most of the volume already, and policies can hardly be told apart.
    """

    best: float
    reference: Array

    def share(self, points: Points) -> float:
        """The hypervolume of signed points, as a share of the best."""
        return hypervolume(points, self.reference) / self.best


def yardstick(surface: Surface) -> Yardstick:
    """From many recipes, all finished: drawn at random, then ever closer around the best of them."""
    knobs, generator = surface.study.knobs, np.random.default_rng(0)
    places = generator.random((_SAMPLES, len(knobs)))
    first = points = worth(surface, from_cube(knobs, places))
    for step in 0.3 * 0.5 ** np.arange(_ROUNDS):
        front = np.flatnonzero(non_dominated(points))
        front = front[np.argsort(points[front, 0])][:: max(1, len(front) // _FRONT)]
        points, places = points[front], places[front]
        around = places[generator.integers(len(places), size=_SAMPLES // _ROUNDS)]
        moved = np.clip(around + generator.normal(0, step, around.shape), 0, np.nextafter(1, 0))
        points, places = np.vstack([points, worth(surface, from_cube(knobs, moved))]), np.vstack([places, moved])
    reference = np.nanquantile(first, 0.25, axis=0)
    return Yardstick(hypervolume(points[non_dominated(points)], reference), reference)


def run(surface: Surface, measure: Yardstick, policy: Policy, seed: int, slots: int, budget: float) -> Run:
    """One sweep with one seed, until ``budget`` full trainings are spent."""
    search = replace(surface.study.search, sampler=policy.sampler, seed=seed, trials=int(budget), seeds=1)
    study = replace(surface.study, search=search, stop_early=policy.stop_early())
    found, spent, shares, trials = np.empty((0, len(study.objectives))), [], [], 0
    for ended in simulate(surface, study, slots, budget):
        trials += 1
        if ended.record.state == "finished":
            # What the recipe is worth, without the luck of its last evaluation.
            found = np.vstack([found, worth(surface, [ended.record.knobs])])
            found = found[non_dominated(found)]
            spent.append(ended.spent)
            shares.append(measure.share(found))
    return Run(seed, trials, tuple(spent), tuple(shares))


def worth(surface: Surface, recipes: Sequence[Knobs]) -> Points:
    """Signed objectives (n, objectives) at the end of a training, without noise; NaN where constraints are missed."""
    ends = surface.ends(recipes)
    points = signed(ends, surface.study.objectives)
    points[[not surface.study.feasible(end) for end in ends]] = np.nan
    return points


@dataclass(frozen=True)
class Needed:
    """The compute until a share of hypervolume was reached, over seeds."""

    quartiles: tuple[float, float, float]  # infinite beyond the budget
    ratio: float | None  # how many times less than TPE without stopping; None where it was not enough
    is_least: bool  # where TPE itself did not get there, the ratio is to the budget


@dataclass(frozen=True)
class Row:
    """What a policy did on a surface over all seeds; compute counts full trainings."""

    surface: str
    policy: str
    seeds: int
    trials: float  # median
    best: Needed  # for ``TARGET`` of the best known front
    plain: Needed | None  # for ``TARGET`` of what TPE without stopping has when the budget is spent
    behind: float  # the most that its median curve is below that of random search, after two trainings a slot
    final: float  # median share when the budget is spent


def rows(surface: str, runs: dict[str, list[Run]], slots: int, budget: float) -> list[Row]:
    """One for each policy, from its runs by name; those of ``tpe`` and ``random`` are compared with, if there."""
    grid = np.linspace(min(2.0 * slots, budget), budget, 65)
    curves = {name: median_curve(each, grid) for name, each in runs.items()}
    plain = runs.get("tpe")
    found = []
    for name, each in runs.items():
        best = _needed(each, plain, TARGET, budget)
        same = None if plain is None else _needed(each, plain, TARGET * float(curves["tpe"][-1]), budget)
        behind = float(np.max(curves["random"] - curves[name])) if "random" in runs else np.nan
        trials = float(np.median([one.trials for one in each]))
        found.append(Row(surface, name, len(each), trials, best, same, behind, float(curves[name][-1])))
    return found


def _needed(runs: Sequence[Run], plain: Sequence[Run] | None, target: float, budget: float) -> Needed:
    found = quartiles(one.needed(target) for one in runs)
    if plain is None or np.isinf(found[1]):
        return Needed(found, None, is_least=False)
    other = quartiles(one.needed(target) for one in plain)[1]
    return Needed(found, min(other, budget) / found[1], bool(np.isinf(other)))


def median_curve(runs: Sequence[Run], grid: Array) -> Array:
    """The median share over seeds at each compute of ``grid``."""
    return np.asarray(np.median([[one.share_at(spent) for spent in grid] for one in runs], axis=0))


def quartiles(values: Iterable[float]) -> tuple[float, float, float]:
    """Values that occur, so that infinite ones are no obstacle."""
    low, middle, high = np.quantile(list(values), [0.25, 0.5, 0.75], method="inverted_cdf")
    return float(low), float(middle), float(high)
