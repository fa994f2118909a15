"""What a sweep and its trials tell each other beside results, through Ray's key-value store: to rest, where a trial
runs, and what was lost. Keys hold the id of the driver's job, so that no sweep hears another on the same cluster.
"""

import json
import time

import ray
import torch
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

from robustcore.process import Process
from trainables.machines import MachineLeft, here, is_leaving

_ASK_EVERY = 0.5  # seconds
_LOOK_EVERY = 2.0  # seconds; clouds give a notice of thirty at least


def ask_to_rest(study: str) -> None:
    """Every trial under the study's folder shall write a checkpoint where it is."""
    _put("rest", study, "now")


class Rest:
    """Called between two steps by all processes of a trial: whether a checkpoint is wanted now. True once.

    It is where the sweep asks for it, or where one of their machines goes, and the same for all of them.
    """

    def __init__(self, study: str, trial: str, process: Process) -> None:
        self._study, self._trial, self._process = study, trial, process
        self._ask, self._look, self._is_over = 0.0, 0.0, False
        self._leaves = False

    def __call__(self) -> bool:
        """A process alone asks Ray now and then; several also tell each other at every step."""
        if self._is_over:
            return False
        heard = torch.tensor([self._is_asked(), self._is_moved()])
        if self._process.world_size > 1:
            heard = self._process.total(heard) > 0
        self._is_over, self._leaves = bool(heard.any()), bool(heard[1])
        return self._is_over

    def written(self) -> None:
        """The checkpoint is there: the trial may be killed. Raises MachineLeft where it does not wait for that."""
        if self._leaves:
            self._process.total(torch.zeros(1))  # who has nothing to write waits for who does
            raise MachineLeft(f"its machine {here()[:12]} or that of another worker goes")
        if self._process.rank == 0:
            _put("rests", self._trial, "yes")

    def _is_asked(self) -> bool:
        if time.monotonic() < self._ask:
            return False
        self._ask = time.monotonic() + _ASK_EVERY
        return bool(_get("rest", self._study))

    def _is_moved(self) -> bool:
        if time.monotonic() < self._look:
            return False
        self._look = time.monotonic() + _LOOK_EVERY
        return is_leaving(here())


def rests(trial: str) -> bool:
    """Whether it has."""
    return bool(_get("rests", trial))


def note_place(trial: str) -> None:
    """The trial of this folder runs on this machine."""
    _put("place", trial, here())


def place(trial: str) -> str:
    """The node that it said it runs on, once; "" where it has said nothing since."""
    found = _get("place", trial)
    _put("place", trial, "")
    return found


def note_loss(trial: str, sentence: str) -> None:
    """Workers of the trial were lost, and are started again."""
    _put("losses", trial, json.dumps([*losses(trial), sentence]))


def losses(trial: str) -> list[str]:
    """What was noted of the trial of this folder."""
    found: list[str] = json.loads(_get("losses", trial) or "[]")
    return found


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
