"""What every training process of a trial executes, in place or under Ray Train: resume, fine-tune, checkpoint, report.

The next hop is ``robustcore.finetune.finetune``.
"""

import json
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.distributed import DistError

from robustcore.addresses import without_secrets
from robustcore.errors import InputError, NonFiniteLoss
from robustcore.finetune import finetune
from robustcore.process import Process
from robustcore.recipe import recipe_from
from robustcore.storage import Folder, StorageLost
from trainables.checkpoints import Checkpoint, Report, find_checkpoint, load_checkpoint, save_checkpoint
from trainables.machines import MachineLeft
from trainables.memory import free_memory, is_out_of_memory, keep_to_share, out_of_memory
from trainables.resources import threads
from trainables.uploads import Uploads

NOTE = "failure.json"  # in a trial's folder: what one of several workers failed of


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
    study: str = ""  # path or URI of the study's folder, which holds ``folder``; empty if it need not be there
    shared: str = ""  # path or URI of the place where machines share them, empty where ``cache`` is one for all
    patience: float = 0.0  # seconds for which the trial waits for its storage
    earlier: str = ""  # path or URI of the folder of a finished trial of the same recipe, where there is one

    @property
    def kept(self) -> Folder:
        """The trial's folder, waited for while it is away."""
        return replace(Folder(self.folder), patience=self.patience, home=self.study)


Rest = Callable[[], bool]
"""Asked between two steps: whether to write a checkpoint there, because the trial may be killed soon."""


def reports(
    assignment: Assignment,
    process: Process,
    saved: Checkpoint | None = None,
    is_wanted: Rest = lambda: False,
    note_rest: Callable[[], None] = lambda: None,
) -> Iterator[Report]:
    """Every report of the trial, those ``saved`` by earlier processes first, so that none is lost between two lives."""
    recipe, folder = recipe_from(assignment.recipe), assignment.kept.at("checkpoints")
    past = saved.reports if saved is not None else []
    yield from past
    if saved is not None and saved.is_final:
        return
    earlier = past[-1].seconds if past else 0.0
    with Uploads[Checkpoint](lambda each: save_checkpoint(folder, recipe.fingerprint(), each)) as uploads:

        def rests() -> bool:
            uploads.check()
            return is_wanted()

        for progress in finetune(recipe, process, saved.state if saved is not None else None, rests):
            seconds = earlier + progress.seconds
            report = Report(progress.step, progress.metrics, seconds, progress.final, progress.samples, progress.flags)
            past = [*past, report] if progress.metrics else past
            if process.rank == 0:
                uploads.put(Checkpoint(progress.state(), past))
            if progress.final or not progress.metrics:
                uploads.finish()  # whoever hears of it may end this process
            if progress.metrics:
                yield report
            else:
                note_rest()


def results(
    assignment: Assignment,
    process: Process,
    is_wanted: Rest = lambda: False,
    note_rest: Callable[[], None] = lambda: None,
    notes: Sequence[str] = (),
) -> Generator[dict[str, Any], None, None]:
    """The reports as Ray results; what goes wrong in the science or in the code is a last result, not a crash.

    A crash is left to mean a lost machine, which Ray answers with another try. ``notes`` say what was passed over,
    ``lost`` that storage failed: then the trial is neither finished nor failed.
    """
    torch.set_num_threads(threads(assignment.cpus))
    last, end, runs_out = nothing(process), dict[str, Any](final=True), False
    try:
        keep_to_share(assignment.gpus, process.device)
        _raise_noted_failure(assignment)
        saved, damage = _found(assignment, process)
        last["notes"] = [*notes, *damage]
        for report in reports(assignment, process, saved, is_wanted, note_rest):
            last |= asdict(report)
            yield dict(last)
    except MachineLeft:
        raise
    except StorageLost as error:
        if process.world_size > 1:
            raise
        end["lost"] = str(error)
    except Exception as error:
        failure, trace = described(error)
        if process.world_size > 1 and _is_of_another(error):
            raise
        if process.world_size > 1 and not isinstance(error, NonFiniteLoss | _NotedFailure):
            # The other workers wait for this one in a sum: only a crash sets them free. Ray Train starts the group
            # anew, and there all of them find this note. (A loss is the same number on every worker.)
            assignment.kept.write(NOTE, json.dumps([failure, trace]).encode())
            raise
        end |= {"failure": failure, "traceback": trace}
        runs_out = is_out_of_memory(error)
    # Only here is the error gone, and with it every tensor of the frames that it came through.
    if runs_out:
        free_memory()
    if len(end) > 1:
        yield last | end


def _found(assignment: Assignment, process: Process) -> tuple[Checkpoint | None, list[str]]:
    """The checkpoint to go on from, and a sentence where newer ones had to be passed over."""
    folder = assignment.kept.at("checkpoints")
    if process.rank == 0:
        folder.tidy()
    fingerprint = recipe_from(assignment.recipe).fingerprint()
    saved, damage = find_checkpoint(folder, fingerprint)
    if saved is None and (paid := _paid_for(assignment, fingerprint)) is not None:
        if process.rank == 0:
            save_checkpoint(folder, fingerprint, paid)
        return paid, [f"its recipe was trained before, in {without_secrets(assignment.earlier)}: it takes the result"]
    then = "it began anew" if saved is None else f"it went on from step {saved.state.step}"
    return saved, [f"{'; '.join(damage)}: {then}"] if damage else []


def _paid_for(assignment: Assignment, fingerprint: str) -> Checkpoint | None:
    """Where another study's trial of this recipe ended; None where that is not to be had, which only costs time."""
    if not assignment.earlier:
        return None
    try:
        found = load_checkpoint(Folder(assignment.earlier).at("checkpoints"), fingerprint)
    except OSError:
        return None
    return found if found is not None and found.is_final else None


class _NotedFailure(Exception):
    """What an earlier life of this trial failed of."""


def nothing(process: Process) -> dict[str, Any]:
    """The result of a trial of which nothing is known yet."""
    reached = {"step": 0, "metrics": {}, "seconds": 0.0, "samples": {}, "flags": {}, "final": False}
    return reached | {"device": str(process.device), "failure": "", "traceback": "", "lost": "", "notes": []}


def _raise_noted_failure(assignment: Assignment) -> None:
    folder = assignment.kept
    if NOTE in folder.names():
        raise _NotedFailure(*json.loads(folder.read(NOTE)))


def _is_of_another(error: Exception) -> bool:
    """Whether it says no more than that another worker is gone; torch says so in many ways."""
    if isinstance(error, InputError):
        return False
    words = str(error).lower()
    return isinstance(error, DistError) or any(word in words for word in ("gloo", "nccl", "process group"))


def described(error: Exception) -> tuple[str, str]:
    """One sentence, and the traceback where the error is a bug of ours."""
    match error:
        case _NotedFailure():
            return error.args[0], error.args[1]
        case InputError() | NonFiniteLoss():
            return str(error), ""
        case _ if is_out_of_memory(error):
            return out_of_memory(error), ""
        case _:
            return f"{type(error).__name__}: {error}".splitlines()[0], "".join(traceback.format_exception(error))


def in_place(assignment: Assignment) -> Generator[dict[str, Any], None, None]:
    """One worker, in the calling process; outside Ray nobody asks it to rest."""
    import ray

    from trainables import signals

    device = torch.device("cuda", 0) if assignment.gpus else torch.device("cpu")
    process = Process(device=device, cache=Path(assignment.cache), shared=assignment.shared)
    if not ray.is_initialized():  # to look for a message would start one
        return results(assignment, process)
    signals.note_place(assignment.folder)
    rest = signals.Rest(assignment.study, assignment.folder, process)
    return results(assignment, process, rest, rest.written)


def train_loop(config: dict[str, Any]) -> None:
    """One of several workers under Ray Train; ``config`` is an Assignment's fields."""
    import ray.train
    import ray.train.torch

    from trainables import signals

    assignment, context = Assignment(**config), ray.train.get_context()
    process = Process(
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        device=ray.train.torch.get_device(),
        cache=Path(assignment.cache),
        shared=assignment.shared,
    )
    if lost := signals.lost(assignment.folder):
        ray.train.report(nothing(process) | {"lost": lost, "final": True})
        return
    rest = signals.Rest(assignment.study, assignment.folder, process)
    notes = signals.losses(assignment.folder)
    try:
        for result in results(assignment, process, rest, rest.written, notes):
            ray.train.report(result)
    except StorageLost as error:
        # As with other failures, only a crash sets the others free; but the note cannot be a file.
        signals.note_lost(assignment.folder, str(error))
        raise
