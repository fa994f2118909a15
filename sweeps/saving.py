"""What of the results is not in storage yet, and whether it is time to put it there."""

import time
from collections.abc import Callable

from robustcore.storage import Folder
from sweeps.results import Results, TrialRecord

_SHARE = 20  # saving what can be told again takes at most a twentieth of the time


class Saving:
    """Whoever changes a record says so in ``changed`` before it is saved."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._changed: dict[str, TrialRecord] = {}
        self._saved = self._seconds = 0.0

    def changed(self, record: TrialRecord) -> None:
        """To be saved with the next."""
        self._changed[record.trial] = record

    def is_due(self) -> bool:
        """Whether what could be lost, for a trial would tell it again, is worth the time by now."""
        return time.monotonic() - self._saved > _SHARE * self._seconds

    def save(self, folder: Folder) -> None:
        """Everything that changed; raises OSError when the folder's patience is over."""
        self._keep(folder, lambda: self._results.save(self._changed.values()))

    def save_all(self, folder: Folder) -> None:
        """The whole table, for others to read without us; raises OSError as ``save`` does."""
        self._keep(folder, self._results.save)

    def _keep(self, folder: Folder, save: Callable[[], None]) -> None:
        started = time.monotonic()
        folder.patiently(save)
        self._changed = {}
        self._saved = time.monotonic()
        self._seconds = self._saved - started
