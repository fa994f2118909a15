"""Whether Ray's head is still there: Ray itself takes a minute to notice, and then takes the whole process with it.

Until then, calls that need the head do not return, nor can they be interrupted; some are made where objects of Ray
are deleted. Whatever uses Ray for long therefore runs in a thread of its own (see ``Head.run``), which is left where it
is once the head is gone.
"""

import atexit
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

FAILED, INTERRUPTED = 1, 130  # exit codes: of a sweep that is unfinished, of one that was told to end now
_SERVERS = ("raylet", "gcs_server")
_LOOK, _GRACE = 0.5, 5.0  # seconds between two looks; in which what runs may end by itself
_KNOCK, _PATIENCE = 5.0, 30.0  # seconds; a network may be away for a moment


class HeadLost(BaseException):
    """Ray is gone, in one sentence. No Exception: nobody shall try to clean up with it."""


class Head:
    """``look`` is asked all the time whether it is gone: one sentence, or ""."""

    def __init__(self, look: Callable[[], str]) -> None:
        self._look, self._lost, self._done = look, "", Future[None]()
        self._done.set_result(None)

    def lost(self) -> str:
        """One sentence once it is gone, else ""."""
        self._lost = self._lost or self._look()
        return self._lost

    def check(self) -> None:
        """Raises HeadLost."""
        if self.lost():
            raise HeadLost(self.lost())

    def run(self, work: Callable[[], None]) -> None:
        """Returns, or raises, as ``work`` does; HeadLost where that still waits for a head that is gone."""
        # Kept as long as this: what the traceback of a HeadLost holds would call Ray when it is deleted.
        self._done = Future()
        threading.Thread(target=_fulfil, args=(self._done, work), name="ray calls", daemon=True).start()
        while not self.lost() and not self._done.done():
            wait([self._done], _LOOK)
        wait([self._done], _GRACE)
        if not self._done.done():
            raise HeadLost(self.lost())
        self._done.result()

    def leave(self) -> None:
        """End the connection, and the Ray that this process has started; the process itself must end soon."""
        import ray

        if self.lost():
            self._abandon(FAILED)
        elif not self._done.done():  # interrupted in the middle of anything
            self._abandon(INTERRUPTED)
        else:
            ray.shutdown()

    def _abandon(self, code: int) -> None:
        """A proper good-bye would wait for the head's answer, and at the end of the process for Ray's threads."""
        import ray

        atexit.unregister(ray.shutdown)
        atexit.register(self._exit, code)
        for name in _SERVERS:
            for each in _started(name):
                family = _children(each.process.pid) if each.process.poll() is None else []
                each.process.kill()
                for pid in family:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    def _exit(self, code: int) -> None:
        """What there was to say is said."""
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _fulfil(promise: Future[None], work: Callable[[], None]) -> None:
    try:
        work()
    except BaseException as error:
        promise.set_exception(error)
    else:
        promise.set_result(None)


def head_of(address: str) -> Head:
    """Of the Ray at the address, that this process is connected to."""
    if address == "local":
        return Head(_own_processes)
    import ray

    remote = _Remote(ray.get_runtime_context().gcs_address)
    threading.Thread(target=remote.run, name="head", daemon=True).start()
    return Head(lambda: remote.lost)


def _own_processes() -> str:
    for name in _SERVERS:
        if any(each.process.poll() is not None for each in _started(name)):
            return f"Ray's own process {name} died"
    return ""


def _started(name: str) -> list[Any]:
    """Processes of a Ray that this one has started; what it keeps of them is no part of Ray's public interface."""
    from ray._private import worker

    return worker._global_node.all_processes.get(name, []) if worker._global_node is not None else []


def _children(pid: int) -> list[int]:
    """Trials and agents are the raylet's: without it, some of them would look for the head for another minute."""
    return [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]


class _Remote:
    """Knocks at the head's address."""

    def __init__(self, address: str) -> None:
        self.lost = ""
        host, _, port = address.rpartition(":")
        self._place = (host, int(port))

    def run(self) -> None:
        """Until it is gone, or the process ends."""
        seen = time.monotonic()
        while not self.lost:
            try:
                socket.create_connection(self._place, timeout=_KNOCK).close()
                seen = time.monotonic()
            except OSError as error:
                if time.monotonic() - seen > _PATIENCE:
                    self.lost = f"Ray's head does not answer at {self._place[0]}:{self._place[1]} ({error})"
            time.sleep(_KNOCK)
