"""Changed records, a line each, beside a results file that takes long to write: read together they are the results.

The first line says of which results file, by a digest of it; beside any other file the journal says nothing.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Iterable

from pyarrow import fs

from robustcore.storage import read_file, write_file
from sweeps.results.records import Certificate, Evaluation, TrialRecord

_FEW = 200  # lines: as many as an object may have, which is uploaded anew for each change


class Journal:
    """What came after the results file ``beside``, the bytes of that file."""

    def __init__(self, filesystem: fs.FileSystem, path: str, beside: bytes) -> None:
        self._filesystem, self._path = filesystem, path
        self._lines = [digest(beside) + b"\n"]

    def has_room(self, records: int) -> bool:
        """Whether it is still worth more than the results file written anew, which has so many ``records``."""
        return len(self._lines) <= (max(_FEW, 2 * records) if self._is_local else _FEW)

    def add(self, records: Iterable[TrialRecord]) -> None:
        """All of them are in storage when this returns; after an OSError the journal is to be given up."""
        is_new, lines = len(self._lines) == 1, [_line(record) for record in records]
        self._lines += lines
        if is_new or not self._is_local:
            write_file(self._filesystem, self._path, b"".join(self._lines))
        else:
            with open(os.open(self._path, os.O_WRONLY | os.O_APPEND), "wb") as file:
                file.write(b"".join(lines))
                file.flush()
                os.fsync(file.fileno())

    @property
    def _is_local(self) -> bool:
        return isinstance(self._filesystem, fs.LocalFileSystem)


def read_journal(filesystem: fs.FileSystem, path: str) -> tuple[bytes, list[TrialRecord]]:
    """The digest of its results file, and the last state of each trial in it; nothing where there is none.

    To be read before the results file, which may meanwhile be replaced by one that holds all of this. A last line that
    a killed process left unfinished is passed over; raises ValueError for any other damage.
    """
    try:
        first, *lines = read_file(filesystem, path).split(b"\n")[:-1] or [b""]
    except FileNotFoundError:
        return b"", []
    last: dict[bytes, bytes] = {}
    for number, line in enumerate(lines, start=2):
        checksum, _, text = line.partition(b" ")
        if checksum != _checksum(text):
            raise ValueError(f"{path}:{number}: expected a line of a sweep's journal, but it is damaged.")
        last[text.partition(b" ")[0]] = text
    return first, [_record(text.partition(b" ")[2]) for text in last.values()]


def digest(content: bytes) -> bytes:
    """What a results file is known by."""
    return hashlib.sha256(content).hexdigest().encode()


def _line(record: TrialRecord) -> bytes:
    text = f"{record.trial} {json.dumps(vars(record), default=vars)}".encode()
    return _checksum(text) + b" " + text + b"\n"


def _checksum(text: bytes) -> bytes:
    return b"%08x" % zlib.crc32(text)


def _record(text: bytes) -> TrialRecord:
    fields = json.loads(text)
    fields["evaluations"] = [Evaluation(**each) for each in fields["evaluations"]]
    fields["certificate"] = Certificate(**fields["certificate"]) if fields["certificate"] else None
    return TrialRecord(**fields)
