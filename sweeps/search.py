"""Which recipe to try next: Optuna asked and told, one Optuna trial for every trial of the sweep, in the same order.

The sampler is made anew for every question, seeded by the study's seed and the trial's number, so what it answers
depends on the results alone: a resumed sweep asks as an undisturbed one would have.
"""

import itertools
import math
import random
import warnings
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from sweeps.results import TrialRecord, Value
from sweeps.study import Study

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Search:
    """The study's sampler and everything it has been told."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._optuna = optuna.create_study(
            directions=["maximize" if way == "max" else "minimize" for way in study.objectives.values()]
        )
        self._distributions = {path: knob.distribution() for path, knob in study.knobs.items()}

    def ask(self) -> tuple[dict[str, Value], dict[str, Any]]:
        """Knob values of the next trial, and what the sampler wants to see again in ``remember``."""
        number = len(self._optuna.get_trials(deepcopy=False))
        if self._study.search.sampler == "grid":
            knobs = self._grid(number)
            self._add(knobs, {})
            return knobs, {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # the samplers we chose, knowing
            self._optuna.sampler = _sampler(self._study, number)
            trial = self._optuna.ask(self._distributions)
        self._forget_parents()
        return dict(trial.params), _plain(trial.storage.get_trial_system_attrs(trial._trial_id))

    def remember(self, record: TrialRecord) -> None:
        """A trial of an earlier process, in the order of its number."""
        self._add(record.knobs, record.sampler)
        self.tell(record)

    def tell(self, record: TrialRecord) -> None:
        """How a trial ended; a trial that is not over is left open. Only a finished one counts with its values."""
        number = int(record.trial)
        if record.state == "finished":
            values = [record.metrics.get(name, math.nan) for name in self._study.objectives]
            violations = {name: c.violation(record.metrics) for name, c in self._study.constraints.items()}
            if all(map(math.isfinite, [*values, *violations.values()])):
                self._constrain(number, violations)
                self._optuna.tell(number, values)
                return
        if record.state in ("stopped", "failed", "finished"):
            self._optuna.tell(number, state=TrialState.PRUNED if record.state == "stopped" else TrialState.FAIL)

    def _add(self, knobs: dict[str, Value], attributes: dict[str, Any]) -> None:
        self._optuna.add_trial(
            optuna.create_trial(
                state=TrialState.RUNNING,
                params=knobs,
                distributions=self._distributions,
                system_attrs=attributes,
            )
        )

    def _constrain(self, number: int, violations: dict[str, float]) -> None:
        trial = optuna.Trial(self._optuna, self._optuna.get_trials(deepcopy=False)[number]._trial_id)
        for name, violation in violations.items():
            trial.set_constraint(name, violation)

    def _forget_parents(self) -> None:
        """The genetic samplers keep in the study whom they chose as parents, which no resumed sweep could know."""
        storage, study = self._optuna._storage, self._optuna._study_id
        for key in storage.get_study_system_attrs(study):
            storage.set_study_system_attr(study, key, None)

    def _grid(self, number: int) -> dict[str, Value]:
        """The grid's points in an order that covers it early, the same for every run of one seed."""
        axes = [knob.grid() or [] for knob in self._study.knobs.values()]
        points = list(itertools.product(*axes))
        random.Random(self._study.search.seed).shuffle(points)  # noqa: S311  # an order, not a secret
        return dict(zip(self._study.knobs, points[number % len(points)], strict=True))


def _sampler(study: Study, number: int) -> optuna.samplers.BaseSampler:
    seed = int(np.random.SeedSequence([study.search.seed, number]).generate_state(1)[0])
    # A short study would spend itself on random starts with the libraries' defaults of 10 and 50.
    startup = min(10, max(4, study.search.trials // 4))
    population = min(50, max(4, study.search.trials // 4))
    samplers = optuna.samplers
    match study.search.sampler:
        case "tpe":
            return samplers.TPESampler(seed=seed, n_startup_trials=startup)
        case "nsga2":
            return samplers.NSGAIISampler(seed=seed, population_size=population)
        case "nsga3":
            return samplers.NSGAIIISampler(seed=seed, population_size=population)
        case "gp":
            return samplers.GPSampler(seed=seed, n_startup_trials=startup)
        case _:
            return samplers.RandomSampler(seed=seed)


def _plain(attributes: Any) -> dict[str, Any]:
    return {str(key): value for key, value in dict(attributes).items()}
