"""What one sees while a sweep runs: a live panel on a terminal, plain lines anywhere else.

The driver calls ``update`` on each event; the panel refreshes itself in between, so that the time ticks.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweeps import wording
from sweeps.pareto import Feasible, Objectives, always
from sweeps.results.records import State, TrialRecord
from sweeps.standing import Standing

ENDED: tuple[State, ...] = ("finished", "stopped", "failed")
BESIDES: tuple[State, ...] = ("running", "stopped", "failed")
ROWS = 8  # running trials that are shown; a panel taller than the terminal would flicker


class Display:
    """``with Display(...) as display: display.update(records)``; ``total`` counts the trials of the sweep."""

    def __init__(
        self,
        study: str,
        total: int,
        objectives: Objectives,
        feasible: Feasible = always,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.study, self.total, self.objectives, self.feasible = study, total, objectives, feasible
        self.console = console or Console()
        self._asked = total  # repeats come on top, as they become known
        self.pace = Pace(total, clock)
        self.note = ""
        self._standing = Standing(objectives, feasible)
        self._is_first, self._repeats = True, 0
        self._states: dict[str, State] = {}
        self._counts: Counter[State] = Counter()
        self._running: dict[str, TrialRecord] = {}
        self._told: dict[str, int] = {}  # the steps of the running trials
        is_live = self.console.is_terminal and not self.console.is_dumb_terminal
        self._live = Live(console=self.console, get_renderable=self._panel, refresh_per_second=2) if is_live else None

    def __enter__(self) -> "Display":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def update(
        self, records: Collection[TrialRecord], note: str = "", moved: Sequence[TrialRecord] | None = None
    ) -> None:
        """Show these records, of which only those that ``moved`` have changed since the last call: any, if None.

        ``note`` is a warning that stands until it is replaced by another or by "".
        """
        is_first, self._is_first = self._is_first, False
        moved = list(records) if is_first or moved is None else moved
        before = [self._see(record, records) for record in moved]
        self.total = self.pace.total = self._asked + self._repeats
        is_news, self.note = note != self.note, note
        if self._live:
            return
        if is_first and any(record.state in ENDED for record in moved):
            self._line(self._summary())  # that an earlier process did it is worth a line, all of it is not
        for record, state in zip(moved, before, strict=True):
            if not (is_first and record.state in ENDED):
                self._say(record, state)
        if note and is_news:
            self._line(f"warning: {note}")

    def say(self, text: str) -> None:
        """One line that stays."""
        self._line(text)

    def _see(self, record: TrialRecord, records: Collection[TrialRecord]) -> State:
        """Count it; returns the state that it was in before."""
        before = self._states.get(record.trial)
        if before == record.state:
            return before
        if before is None:
            self._repeats += bool(record.repeat_of)
        else:
            self._counts[before] -= 1
        self._states[record.trial] = record.state
        self._counts[record.state] += 1
        self._running.pop(record.trial, None)
        if record.state == "running":
            self._running[record.trial] = record
        elif record.state in ENDED:
            self._standing.add(record, records)
        self.pace.see(record, self._counts)
        return before or "pending"

    def _say(self, record: TrialRecord, before: State) -> None:
        """One line if this trial has moved from the state ``before``, or from the step that was told."""
        if record.state in ENDED and record.state != before:
            self._told.pop(record.trial, None)
            took = f"copy of {record.copy_of}" if record.copy_of else ""
            details = [
                wording.knobs(record),
                wording.metrics(record),
                wording.one_line(record.reason or took),
            ]
            self._line(f"trial {record.trial} {record.state}: {'; '.join(filter(None, details))}")
            self._line(self._summary())
        elif record.state == "running":
            if before != "running":
                self._line(f"trial {record.trial} started: {wording.knobs(record)}")
            if record.step > self._told.get(record.trial, 0):
                self._told[record.trial] = record.step
                self._line(f"trial {record.trial} step {_steps(record)}: {wording.metrics(record)}")

    def _line(self, text: str) -> None:
        self.console.print(Text(wording.one_line(text)), soft_wrap=True)
        self.console.file.flush()

    def _summary(self) -> str:
        """``4 of 16 trials done, 2 running; front 3, hypervolume 0.689; 8 s elapsed, 2 min 10 s left``"""
        done = sum(self._counts[state] for state in ENDED)
        parts = [f"{self._counts[state]} {state}" for state in BESIDES if self._counts[state]]
        trials = ", ".join([f"{done} of {self.total} trials done", *parts])
        front = f"front {len(self._standing.members)}, hypervolume {self._standing.hypervolume:.4f}"
        return f"{trials}; {front}; {self._time()}"

    def _time(self) -> str:
        left = self.pace.left()
        elapsed = f"{wording.duration(self.pace.elapsed())} elapsed"
        return elapsed if left is None else f"{elapsed}, {wording.duration(left)} left"

    def _panel(self) -> RenderableType:
        done = sum(self._counts[state] for state in ENDED)
        bar = Padding(ProgressBar(total=max(self.total, 1), completed=done), 0)  # a bar alone ends no line
        parts: list[RenderableType] = [bar, Text(self._summary())]
        running = sorted(self._running.values(), key=lambda record: record.trial)
        if running:
            parts.append(_running_table(running, self.objectives))
        if self.note:
            parts.append(Text(f"warning: {wording.one_line(self.note)}", style="yellow"))
        return Panel(Group(*parts), title=Text(wording.one_line(self.study)), title_align="left")


def _running_table(running: list[TrialRecord], objectives: Objectives) -> Table:
    names = wording.headlines(running, first=objectives)
    table = Table("trial", "knobs", box=None, padding=(0, 2, 0, 0))
    for heading in ("step", *names):
        table.add_column(Text(heading), justify="right")
    for record in running[:ROWS]:
        metrics = [wording.metric(n, record.metrics[n]) if n in record.metrics else "-" for n in names]
        cells = [record.trial, wording.knobs(record), _steps(record), *metrics]
        table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in cells))
    if len(running) > ROWS:
        table.add_row(Text(f"+{len(running) - ROWS}"))
    return table


def _steps(record: TrialRecord) -> str:
    """``50/200``, or ``50`` for a recipe that does not say how many."""
    optim = record.recipe.get("optim")
    steps = optim.get("steps") if isinstance(optim, dict) else None
    return str(record.step) if steps is None else f"{record.step}/{steps}"


class Pace:
    """How fast the trials of this process end, and so how long the rest will take.

    What an earlier process did teaches nothing: it may have run on other machines.
    """

    def __init__(self, total: int, clock: Callable[[], float]) -> None:
        self.total, self.clock, self.start = total, clock, clock()
        self.running: dict[str, float] = {}  # since when, by trial
        self._durations: list[float] = []
        self._at_once = 1
        self._done = 0

    def see(self, record: TrialRecord, counts: Mapping[State, int]) -> None:
        """Note whether the trial has started to run, or ended; ``counts`` are of all trials by state."""
        if record.state == "running":
            self.running.setdefault(record.trial, self.clock())
        elif record.state in ENDED and record.trial in self.running:
            self._durations.append(self.clock() - self.running.pop(record.trial))
        self._at_once = max(self._at_once, len(self.running))
        self._done = sum(counts[state] for state in ENDED)

    def elapsed(self) -> float:
        """Seconds of this process."""
        return self.clock() - self.start

    def left(self) -> float | None:
        """Seconds, or None as long as no trial of this process has ended or nothing is left to do."""
        todo = self.total - self._done
        if not self._durations or todo <= 0:
            return None
        mean, now = sum(self._durations) / len(self._durations), self.clock()
        spent = sum(min(mean, now - since) for since in list(self.running.values()))  # another thread draws
        return max(0.0, todo * mean - spent) / min(self._at_once, todo)
