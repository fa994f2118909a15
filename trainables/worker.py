"""What every training process of a trial executes, in place or under Ray Train: resume, fine-tune, checkpoint, report.

The next hop is ``robustcore.finetune.finetune``.
"""

import json
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from robustcore.errors import InputError, NonFiniteLoss
from robustcore.finetune import finetune
from robustcore.process import Process
from robustcore.recipe import recipe_from
from robustcore.storage import Folder
from trainables.checkpoints import Checkpoint, Report, load_checkpoint, save_checkpoint
from trainables.resources import threads

_NOTE = "failure.json"


@dataclass(frozen=True)
class Assignment:
    """One trial: what to run and where its files are. All plain values: it travels between processes."""

    trial: str
    recipe: dict[str, Any]
    folder: str  # path or URI of the trial's folder on storage
    cache: str  # local folder of the original embeddings
    workers: int = 1
    cpus: float = 1.0
    gpus: float = 0.0


def reports(assignment: Assignment, process: Process) -> Iterator[Report]:
    """Every report of the trial, those of earlier processes again first, so that none is lost between two lives."""
    recipe = recipe_from(assignment.recipe)
    folder, fingerprint = Folder(assignment.folder).at("checkpoints"), recipe.fingerprint()
    saved = load_checkpoint(folder, fingerprint)
    past = saved.reports if saved is not None else []
    yield from past
    if past and past[-1].final:
        return
    earlier = past[-1].seconds if past else 0.0
    for progress in finetune(recipe, process, saved.state if saved is not None else None):
        seconds = earlier + progress.seconds
        report = Report(progress.step, progress.metrics, seconds, progress.final, progress.samples, progress.flags)
        past = [*past, report]
        if process.rank == 0:
            save_checkpoint(folder, fingerprint, Checkpoint(progress.state(), past))
        yield report


def results(assignment: Assignment, process: Process) -> Iterator[dict[str, Any]]:
    """The reports as Ray results; what goes wrong in the science or in the code is a last result, not a crash.

    A crash is left to mean a lost machine, which Ray answers with another try.
    """
    torch.set_num_threads(threads(assignment.cpus))
    last: dict[str, Any] = {"step": 0, "metrics": {}, "seconds": 0.0, "final": False, "device": str(process.device)}
    try:
        _raise_noted_failure(assignment)
        for report in reports(assignment, process):
            last |= asdict(report)
            yield last | {"failure": "", "traceback": ""}
    except Exception as error:
        failure, trace = described(error)
        if process.world_size > 1 and not isinstance(error, NonFiniteLoss | _NotedFailure):
            # The other workers wait for this one in a sum: only a crash sets them free. Ray Train starts the group
            # anew, and there all of them find this note. (A loss is the same number on every worker.)
            Folder(assignment.folder).write(_NOTE, json.dumps([failure, trace]).encode())
            raise
        yield last | {"failure": failure, "traceback": trace, "final": True}


class _NotedFailure(Exception):
    """What an earlier life of this trial failed of."""


def _raise_noted_failure(assignment: Assignment) -> None:
    folder = Folder(assignment.folder)
    if _NOTE in folder.names():
        raise _NotedFailure(*json.loads(folder.read(_NOTE)))


def described(error: Exception) -> tuple[str, str]:
    """One sentence, and the traceback where the error is a bug of ours."""
    match error:
        case _NotedFailure():
            return error.args[0], error.args[1]
        case InputError() | NonFiniteLoss():
            return str(error), ""
        case torch.OutOfMemoryError():
            return f"out of GPU memory; try a smaller data.batch_size or a larger optim.accumulate ({error})", ""
        case _:
            return f"{type(error).__name__}: {error}".splitlines()[0], "".join(traceback.format_exception(error))


def in_place(assignment: Assignment) -> Iterator[dict[str, Any]]:
    """One worker, in the calling process."""
    device = torch.device("cuda", 0) if assignment.gpus else torch.device("cpu")
    return results(assignment, Process(device=device, cache=Path(assignment.cache)))


def train_loop(config: dict[str, Any]) -> None:
    """One of several workers under Ray Train; ``config`` is an Assignment's fields."""
    import ray.train
    import ray.train.torch

    assignment, context = Assignment(**config), ray.train.get_context()
    process = Process(
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        device=ray.train.torch.get_device(),
        cache=Path(assignment.cache),
    )
    for result in results(assignment, process):
        ray.train.report(result)
