"""Whether results can be written to a place: a file is written and deleted, and nothing stays behind."""

import tempfile
import threading
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.fs

from robustcore.addresses import without_secrets
from robustcore.clients import resolved
from robustcore.errors import InputError
from robustcore.storage import Folder, StorageLost, reason

PATIENCE = 30.0  # seconds; clients of object storage retry for many minutes


def why_not_writable(storage: str) -> str:
    """One sentence about why nothing can be written to a path or URI; empty if it can."""
    if "://" not in storage:
        return _local(Path(storage))
    answers = [f"cannot write to {without_secrets(storage)} (no answer within {PATIENCE:g} s)"]
    # A daemon: a client that never gives up must not keep the process alive.
    thread = threading.Thread(target=lambda: answers.append(_remote(storage)), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return answers[-1]


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
        folder, (filesystem, place) = Folder(storage), resolved(storage)
        if folder.local is not None:
            return _local(folder.local)
        was_there = filesystem.get_file_info(place).type != pyarrow.fs.FileType.NotFound
        name = f".probe-{uuid.uuid4().hex}"
        folder.write(name, b"probe")
        folder.remove(name)
        selector = pyarrow.fs.FileSelector(place, allow_not_found=True)
        if not was_there and not filesystem.get_file_info(selector):  # another may have come meanwhile
            filesystem.delete_dir(place)
    except InputError as error:
        return str(error)
    except (pa.ArrowException, OSError, ValueError) as error:
        words = without_secrets(reason(error) if isinstance(error, OSError) else " ".join(str(error).split())[:300])
        return words if isinstance(error, StorageLost) else f"cannot write to {without_secrets(storage)} ({words})"
    return ""
