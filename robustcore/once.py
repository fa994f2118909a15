"""What all trials on a machine share is computed once: whoever comes first works, the others wait and read.

Machines leave it for each other on storage. Two that begin together both compute: nobody waits for another machine.
"""

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from robustcore.addresses import without_secrets
from robustcore.storage import Folder, reason


def computed_once(folder: Path, key: Any, suffix: str, compute: Callable[[Path], None], shared: str = "") -> Path:
    """The file for ``key`` (plain values) in ``folder``; where there is none, ``compute`` writes it to the path given.

    A file is whole or absent: what a process that dies leaves behind is never read. What another machine has left in
    ``shared``, a path or URI, is taken from there; where that cannot be used, all is as without it.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    path = folder / f"{digest}{suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            unfinished = path.with_suffix(f".unfinished{suffix}")
            if not _taken(shared, path.name, unfinished):
                compute(unfinished)
                _left(shared, path.name, unfinished)
            os.replace(unfinished, path)
    return path


def _taken(shared: str, name: str, place: Path) -> bool:
    if not shared:
        return False
    try:
        place.write_bytes(Folder(shared).read(name))
    except FileNotFoundError:
        return False
    except OSError as error:
        _warn(shared, error)
        return False
    return True


def _left(shared: str, name: str, place: Path) -> None:
    if not shared:
        return
    try:
        Folder(shared).write(name, place.read_bytes())
    except OSError as error:
        _warn(shared, error)


def _warn(shared: str, error: OSError) -> None:
    words = f"what machines share in {without_secrets(shared)} cannot be used"
    logging.getLogger(__name__).warning("warning: %s, and is computed here: %s", words, reason(error))
