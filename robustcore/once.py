"""What all trials on a machine share is computed once: whoever comes first works, the others wait and read."""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def computed_once(folder: Path, key: Any, suffix: str, compute: Callable[[Path], None]) -> Path:
    """The file for ``key`` (plain values) in ``folder``; where there is none, ``compute`` writes it to the path given.

    A file is whole or absent: what a process that dies leaves behind is never read.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    path = folder / f"{digest}{suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            unfinished = path.with_suffix(f".unfinished{suffix}")
            compute(unfinished)
            os.replace(unfinished, path)
    return path
