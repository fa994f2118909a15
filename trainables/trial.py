"""One trial as Ray Tune sees it: one worker runs in place, several are a Ray Train run that this process drives.

The next hop is ``trainables.worker``: ``in_place``, or ``train_loop`` on each worker.
"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from ray import tune

from robustcore.clients import resolved
from robustcore.finetune import Progress, finetune
from robustcore.process import Process
from robustcore.recipe import Recipe
from trainables import signals
from trainables.memory import enough_memory
from trainables.resources import HEAD, Demand, threads
from trainables.worker import Assignment, in_place

# The driver of a Ray Train run only waits: it must never take a CPU that its own workers need.
_DRIVER = {HEAD: 0.001}


class InPlaceTrial(tune.Trainable):  # type: ignore[misc]  # Ray's types are Any here
    """A trial of one worker, in its Tune actor. Ray hands the actor from trial to trial, imports and all."""

    def setup(self, config: dict[str, Any]) -> None:
        """Called once an actor."""
        self._results = in_place(Assignment(**config["assignment"]))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Called for every later trial of the actor."""
        self.cleanup()
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        """Called when the actor ends: of a trial that was stopped, the last checkpoint may still be on its way."""
        self._results.close()

    def step(self) -> dict[str, Any]:
        """Work until the next report."""
        result = next(self._results)
        return result | {"done": result["final"]}


def drive_train_run(config: dict[str, Any]) -> None:
    """A trial of several workers: drives one Ray Train run, which survives lost workers by itself.

    The run's name is the trial's, and its state is in the trial's own checkpoints, so a driver that Tune restarts
    goes on where the last one was.
    """
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    from trainables.guard import NoteHoldings
    from trainables.lives import KeepTrying
    from trainables.worker import train_loop

    assignment = Assignment(**config["assignment"])
    signals.note_place(assignment.folder)
    filesystem, place = resolved(assignment.folder)
    TorchTrainer(
        train_loop,
        train_loop_config=asdict(assignment),
        torch_config=TorchConfig(backend="nccl" if assignment.gpus else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=assignment.workers,
            use_gpu=assignment.gpus > 0,
            resources_per_worker={"CPU": assignment.cpus} | ({"GPU": assignment.gpus} if assignment.gpus else {}),
        ),
        run_config=ray.train.RunConfig(
            name=assignment.trial,
            storage_path=place,
            storage_filesystem=filesystem,  # ours is not as patient as the one that Ray would make
            callbacks=[TuneReportCallback(), NoteHoldings(assignment.folder), KeepTrying(assignment.folder)],
            failure_config=ray.train.FailureConfig(max_failures=-1),
        ),
    ).fit()


def trainable(assignment: Assignment) -> Any:
    """What Tune runs for trials that are like ``assignment`` in workers, CPUs and GPUs."""
    if assignment.workers == 1:
        return tune.with_resources(InPlaceTrial, {"CPU": assignment.cpus, "GPU": assignment.gpus})
    return tune.with_resources(drive_train_run, _DRIVER)


def run_here(recipe: Recipe, resources: Demand, cache: Path) -> Iterator[Progress]:
    """The recipe's one trial in this process, without Ray and without checkpoints."""
    torch.set_num_threads(threads(resources.cpus * resources.workers))
    device = torch.device("cuda", 0) if resources.gpus else torch.device("cpu")
    return _within_memory(finetune(recipe, Process(device=device, cache=cache)))


def _within_memory(progress: Iterator[Progress]) -> Iterator[Progress]:
    with enough_memory():
        yield from progress
