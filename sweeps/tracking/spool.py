"""Events on disk until someone took them; the file only grows, and a position says how far it was taken."""

import json
import threading
from pathlib import Path
from typing import Any

from sweeps.results.files import replace_file

Event = dict[str, Any]


class Spool:
    """``spool.jsonl`` and ``spool.position`` in ``folder``, for one writing and one reading thread."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "spool.jsonl"
        self._position_file = folder / "spool.position"
        self._lock = threading.Lock()
        if self.path.exists() and not self.path.read_bytes().endswith(b"\n"):
            with self.path.open("ab") as file:  # the process before was killed within a line
                file.write(b"\n")
        self._position = int(self._position_file.read_text()) if self._position_file.exists() else 0

    def append(self, event: Event) -> None:
        """On disk when this returns."""
        line = json.dumps(event, default=str).encode() + b"\n"
        with self._lock, self.path.open("ab") as file:
            file.write(line)

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
        replace_file(self._position_file, str(position).encode())
        self._position = position
