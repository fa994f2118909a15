"""What a sweep and its trials tell each other beside results, through Ray's key-value store: to rest, and that storage
is lost. Keys hold the id of the driver's job, so that no sweep hears another on the same cluster.
"""

import time

import ray
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

_ASK_EVERY = 0.5  # seconds


def ask_to_rest(study: str) -> None:
    """Every trial under the study's folder shall write a checkpoint where it is."""
    _put("rest", study, "now")


class Rest:
    """Called between two steps: whether a checkpoint is wanted now. True once."""

    def __init__(self, study: str) -> None:
        self._study, self._next, self._is_over = study, 0.0, False

    def __call__(self) -> bool:
        """Ray is asked twice a second."""
        if self._is_over or time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + _ASK_EVERY
        self._is_over = bool(_get("rest", self._study))
        return self._is_over


def note_rest(trial: str) -> None:
    """The trial of this folder has written its checkpoint: it may be killed."""
    _put("rests", trial, "yes")


def rests(trial: str) -> bool:
    """Whether it has."""
    return bool(_get("rests", trial))


def note_lost(trial: str, sentence: str) -> None:
    """One of several workers could not write: all of them shall say so when they are started again."""
    _put("lost", trial, sentence)


def lost(trial: str) -> str:
    """Why it could not, or ""."""
    return _get("lost", trial)


def _put(kind: str, folder: str, text: str) -> None:
    _internal_kv_put(_key(kind, folder), text.encode(), overwrite=True)


def _get(kind: str, folder: str) -> str:
    return (_internal_kv_get(_key(kind, folder)) or b"").decode()


def _key(kind: str, folder: str) -> bytes:
    return f"sweep-{kind}:{ray.get_runtime_context().get_job_id()}:{folder}".encode()
