"""Which recipe to try next: Optuna asked and told, one Optuna trial for every trial of the sweep, in the same order.

Before them stand trials of earlier studies that advise the sampler; those that a changed study would never ask for are
left out. The sampler is made anew for every question, seeded by the study's seed and the trial's number, so what it
answers depends on the results alone: a resumed sweep asks as an undisturbed one would have.
"""

import itertools
import math
import random
import warnings
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from sweeps.bayes import WAITING, suggest
from sweeps.curves import Curve, read_curve
from sweeps.earlier import Advice, fitting, own_knobs
from sweeps.history import History
from sweeps.memory import Memory
from sweeps.results import Evaluation, TrialRecord, Value
from sweeps.study import Study

optuna.logging.set_verbosity(optuna.logging.WARNING)

_POINT = "fixed_params"  # Optuna's own name for what an enqueued trial was given


class Search:
    """The study's sampler and everything it has been told."""

    def __init__(self, study: Study, advice: Iterable[Advice] = ()) -> None:
        self._study = study
        # The genetic samplers need every generation, and the others take no longer for more trials.
        self._memory = Memory() if study.search.sampler == "tpe" else optuna.storages.InMemoryStorage()
        self._optuna = optuna.create_study(
            directions=["maximize" if way == "max" else "minimize" for way in study.objectives.values()],
            storage=self._memory,
        )
        self._distributions = {path: knob.distribution() for path, knob in study.knobs.items()}
        self._asked = 0
        self._numbers: dict[int, int] = {}  # ours -> Optuna's
        self._points = list(study.search.points)  # that no trial was given yet
        self._tried: set[str] = set()  # of the grid, by trials of our own
        self._history = History()  # by Optuna's number
        self._open: dict[int, TrialRecord] = {}  # by ours: trials that may run
        self._begun: dict[int, tuple[int, Curve]] = {}  # of those: the curve after so many evaluations
        # The genetic samplers see nothing of a trial without a generation, as others have asked for it.
        generation = getattr(_sampler(study, 0), "_get_generation_key", None)
        self._first_generation = {generation(): 0} if generation else {}
        for knobs, each in fitting(study, advice):
            number = self._add(knobs, {})
            self._judge(number, each.metrics)
            curve = read_curve(study, knobs, [Evaluation(1, each.metrics, 0.0)], is_whole=True)
            self._history.add(number, curve._replace(shares=np.ones(1)))

    def ask(self) -> tuple[dict[str, Value], dict[str, Any]]:
        """Knob values of the next trial, and what the sampler wants to see again in ``remember``."""
        number, self._asked = self._asked, self._asked + 1
        point = self._points.pop(0) if self._points else {}
        if self._study.search.sampler in ("gp", "grid"):
            knobs = self._guided(number, point) if self._study.search.sampler == "gp" else self._grid(number, point)
            attributes = {_POINT: point} if point else {}
            self._begin(number, knobs, attributes)
            return knobs, attributes
        if point:
            self._optuna.enqueue_trial(point)
        self._optuna.sampler = _sampler(self._study, number)
        trial = self._optuna.ask(self._distributions)
        self._numbers[number] = trial.number
        self._forget_parents()
        return dict(trial.params), _plain(trial.storage.get_trial_system_attrs(trial._trial_id))

    def _begin(self, number: int, knobs: dict[str, Value], attributes: dict[str, Any]) -> None:
        self._numbers[number] = self._add(knobs, attributes)
        self._open[number] = TrialRecord(f"{number:04d}", knobs, {}, "", 0)
        self._tried.add(repr(knobs))

    def remember(self, record: TrialRecord) -> None:
        """A trial of an earlier process, in the order of its number."""
        self._asked += 1
        if (point := record.sampler.get(_POINT)) in self._points:
            self._points.remove(point)
        knobs = own_knobs(self._study, record)
        if knobs is not None:
            self._begin(int(record.trial), knobs, record.sampler)
            self.watch(record)
            self.tell(record)

    def watch(self, record: TrialRecord) -> None:
        """The record of a trial that was asked for last: what it reports while it runs is seen there."""
        if int(record.trial) in self._open:
            self._open[int(record.trial)] = record

    def tell(self, record: TrialRecord) -> None:
        """How a trial ended; a trial that is not over is left open. Only a finished one counts with its values."""
        number = self._numbers.get(int(record.trial))
        is_over = record.state in ("stopped", "failed", "finished")
        if number is not None and is_over and int(record.trial) in self._open:
            del self._open[int(record.trial)]
            self._begun.pop(int(record.trial), None)
            if self._study.search.sampler == "gp":
                self._history.add(number, self._curve(record))
        if number is None or (record.state == "finished" and self._judge(number, record.metrics)):
            return
        if is_over:
            self._optuna.tell(number, state=TrialState.PRUNED if record.state == "stopped" else TrialState.FAIL)

    def _judge(self, number: int, metrics: Mapping[str, float]) -> bool:
        """Tell Optuna what a finished trial reached, if all of it is finite; whether it was."""
        values = [metrics.get(name, math.nan) for name in self._study.objectives]
        violations = {name: c.violation(metrics) for name, c in self._study.constraints.items()}
        if not all(map(math.isfinite, [*values, *violations.values()])):
            return False
        self._constrain(number, violations)
        self._optuna.tell(number, values)
        if isinstance(self._memory, Memory) and max(violations.values(), default=0) <= 0:
            ways = self._study.objectives.values()
            self._memory.note(number, [-v if way == "max" else v for v, way in zip(values, ways, strict=True)])
        return True

    def _curve(self, record: TrialRecord) -> Curve:
        knobs = record.knobs if record.knobs.keys() == self._study.knobs.keys() else own_knobs(self._study, record)
        assert knobs is not None, "else nothing would be told of it"
        evaluations = [] if record.state == "failed" else record.evaluations
        return read_curve(self._study, knobs, evaluations, record.state == "finished")

    def _guided(self, number: int, point: dict[str, Value]) -> dict[str, Value]:
        newest = list(itertools.islice(reversed(self._open.values()), WAITING))
        running = [self._so_far(record) for record in reversed(newest)]
        return {**suggest(self._study, self._history, running, number), **point}

    def _so_far(self, record: TrialRecord) -> Curve:
        number, count = int(record.trial), len(record.evaluations)
        known = self._begun.get(number)
        if known is None or known[0] != count:
            known = self._begun[number] = count, self._curve(record)
        return known[1]

    def _add(self, knobs: dict[str, Value], attributes: dict[str, Any]) -> int:
        """An open trial; the number that Optuna gives it."""
        self._optuna.add_trial(
            optuna.create_trial(
                state=TrialState.RUNNING,
                params=knobs,
                distributions=self._distributions,
                system_attrs=self._first_generation | attributes,
            )
        )
        newest = self._memory.get_all_trials(self._optuna._study_id, deepcopy=False)[-1]
        return newest.number

    def _constrain(self, number: int, violations: dict[str, float]) -> None:
        identity = self._memory.get_trial_id_from_study_id_trial_number(self._optuna._study_id, number)
        trial = optuna.Trial(self._optuna, identity)
        for name, violation in violations.items():
            trial.set_constraint(name, violation)

    def _forget_parents(self) -> None:
        """The genetic samplers keep in the study whom they chose as parents, which no resumed sweep could know."""
        storage, study = self._optuna._storage, self._optuna._study_id
        for key in storage.get_study_system_attrs(study):
            storage.set_study_system_attr(study, key, None)

    @cached_property
    def _every(self) -> list[tuple[str, dict[str, Value]]]:
        """The grid's points, with their texts, in an order that covers it early, the same for every run of one seed."""
        points = list(itertools.product(*(knob.grid() or [] for knob in self._study.knobs.values())))
        random.Random(self._study.search.seed).shuffle(points)  # noqa: S311  # an order, not a secret
        every = (dict(zip(self._study.knobs, values, strict=True)) for values in points)
        return [(repr(knobs), knobs) for knobs in every]

    def _grid(self, number: int, point: dict[str, Value]) -> dict[str, Value]:
        """A point that was not tried yet, the first that agrees with ``point`` where there is one."""
        again = self._every[number % len(self._every)][1]
        untried = [knobs for text, knobs in self._every if text not in self._tried] or [again]
        return next((knobs for knobs in untried if point.items() <= knobs.items()), untried[0])


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
            with warnings.catch_warnings():  # here alone: it changes the warnings of all threads
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # we chose it, knowing
                return samplers.NSGAIIISampler(seed=seed, population_size=population)
        case _:
            return samplers.RandomSampler(seed=seed)


def _plain(attributes: Any) -> dict[str, Any]:
    return {str(key): value for key, value in dict(attributes).items()}
