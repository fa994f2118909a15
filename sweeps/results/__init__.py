"""Trials -> one table in Parquet, the truth that outlives the process; the caller decides when to save.

A table of hundreds of trials takes too long to be written at every change: then a journal beside it has the changes.
"""

import contextlib
import time
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from robustcore.storage import read_file, resolved, write_file
from sweeps.results.journal import Journal, digest, read_journal
from sweeps.results.records import Certificate, Evaluation, State, TrialRecord, Value
from sweeps.results.table import from_table, to_table

__all__ = ["Certificate", "Evaluation", "Results", "State", "TrialRecord", "Value"]


class Results:
    """Records by trial id, and the file that outlives the process.

    ``uri`` is a local path or any URI that pyarrow.fs understands (``s3://bucket/sweep/results.parquet``).
    """

    quick = 0.02
    """Seconds: a table that takes longer to write is not written at every change."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.records: dict[str, TrialRecord] = {}
        self.filesystem, self.path = resolved(uri)
        self._journal: Journal | None = None  # None: the table is to be written first
        self._seconds = 0.0  # that writing the table took

    @classmethod
    def read(cls, uri: str) -> "Results":
        """Raises FileNotFoundError if there is no such file, ValueError if it does not hold results."""
        results = cls(uri)
        beside, changes = read_journal(results.filesystem, results._journal_path)
        content = read_file(results.filesystem, results.path)
        try:
            records = from_table(parquet.ParquetFile(pa.BufferReader(content)).read())  # read_table takes pandas along
        except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
            detail = " ".join(str(error).split()).rstrip(".")
            raise ValueError(f"{uri}: expected the results of a sweep, but cannot read them: {detail}.") from error
        results.records = {record.trial: record for record in records}
        if changes and beside == digest(content):
            results.records |= {record.trial: record for record in changes}
        return results

    def save(self, changed: Collection[TrialRecord] | None = None) -> None:
        """All of it, or those that ``changed``; a reader, or a kill at any moment, finds the state before or this one.

        Raises OSError; to save again is safe, and saves all.
        """
        journal, self._journal = self._journal, None
        is_slow = self._seconds > self.quick
        if changed is not None and journal and is_slow and journal.has_room(len(self.records)):
            try:
                journal.add(changed)
            except FileNotFoundError:
                if not Path(self.path).parent.is_dir():  # a disk that is not mounted: its place is left alone
                    raise
            else:
                self._journal = journal
                return
        self._save_table()

    def _save_table(self) -> None:
        started = time.monotonic()
        sink = pa.BufferOutputStream()
        parquet.write_table(to_table(list(self.records.values())), sink, compression="zstd")
        content = sink.getvalue().to_pybytes()
        write_file(self.filesystem, self.path, content)
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(self._journal_path)
        self._journal = Journal(self.filesystem, self._journal_path, content)
        self._seconds = time.monotonic() - started

    @property
    def _journal_path(self) -> str:
        return self.path.removesuffix(".parquet") + ".journal"
