"""What one sees while trials are attacked again: a live panel on a terminal, plain lines anywhere else."""

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.text import Text

from sweeps import wording

SILENCE = 10.0  # seconds between two lines, unless a trial has ended


class CertifyDisplay:
    """``with CertifyDisplay(...) as display: display.saw(100)``; ``done`` images of ``total`` are known already."""

    def __init__(
        self,
        study: str,
        total: int,
        done: int,
        trials: int,
        console: Console,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.study, self.total, self.trials, self.console, self.clock = study, total, trials, console, clock
        self._known = self._done = done
        self._ended = 0
        self._start = self._said = clock()
        is_live = console.is_terminal and not console.is_dumb_terminal
        self._live = Live(console=console, get_renderable=self._panel, refresh_per_second=2) if is_live else None

    def __enter__(self) -> "CertifyDisplay":
        if self._live:
            self._live.start()
        elif self._known:
            self._line(f"{self._known} of {self.total} images were attacked before")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def saw(self, images: int) -> None:
        """So many more."""
        self._done += images
        if not self._live and self.clock() - self._said > SILENCE:
            self._line(self._summary())

    def ended(self, trial: str, outcome: str, left_out: int = 0) -> None:
        """A trial has its certificate, or failed, so that some of its images are not attacked."""
        self._ended += 1
        self.total -= left_out
        self._line(f"trial {trial} {outcome}")
        if not self._live:
            self._line(self._summary())

    def _line(self, text: str) -> None:
        self._said = self.clock()
        self.console.print(Text(wording.one_line(text)), soft_wrap=True)
        self.console.file.flush()

    def _summary(self) -> str:
        """``312 of 1200 images attacked, 2 of 5 trials done; 8 s elapsed, 2 min 10 s left``"""
        elapsed = self.clock() - self._start
        attacked = f"{self._done} of {self.total} images attacked, {self._ended} of {self.trials} trials done"
        spent, fresh = f"{wording.duration(elapsed)} elapsed", self._done - self._known
        left = self.total - self._done
        return f"{attacked}; {spent}" + (f", {wording.duration(left * elapsed / fresh)} left" if fresh and left else "")

    def _panel(self) -> RenderableType:
        bar = Padding(ProgressBar(total=max(self.total, 1), completed=self._done), 0)  # a bar alone ends no line
        title = Text(wording.one_line(f"{self.study}: attacked again"))
        return Panel(Group(bar, Text(self._summary())), title=title, title_align="left")
