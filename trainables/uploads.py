"""Checkpoints on their way to storage while training goes on: one is being written, and the newest one waits.

A write that failed is raised at the next call, whichever it is; what was put last is written before the end.
"""

import contextlib
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Uploads(Generic[T]):
    """``save`` is called in a thread of its own, for one value after the other."""

    def __init__(self, save: Callable[[T], None]) -> None:
        self._save, self._has_failed = save, False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="upload")
        self._unheard: list[Future[None]] = []  # at most one that is written and one that waits, and those that failed

    def __enter__(self) -> "Uploads[T]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What waits is still written, unless storage fails: whoever stops a trial may want to go on with it."""
        if not isinstance(error, OSError):
            with contextlib.suppress(Exception):
                self.finish()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def put(self, value: T) -> None:
        """To be saved as soon as it can; one that still waits is left out for it. Raises what an earlier one raised."""
        self.check()
        for waiting in self._unheard:
            waiting.cancel()  # no matter if it has just begun
        self._unheard = [future for future in self._unheard if not future.cancelled()]
        self._unheard.append(self._thread.submit(self._write, value))

    def _write(self, value: T) -> None:
        """Nothing more once one has failed: storage has had all the patience that there is."""
        if self._has_failed:
            return
        try:
            self._save(value)
        except BaseException:
            self._has_failed = True
            raise

    def check(self) -> None:
        """Raises what an earlier one raised."""
        for future in [future for future in self._unheard if future.done()]:
            future.result()
            self._unheard.remove(future)

    def finish(self) -> None:
        """Wait until everything is saved. Raises what one of them raised."""
        for future in self._unheard:
            with contextlib.suppress(CancelledError):
                future.result()
        self._unheard = []
