"""One driver a study: on this machine's disks the operating system's lock, elsewhere and between machines a lease.

The lock dies with its process. A lease is a small file beside the results that its owner rewrites all the time; it is
taken over when its process on the same machine is dead, or when it has not been rewritten for minutes: clocks of
machines that share a storage must agree within one.
"""

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TextIO

from robustcore.storage import Folder, StorageLost
from sweeps.stored import RequestError

LEASE = "lease.json"
_RENEW = 20.0  # seconds
_STALE = 300.0  # more than a sweep waits for its storage
_SETTLE = 2.0  # two that start in the same second see after it whose lease stands


@dataclass(frozen=True)
class Lease:
    """Who drives the study; ``time`` in Unix seconds."""

    owner: str
    host: str
    pid: int
    born: str  # when the process began, in the kernel's own count: process ids are used again
    time: float

    def is_held(self) -> bool:
        """Whether its owner is, or may be, alive."""
        if self.is_here() and self.born:
            return _born(self.pid) == self.born
        return time.time() - self.time < _STALE

    def is_here(self) -> bool:
        """Whether its owner is, or was, a process of this machine."""
        return self.host == socket.gethostname()

    def __str__(self) -> str:
        seen = "" if self.is_here() else f", last heard of {max(0.0, time.time() - self.time):.0f} s ago"
        return f"process {self.pid} on {self.host}{seen}"


class Hold:
    """A lease that is kept up in the background; see ``taken_over``."""

    def __init__(self, folder: Folder) -> None:
        self._lost = ""
        self._folder, self._owner, self._over = folder, uuid.uuid4().hex, threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def take(self, study: str) -> None:
        """Raises RequestError where another process has the study."""
        is_local = self._folder.local is not None
        found = _lease(self._folder)
        if found is not None and not (is_local and found.is_here()):  # there, the operating system's lock has spoken
            _refuse(found, study)
        self._write()
        if not is_local:
            time.sleep(_SETTLE)
            _refuse(_lease(self._folder), study, self._owner)
        self._thread.start()

    def taken_over(self) -> str:
        """One sentence once another has it, else ""."""
        return self._lost

    def give_back(self) -> None:
        """The next one need not wait."""
        self._over.set()
        self._thread.join()
        with suppress(OSError):
            found = _lease(self._folder)
            if found is not None and found.owner == self._owner:
                self._folder.remove(LEASE)

    def _renew(self) -> None:
        while not self._over.wait(_RENEW):
            with suppress(OSError):  # storage that is away comes back, or the sweep ends of it
                found = _lease(self._folder)
                if found is not None and found.owner != self._owner:
                    self._lost = f"another one runs it now: {found}"
                    return
                self._write()

    def _write(self) -> None:
        lease = Lease(self._owner, socket.gethostname(), os.getpid(), _born(os.getpid()), time.time())
        self._folder.write(LEASE, json.dumps(asdict(lease)).encode())


@contextmanager
def locked(folder: Folder, study: str) -> Iterator[Hold]:
    """Hold the study. Raises RequestError where another process does, or where nothing can be written."""
    hold = Hold(folder)
    with ExitStack() as stack:
        try:
            if folder.local is not None:
                folder.local.mkdir(parents=True, exist_ok=True)
                _flock(stack.enter_context((folder.local / "lock").open("w")), study)
                hold = Hold(replace(folder, home=folder.uri))  # a disk that is unmounted must not be written over
            hold.take(study)
        except StorageLost as error:
            raise RequestError(str(error)) from None
        except OSError as error:
            raise RequestError(f"cannot write to {folder.uri} ({error.strerror or error})") from None
        stack.callback(hold.give_back)
        yield hold


def is_running(folder: Folder) -> bool:
    """Whether a driver runs the study that was launched there. Raises OSError."""
    if folder.local is not None:
        with suppress(FileNotFoundError), (folder.local / "lock").open() as lock:
            try:
                _flock(lock, "")
            except RequestError:
                return True
    found = _lease(folder)
    if found is None or (folder.local is not None and found.is_here()):  # the lock has spoken for this machine
        return False
    return found.is_held()


def _flock(lock: TextIO, study: str) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RequestError(f"another process runs the study '{study}'; `sweep status` shows how far it is") from None


def _refuse(found: Lease | None, study: str, mine: str = "") -> None:
    if found is None or found.owner == mine or not found.is_held():
        return
    wait = "" if found.is_here() else f"; if that is dead, its lease ends after {_STALE / 60:g} minutes"
    raise RequestError(f"another process runs the study '{study}' ({found}); `sweep status` shows how far it is{wait}")


def _lease(folder: Folder) -> Lease | None:
    try:
        return Lease(**json.loads(folder.read(LEASE)))
    except (FileNotFoundError, ValueError, TypeError):  # none, or one that was cut short
        return None


def _born(pid: int) -> str:
    """When a process of this machine began; empty where there is none, or where the kernel does not say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except OSError:
        return ""
