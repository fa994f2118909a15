"""Trials -> one table in Parquet, the truth that outlives the process; the caller decides when to save."""

from pathlib import Path

import pyarrow as pa
from pyarrow import fs, parquet

from robustcore.storage import replace_file, resolved
from sweeps.results.records import Certificate, Evaluation, State, TrialRecord, Value
from sweeps.results.table import from_table, to_table

__all__ = ["Certificate", "Evaluation", "Results", "State", "TrialRecord", "Value"]


class Results:
    """Records by trial id, and the file that outlives the process.

    ``uri`` is a local path or any URI that pyarrow.fs understands (``s3://bucket/sweep/results.parquet``).
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.records: dict[str, TrialRecord] = {}
        self.filesystem, self.path = resolved(uri)

    @classmethod
    def read(cls, uri: str) -> "Results":
        """Raises FileNotFoundError if there is no such file, ValueError if it does not hold results."""
        results = cls(uri)
        with results.filesystem.open_input_file(results.path) as file:
            content = file.read_buffer()
        try:
            records = from_table(parquet.read_table(pa.BufferReader(content)))
        except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
            detail = " ".join(str(error).split()).rstrip(".")
            raise ValueError(f"{uri}: expected the results of a sweep, but cannot read them: {detail}.") from error
        results.records = {record.trial: record for record in records}
        return results

    def save(self) -> None:
        """The whole file at once: a reader, or a kill at any moment, finds the old file or the new one."""
        sink = pa.BufferOutputStream()
        parquet.write_table(to_table(list(self.records.values())), sink, compression="zstd")
        content = sink.getvalue()
        if isinstance(self.filesystem, fs.LocalFileSystem):
            replace_file(Path(self.path), content)
        else:  # an object appears when its upload is complete
            with self.filesystem.open_output_stream(self.path) as stream:
                stream.write(content)
