"""One driver a study: the lock is the operating system's, so it dies with its process. On local storage only."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from robustcore.storage import Folder
from sweeps.stored import RequestError


@contextmanager
def locked(folder: Folder, study: str) -> Iterator[None]:
    """Hold the study's lock. Raises RequestError where another process does."""
    local = folder.local
    if local is None:
        yield
        return
    local.mkdir(parents=True, exist_ok=True)
    with (local / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RequestError(
                f"another process runs the study '{study}'; `sweep status` shows how far it is"
            ) from None
        yield


def is_running(folder: Folder) -> bool:
    """Whether a driver on this machine holds the lock of a study that was launched."""
    try:
        with locked(folder, ""):
            return False
    except RequestError:
        return True
