"""One sweep on a surface, event by event: our own ``Search`` and ``Stopping``, parallel slots, and no clock but theirs.

Time and compute count full trainings. Whoever decides sees what has been reported so far, and nothing else.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from sweeps.results import Evaluation, TrialRecord
from sweeps.results.records import State
from sweeps.search import Search
from sweeps.simulate.surface import Surface
from sweeps.stop_early import Stopping
from sweeps.study import Study

_COPIES = 100  # in a row, and the search has nothing new to try


@dataclass(frozen=True)
class Ended:
    """A trial that is over, the time, and what all trials together had spent by then."""

    record: TrialRecord
    time: float
    spent: float


def simulate(surface: Surface, study: Study, slots: int, budget: float) -> Iterator[Ended]:
    """Trials in the order in which they end, until ``budget`` is spent, however many they are.

    ``study`` is the surface's own with whatever search and stopping rule. A slot takes a new trial the moment it is
    free; of reports at the same time, that of the earlier trial comes first. As in a sweep, the same knobs are not
    paid for twice: a copy ends with its original, and nothing is yielded for it.
    """
    sweep = _Sweep(surface, study)
    for _ in range(slots):
        sweep.begin(0.0)
    while sweep.events and sweep.spent < budget:
        ended = sweep.next_report()
        if ended is not None:
            yield ended
            sweep.begin(ended.time)


class _Sweep:
    def __init__(self, surface: Surface, study: Study) -> None:
        self.spent = 0.0
        self.events: list[tuple[float, int, Evaluation]] = []  # reports to come: when, of which trial
        self._surface, self._study = surface, study
        self._search = Search(study)
        self._stopping = Stopping(study) if study.stop_early else None
        self._records: list[TrialRecord] = []
        self._originals: dict[tuple[object, ...], TrialRecord] = {}
        self._copies: dict[str, list[TrialRecord]] = {}
        self._reports: dict[int, Iterator[Evaluation]] = {}

    def begin(self, now: float) -> None:
        """The next trial with new knobs; none where the search has run out of them."""
        for _ in range(_COPIES):
            number = len(self._records)
            knobs, sampler = self._search.ask()
            recipe = self._study.recipe_at(knobs)
            record = TrialRecord(f"{number:04d}", knobs, recipe, "", 0, "running", sampler=sampler)
            self._records.append(record)
            self._search.watch(record)
            original = self._originals.setdefault(tuple(knobs.values()), record)
            if original is record:
                self._reports[number] = self._surface.reports(knobs, (self._study.search.seed, number))
                self._work(number, now)
                return
            self._copies.setdefault(original.trial, []).append(record)
            if original.state != "running":
                self._settle_copies(original)

    def next_report(self) -> Ended | None:
        """What happens next; the trial, if it is over with that."""
        now, number, report = heapq.heappop(self.events)
        record = self._records[number]
        self.spent += report.seconds - record.seconds
        record.record(report)
        record.state = self._state_after(record, report)
        if record.state == "running":
            self._work(number, now)
            return None
        del self._reports[number]
        self._search.tell(record)
        self._settle_copies(record)
        return Ended(record, now, self.spent)

    def _settle_copies(self, original: TrialRecord) -> None:
        for copy in self._copies.pop(original.trial, []):
            copy.state, copy.evaluations = original.state, list(original.evaluations)
            self._search.tell(copy)

    def _work(self, number: int, now: float) -> None:
        """Until the trial's next report, which nobody sees before its time."""
        report = next(self._reports[number])
        heapq.heappush(self.events, (now + report.seconds - self._records[number].seconds, number, report))

    def _state_after(self, record: TrialRecord, report: Evaluation) -> State:
        last = report.step == self._surface.steps[-1]
        if self._stopping is None or not self._stopping.remember(record, report.step, report.metrics) or last:
            return "finished" if last else "running"
        return "running" if self._stopping.goes_on(record, report.step, report.metrics) else "stopped"
