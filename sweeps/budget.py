"""What a sweep has taken over all its lives, kept in ``spent.json`` beside the results, and whether it may take more.

Time is that of trials on their places: their start-up counts, and so does work that a kill undid.
"""

import json
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass

from robustcore.storage import Folder
from sweeps.results import TrialRecord
from sweeps.stored import RequestError
from sweeps.study import Study

SPENT = "spent.json"
_KEEP_EVERY = 5.0  # seconds; a kill forgets no more
_WORDS = {"gpu_hours": "GPU-hours", "hours": "hours", "cost": "(cost)"}


@dataclass(frozen=True)
class Spent:
    """Of the clock while the sweep was run, and of all GPUs that its trials held."""

    seconds: float = 0.0
    gpu_seconds: float = 0.0

    def amounts(self, price_per_gpu_hour: float | None) -> dict[str, float]:
        """By the names of the limits; the cost only where there is a price."""
        hours = {"hours": self.seconds / 3600, "gpu_hours": self.gpu_seconds / 3600}
        return hours | ({} if price_per_gpu_hour is None else {"cost": hours["gpu_hours"] * price_per_gpu_hour})


def spent_by(study: Study) -> Spent:
    """By all processes so far, as far as it was kept."""
    try:
        return Spent(**json.loads(_folder(study).read(SPENT)))
    except FileNotFoundError:
        return Spent()


def over_budget(study: Study, spent: Spent) -> str:
    """``the budget of 2 GPU-hours is spent``; empty as long as every limit is ahead."""
    reached = _reached(study, spent)
    each = " and ".join(f"{limit:g} {_WORDS[name]}" for name, limit in reached.items())
    return f"the budget of {each} is spent" if reached else ""


def _reached(study: Study, spent: Spent) -> dict[str, float]:
    amounts = spent.amounts(study.resources.price_per_gpu_hour)
    limits = study.budget.limits() if study.budget is not None else {}
    return {name: limit for name, limit in limits.items() if amounts[name] >= limit}


def how_to_go_on(study: Study, spent: Spent) -> str:
    """A ``--set`` for each limit that was reached, with room for as much again."""
    amounts, reached = spent.amounts(study.resources.price_per_gpu_hour), _reached(study, spent)
    return " ".join(f"--set budget.{name}={amounts[name] + limit:.3g}" for name, limit in reached.items())


def check_budget(study: Study, total: int, records: Iterable[TrialRecord]) -> None:
    """Raises RequestError where there is something left to run, of ``total`` trials, and nothing to spend on it."""
    spent, records = spent_by(study), list(records)
    over = over_budget(study, spent)
    unfinished = any(record.state in ("pending", "running") for record in records)
    if over and (unfinished or sum(not record.repeat_of for record in records) < total):
        raise RequestError(f"{over}; `{how_to_go_on(study, spent)}` raises it")


class Purse:
    """Counts while trials run. ``clock`` gives seconds."""

    def __init__(self, study: Study, clock: Callable[[], float] = time.monotonic) -> None:
        self._study, self.clock = study, clock
        self._folder = _folder(study).kept(0)
        self._gpus = study.resources.gpus * study.resources.workers
        self._spent = spent_by(study)
        self._running: set[str] = set()
        self._seen = self._kept = clock()

    def count(self) -> Spent:
        """What was spent up to now."""
        now = self.clock()
        passed, self._seen = now - self._seen, now
        gpu_seconds = self._spent.gpu_seconds + passed * self._gpus * len(self._running)
        self._spent = Spent(self._spent.seconds + passed, gpu_seconds)
        return self._spent

    def started(self, trial: str) -> None:
        """It holds its place from now on."""
        self.note()
        self._running.add(trial)

    def ended(self, trial: str) -> None:
        """It holds none any more."""
        self.note()
        self._running.discard(trial)

    def over(self) -> str:
        """Why no further trial may start, in a few words; empty where one may."""
        return over_budget(self._study, self.count())

    def stops(self) -> bool:
        """Whether running trials are to stop too."""
        return self._study.budget is not None and self._study.budget.then == "stop" and bool(self.over())

    def metrics(self) -> dict[str, float]:
        """As metrics of the sweep's own run."""
        amounts = self.count().amounts(self._study.resources.price_per_gpu_hour)
        return {f"spent/{name}": value for name, value in amounts.items()}

    def note(self) -> None:
        """Count, and now and then keep it."""
        self.count()
        if self._seen - self._kept > _KEEP_EVERY:
            self.keep()

    def keep(self) -> None:
        """On disk when this returns, unless the disk takes nothing now."""
        self._kept = self.clock()
        with suppress(OSError):
            self._folder.write(SPENT, json.dumps(asdict(self.count())).encode())


def _folder(study: Study) -> Folder:
    return Folder(study.storage).at(study.name)
