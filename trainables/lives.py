"""How often a trial may lose a process and be started again: what its own process dies of counts, a lost machine not.

A spot machine may be taken back any number of times, as long as the trial gets on in between. The driver counts for
processes that Tune has started, the controller of a Ray Train run for its workers.
"""

from typing import Any

from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2._internal.execution.callback import ControllerCallback, ReportCallback, WorkerGroupCallback
from ray.train.v2._internal.execution.controller.state import RestartingState

from robustcore.storage import Folder
from trainables import signals
from trainables.machines import is_lost
from trainables.worker import NOTE

TRIES = 4  # of a trial whose process dies
MACHINES = 10  # that may be lost in a row without a new result: the trial may be what kills them


class Lives:
    """Of one trial."""

    def __init__(self) -> None:
        self._died = self._in_a_row = 0
        self._step = -1

    def lose(self, with_machine: bool, step: int) -> str:
        """Note that a process was lost after the result of ``step``; what happened, as a sentence."""
        if not with_machine:
            self._died += 1
            return f"its process was lost after step {step}; try {self._died + 1} of {TRIES}"
        self._in_a_row = self._in_a_row + 1 if step <= self._step else 1
        self._step = step
        return f"its machine was taken away after step {step}"

    def spent(self) -> str:
        """Why there is to be no other try, or ""."""
        if self._died >= TRIES:
            return f"given up after {self._died} tries"
        if self._in_a_row >= MACHINES:
            return f"given up after {self._in_a_row} machines that were lost before it got any further"
        return ""


class KeepTrying(WorkerGroupCallback, ControllerCallback, ReportCallback):  # type: ignore[misc]  # Ray's types are Any
    """Given to a Ray Train run that itself would try for ever: counts the lives of its workers, and ends it."""

    def __init__(self, folder: str) -> None:
        self._folder, self._lives = folder, Lives()
        self._step, self._nodes, self._is_lost = 0, set[str](), False

    def before_worker_group_start(self, worker_group_context: Any) -> None:
        """Whatever is raised here ends the run."""
        if why := self._lives.spent():
            raise RuntimeError(why)
        # What workers failed of while another was gone, or their group was taken down, is no failure of the trial.
        folder = Folder(self._folder)
        if self._is_lost and NOTE in folder.names():
            folder.remove(NOTE)

    def after_worker_group_start(self, worker_group: Any) -> None:
        """Called when the workers are up."""
        self._nodes = {worker.metadata.node_id for worker in worker_group.get_workers()}

    def after_report(self, training_report: Any, metrics: list[dict[str, Any]]) -> None:
        """Called when all workers have reported a result."""
        self._step = max(self._step, *(result["step"] for result in metrics))

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        """Called, among others, when workers were lost and shall be started again."""
        if isinstance(current_state, RestartingState):
            failures = getattr(current_state.training_failed_error, "worker_failures", {}).values()
            with_machine = any(is_lost(node) for node in self._nodes)
            self._is_lost = with_machine or any(isinstance(each, WorkerHealthCheckFailedError) for each in failures)
            signals.note_loss(self._folder, self._lives.lose(with_machine, self._step))
