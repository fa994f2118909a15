"""The pictures of the front beside the results: drawn now and then while trials run, for they take a while."""

import logging
import time
from collections.abc import Sequence

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

    def draw(self, records: Sequence[TrialRecord], front: Sequence[TrialRecord], at_once: bool) -> dict[str, bytes]:
        """The files by name, or none where it is too early. One that cannot be written is no reason to wait."""
        started = time.monotonic()
        if not at_once and started - self._drawn < max(_EVERY, _SHARE * self._drawing):
            return {}
        study = self._study
        files = front_files(records, front, study.objectives, study.name, study.feasible)
        try:
            for name, content in files.items():
                self._folder.write(name, content)
        except OSError as error:
            if at_once:
                logging.getLogger(__name__).warning("warning: the front's pictures are old (%s)", reason(error))
        self._drawn = time.monotonic()
        self._drawing = self._drawn - started
        return files
