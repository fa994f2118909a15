"""Why a sweep ends before its last trial: it was asked to, or what it stands on is gone; the first reason counts."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from robustcore.storage import reason
from sweeps.head import HeadLost


class Ending:
    """``error`` is a bug that ended the sweep; ``taken_over`` says who else runs it, ``head_lost`` that Ray is gone.

    Both are asked all the time, and answer "" as long as all is well.
    """

    taken_over: Callable[[], str]
    head_lost: Callable[[], str]

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.was_asked = False  # by the user, so that everything still works
        self.taken_over = self.head_lost = lambda: ""
        self._reason = ""

    def __str__(self) -> str:
        wait = "; trials that run write a checkpoint, a second Ctrl-C ends it now" if self.was_asked else ""
        return f"The sweep ends: {self.reason}{wait}"

    @property
    def reason(self) -> str:
        """One sentence; empty as long as the sweep goes on."""
        self._reason = self._reason or self.taken_over() or self.head_lost()
        return self._reason

    def ask(self, reason: str) -> None:
        """End the sweep."""
        self._reason = self._reason or reason

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM ask; the second of them is a KeyboardInterrupt."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.was_asked:
            raise KeyboardInterrupt
        self.was_asked = True
        self.ask("it was interrupted" if number == signal.SIGINT else "it was asked to terminate")

    @contextmanager
    def on_errors(self) -> Iterator[None]:
        """Where Ray would take an error of ours for one of the trial, and run that again."""
        if self.head_lost():
            raise HeadLost  # the main thread writes now what there is to be written
        try:
            yield
        except OSError as error:
            self.ask(reason(error))
        except Exception as error:
            self.error = self.error or error
            self.ask(f"{type(error).__name__}: {error}")
