"""What a run takes, from its first few steps and one evaluation: seconds and bytes. Nothing of it is kept."""

import resource
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

from robustcore.finetune import Run
from robustcore.process import Process
from robustcore.recipe import Recipe

_LONGEST = 5.0  # seconds of steps, once there are a few of them
_FEW, _MANY = 4, 50


@dataclass(frozen=True)
class Rehearsal:
    """Seconds: to get ready the first time and again, of a step, of an evaluation. Bytes: the peak, and on storage.

    The first time, the original embeddings are made; they are kept in the process's cache, as a run's are.
    """

    first: float
    again: float
    step: float
    evaluation: float
    memory: int  # the most that torch held of the GPU where there is one, else the peak of this process
    weights: int
    optimizer: int
    embeddings: int
    gpu_memory: int = 0  # bytes of the whole GPU; 0 where it was rehearsed on a CPU


def rehearse(recipe: Recipe, process: Process, company: AbstractContextManager[object] | None = None) -> Rehearsal:
    """Take the recipe's first steps and evaluate once, in ``company`` of what else will run. Raises as ``finetune``."""
    on_gpu = process.device.type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(process.device)
    first = _prepared(recipe, process)[0]
    with company or nullcontext():
        again, run = _prepared(recipe, process)
        step = _step(recipe, run)
        started = time.perf_counter()
        run.measured()
        _wait()
        evaluation = time.perf_counter() - started
    original = run.known.original
    return Rehearsal(
        first,
        again,
        step,
        evaluation,
        torch.cuda.max_memory_reserved(process.device) if on_gpu else _peak(),
        _bytes(run.descent.weights().values()),
        _bytes(run.descent.optimizer().values()),
        0 if original is None else original.nbytes,
        int(torch.cuda.get_device_properties(process.device).total_memory) if on_gpu else 0,
    )


def keep_busy(recipe: Recipe, process: Process, ready: Callable[[], object]) -> NoReturn:
    """Work as a run does, for ever; ``ready`` is called when the first round begins."""
    run = Run(recipe, process)
    ready()
    while True:
        for _ in run.descent.steps(range(recipe.optim.steps)):
            pass
        run.measured()


def _prepared(recipe: Recipe, process: Process) -> tuple[float, Run]:
    started = time.perf_counter()
    run = Run(recipe, process)
    _wait()
    return time.perf_counter() - started, run


def _step(recipe: Recipe, run: Run) -> float:
    """Seconds of one, without the first: that one warms up."""
    times, began, started = [0.0], time.perf_counter(), time.perf_counter()
    for _ in run.descent.steps(range(min(recipe.optim.steps, _MANY))):
        _wait()
        times.append(time.perf_counter() - started)
        started = time.perf_counter()
        if len(times) > _FEW and started - began > _LONGEST:
            break
    later = times[2:] or times[1:] or times
    return sum(later) / len(later)


def _wait() -> None:
    """For what a GPU was told to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
