"""What one sees while a sweep runs: a live panel on a terminal, plain lines anywhere else.

The driver calls ``update`` on each event; the panel refreshes itself in between, so that the time ticks.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweeps import wording
from sweeps.pareto import Feasible, Objectives, always, front, front_hypervolume
from sweeps.results.records import State, TrialRecord

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
        self.records: list[TrialRecord] = []
        self.note = ""
        self._front = (-1, 0, 0.0)
        self._said: dict[str, tuple[State, int]] | None = None
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

    def update(self, records: Iterable[TrialRecord], note: str = "") -> None:
        """Show these records; ``note`` is a warning that stands until it is replaced by another or by ""."""
        records = list(records)
        self.total = self.pace.total = self._asked + sum(bool(record.repeat_of) for record in records)
        self.pace.see(records)
        finished = sum(record.state == "finished" for record in records)
        if finished != self._front[0]:  # else neither can have changed, and many objectives make it slow
            members = front(records, self.objectives, self.feasible)
            volume = front_hypervolume(records, self.objectives, self.feasible)
            self._front = (finished, len(members), volume)
        is_news, self.note, self.records = note != self.note, note, records
        if self._live:
            self._live.refresh()
            return
        if self._said is None:
            self._said = {r.trial: (r.state, r.step) for r in records if r.state in ENDED}
            if self._said:  # by an earlier process: that it is there is worth a line, all of it is not
                self._line(self._summary())
        for record in records:
            self._say(record, self._said)
        if note and is_news:
            self._line(f"warning: {note}")

    def _say(self, record: TrialRecord, said: dict[str, tuple[State, int]]) -> None:
        """One line if this trial has moved since what was ``said`` of it."""
        before = said.get(record.trial, ("pending", 0))
        said[record.trial] = (record.state, record.step)
        if before == (record.state, record.step) or record.state == "pending":
            return
        if record.state in ENDED:
            took = f"copy of {record.copy_of}" if record.copy_of else ""
            details = [
                wording.knobs(record),
                wording.metrics(record),
                wording.one_line(record.reason or took),
            ]
            self._line(f"trial {record.trial} {record.state}: {'; '.join(filter(None, details))}")
            self._line(self._summary())
            return
        if before[0] != record.state:
            self._line(f"trial {record.trial} started: {wording.knobs(record)}")
        if record.step > before[1]:
            self._line(f"trial {record.trial} step {_steps(record)}: {wording.metrics(record)}")

    def _line(self, text: str) -> None:
        self.console.print(Text(wording.one_line(text)), soft_wrap=True)
        self.console.file.flush()

    def _summary(self) -> str:
        """``4 of 16 trials done, 2 running; front 3, hypervolume 0.689; 8 s elapsed, 2 min 10 s left``"""
        counts = Counter(record.state for record in self.records)
        done = sum(counts[state] for state in ENDED)
        parts = [f"{counts[state]} {state}" for state in BESIDES if counts[state]]
        _, size, volume = self._front
        trials = ", ".join([f"{done} of {self.total} trials done", *parts])
        return f"{trials}; front {size}, hypervolume {volume:.4f}; {self._time()}"

    def _time(self) -> str:
        left = self.pace.left()
        elapsed = f"{wording.duration(self.pace.elapsed())} elapsed"
        return elapsed if left is None else f"{elapsed}, {wording.duration(left)} left"

    def _panel(self) -> RenderableType:
        done = sum(record.state in ENDED for record in self.records)
        bar = Padding(ProgressBar(total=max(self.total, 1), completed=done), 0)  # a bar alone ends no line
        parts: list[RenderableType] = [bar, Text(self._summary())]
        running = [record for record in self.records if record.state == "running"]
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
        self._running: dict[str, float] = {}
        self._durations: list[float] = []
        self._at_once = 1
        self._done = 0

    def see(self, records: Iterable[TrialRecord]) -> None:
        """Note which trials started to run, and which ended, since the last call."""
        now = self.clock()
        states = {record.trial: record.state for record in records}
        for trial in [trial for trial in self._running if states.get(trial) in ENDED]:
            self._durations.append(now - self._running.pop(trial))
        for trial, state in states.items():
            if state == "running":
                self._running.setdefault(trial, now)
        self._at_once = max(self._at_once, len(self._running))
        self._done = sum(state in ENDED for state in states.values())

    def elapsed(self) -> float:
        """Seconds of this process."""
        return self.clock() - self.start

    def left(self) -> float | None:
        """Seconds, or None as long as no trial of this process has ended or nothing is left to do."""
        todo = self.total - self._done
        if not self._durations or todo <= 0:
            return None
        mean, now = sum(self._durations) / len(self._durations), self.clock()
        spent = sum(min(mean, now - since) for since in self._running.values())
        return max(0.0, todo * mean - spent) / min(self._at_once, todo)
