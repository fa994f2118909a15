"""Whether Ray's head is still there: Ray itself takes a minute to notice, and then takes the whole process with it."""

import atexit
import os
import socket
import sys
import threading
import time
from collections.abc import Callable

FAILED = 1  # the exit code of a sweep that is unfinished
_EVERY, _PATIENCE = 5.0, 30.0  # seconds; a network may be away for a moment


def head_watch(address: str) -> Callable[[], str]:
    """Of the Ray that this process is connected to: one sentence once it is gone, else ""."""
    import ray

    if address == "local":
        return _own_processes
    watch = _Remote(ray.get_runtime_context().gcs_address)
    threading.Thread(target=watch.run, name="head", daemon=True).start()
    return lambda: watch.lost


def _own_processes() -> str:
    """Of a Ray that this process has started; what it keeps of them is no part of Ray's public interface."""
    from ray._private import worker

    started = worker._global_node.all_processes if worker._global_node is not None else {}
    for name in ("gcs_server", "raylet"):
        if any(each.process.poll() is not None for each in started.get(name, [])):
            return f"Ray's own process {name} died"
    return ""


def abandon() -> None:
    """Leave a Ray whose head is gone: a proper good-bye would wait for its answer."""
    import ray
    from ray._private import worker

    atexit.unregister(ray.shutdown)
    atexit.register(_leave)
    if worker._global_node is not None:
        worker._global_node.kill_all_processes(check_alive=False, allow_graceful=True)


def _leave() -> None:
    """Ray's threads would hold up the end of the process for a minute; what it had to say is said."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(FAILED)


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
                socket.create_connection(self._place, timeout=_EVERY).close()
                seen = time.monotonic()
            except OSError as error:
                if time.monotonic() - seen > _PATIENCE:
                    self.lost = f"Ray's head does not answer at {self._place[0]}:{self._place[1]} ({error})"
            time.sleep(_EVERY)
