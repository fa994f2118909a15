"""Whether results can be written to a place: a file is written and deleted, and nothing stays behind."""

import tempfile
import threading
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.fs

from sweeps.source import without_secrets

PATIENCE = 30.0  # seconds; clients of object storage retry for many minutes


def why_not_writable(storage: str) -> str:
    """One sentence about why nothing can be written to a path or URI; empty if it can."""
    if "://" not in storage:
        return _local(Path(storage))
    answers = ["no answer within 30 s"]
    # A daemon: a client that never gives up must not keep the process alive.
    thread = threading.Thread(target=lambda: answers.append(_remote(storage)), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    reason = without_secrets(answers[-1])
    return f"cannot write to {without_secrets(storage)} ({reason})" if reason else ""


def _local(folder: Path) -> str:
    try:
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        if not existing.is_dir():
            return f"expected a folder to write to, got the file {existing}"
        with tempfile.TemporaryFile(dir=existing):
            return ""
    except (OSError, ValueError) as error:
        return f"cannot write to {folder} ({getattr(error, 'strerror', None) or error})"


def _remote(storage: str) -> str:
    try:
        filesystem, folder = pyarrow.fs.FileSystem.from_uri(storage)
        if isinstance(filesystem, pyarrow.fs.LocalFileSystem):
            return _local(Path(folder))
        was_there = filesystem.get_file_info(folder).type != pyarrow.fs.FileType.NotFound
        name = f"{folder}/.probe-{uuid.uuid4().hex}"
        if not was_there:
            filesystem.create_dir(folder, recursive=True)
        with filesystem.open_output_stream(name) as stream:
            stream.write(b"probe")
        filesystem.delete_file(name)
        if not was_there:
            filesystem.delete_dir(folder)
    except (pa.ArrowException, OSError, ValueError) as error:
        return " ".join(str(error).split())[:300]
    return ""
