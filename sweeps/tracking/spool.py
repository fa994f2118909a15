"""Events on disk until someone took them; the file only grows, and a position says how far it was taken."""

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from robustcore.storage import replace_file

Event = dict[str, Any]


class Spool:
    """``spool.jsonl`` and ``spool.position`` in ``folder``, for one writing and one reading thread."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "spool.jsonl"
        self._position_file = folder / "spool.position"
        self._lock = threading.Lock()
        self._waiting: list[bytes] = []
        # The process before may have been killed within a line.
        self._is_torn = self.path.exists() and not self.path.read_bytes().endswith(b"\n")
        self._position = int(self._position_file.read_text()) if self._position_file.exists() else 0

    @property
    def unwritten(self) -> int:
        """How many events the disk did not take."""
        return len(self._waiting)

    @property
    def behind(self) -> int:
        """Bytes of events that nobody took yet; 0 where the disk does not say."""
        try:
            return self.path.stat().st_size - self._position
        except OSError:
            return 0

    def append(self, event: Event) -> None:
        """On disk when this returns; where the disk takes nothing, it waits in memory for the next one to come."""
        with self._lock:
            self._waiting.append(json.dumps(event, default=str).encode() + b"\n")
            try:
                with self.path.open("ab") as file:
                    file.write(b"".join([b"\n" * self._is_torn, *self._waiting]))
            except OSError:
                self._is_torn = True  # maybe: an empty line does no harm
                return
            self._waiting, self._is_torn = [], False

    def events(self) -> Iterator[Event]:
        """All that were ever written; torn lines are passed over."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for line in file:
                with suppress(ValueError):
                    yield json.loads(line)

    def pending(self, limit: int | None = None) -> list[tuple[Event, int]]:
        """The next events in order, each with the position after it; torn lines are passed over."""
        events: list[tuple[Event, int]] = []
        if not self.path.exists():
            return events
        with self.path.open("rb") as file:
            position = file.seek(self._position)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # still being written
                position += len(line)
                try:
                    events.append((json.loads(line), position))
                except ValueError:
                    continue
                if len(events) == limit:
                    break
        return events

    def advance(self, position: int) -> None:
        """All events before ``position`` are taken; 0 takes every one back."""
        keep(self._position_file, str(position).encode())
        self._position = position


def keep(path: Path, content: bytes) -> None:
    """Replace a file; raises OSError where the disk is not mounted, over whose place nothing shall be written."""
    if not path.parent.is_dir() and not path.parent.parent.is_dir():
        raise OSError(f"the folder {path.parent} is gone")
    replace_file(path, content)
