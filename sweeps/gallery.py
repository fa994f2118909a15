"""The pictures of the front beside the results: drawn now and then while trials run, in a thread, for it takes a while.

Nobody waits for them but the end of the sweep.
"""

import copy
import logging
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from robustcore.storage import Folder, reason
from sweeps.report import front_files
from sweeps.results import TrialRecord
from sweeps.study import Study

_EVERY = 20.0  # seconds between two drawings
_SHARE = 20  # they take at most a twentieth of the time


class Gallery:
    """Of one study, whose folder this is."""

    def __init__(self, study: Study, folder: Folder) -> None:
        self._study, self._folder = study, Folder(folder.uri, home=folder.home)
        self._drawn = self._drawing = 0.0
        self._painter = ThreadPoolExecutor(1, "pictures")
        self._begun: Future[dict[str, bytes]] | None = None

    def draw(self, records: Iterable[TrialRecord], front: Sequence[TrialRecord], at_once: bool) -> dict[str, bytes]:
        """The files that were drawn since the last call, by name; all of them, as things are now, if ``at_once``."""
        files: dict[str, bytes] = {}
        if self._begun is not None and (at_once or self._begun.done()):
            files, self._begun = self._begun.result(), None
        if at_once:
            return self._draw(list(records), front, is_last=True)
        if self._begun is None and time.monotonic() - self._drawn >= max(_EVERY, _SHARE * self._drawing):
            self._begun = self._painter.submit(self._draw, [_still(each) for each in records], list(front))
        return files

    def _draw(
        self, records: Sequence[TrialRecord], front: Sequence[TrialRecord], is_last: bool = False
    ) -> dict[str, bytes]:
        """A file that cannot be written is no reason to wait."""
        started = time.monotonic()
        study = self._study
        files = front_files(records, front, study.objectives, study.name, study.feasible)
        try:
            for name, content in files.items():
                self._folder.write(name, content)
        except OSError as error:
            if is_last:
                logging.getLogger(__name__).warning("warning: the front's pictures are old (%s)", reason(error))
        self._drawn = time.monotonic()
        self._drawing = self._drawn - started
        return files


def _still(record: TrialRecord) -> TrialRecord:
    """The record as it is, while the trial goes on."""
    return copy.copy(record) if record.state in ("pending", "running") else record
