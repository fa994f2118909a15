"""One process of a sweep without Ray: trials are ended by hand, and what MLflow would hear is kept."""

import dataclasses
import io
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from rich.console import Console

from robustcore.storage import Folder
from sweeps.driver import Sweep
from sweeps.progress import Display
from sweeps.results import Evaluation, Results, TrialRecord
from sweeps.stored import STUDY
from sweeps.study import Study
from sweeps.tracking import Tracker


class Heard:
    """Stands where the MLflow tracker does and keeps what it is told, by trial."""

    def __init__(self) -> None:
        self.warning = ""
        self.by_trial: dict[str, list[Any]] = {}
        self.fronts: list[tuple[list[str], float, int]] = []
        self.intervals: list[str] = []
        self.sweep: dict[str, float] = {}

    def start_trial(self, record: TrialRecord) -> None:
        self.by_trial.setdefault(record.trial, []).append("start")

    def evaluate(self, record: TrialRecord, evaluation: Evaluation) -> None:
        self.by_trial[record.trial].append(evaluation.step)

    def end_trial(self, record: TrialRecord) -> None:
        self.by_trial.setdefault(record.trial, []).append(record.state)

    def update_front(
        self, front: list[TrialRecord], hypervolume: float, finished: int, files: dict[str, bytes]
    ) -> None:
        self.fronts.append(([record.trial for record in front], hypervolume, finished))

    def note_intervals(self, front: list[TrialRecord], objectives: Iterable[str]) -> None:
        self.intervals = [record.trial for record in front]

    def redraw(self, metrics: dict[str, float], step: int, files: dict[str, bytes]) -> None:
        self.sweep |= metrics


@dataclasses.dataclass
class Session:
    """One process of a sweep: what it runs, and what was heard and shown of it."""

    sweep: Sweep
    heard: Heard
    shown: io.StringIO

    @property
    def on_disk(self) -> dict[str, TrialRecord]:
        return Results.read(self.sweep.results.uri).records

    @property
    def records(self) -> list[TrialRecord]:
        return list(self.sweep.results.records.values())

    def assignments(self) -> list[str]:
        """Every trial that there is to run, all taken at once."""
        return [assignment.trial for assignment in iter(self.sweep.next_assignment, None)]

    def begin(self) -> str:
        """Take the next trial and start it."""
        assignment = self.sweep.next_assignment()
        assert assignment is not None
        self.sweep.started(assignment.trial)
        return assignment.trial

    def run(self, trial: str, ends_as: str = "finished") -> None:
        """A trial from its start to its end."""
        self.sweep.started(trial)
        self.sweep.evaluated(trial, result(2))
        if ends_as == "finished":
            self.sweep.evaluated(trial, result(4, final=True))
        elif ends_as == "failed":
            self.sweep.evaluated(trial, result(2, final=True, failure="the training loss became nan"))
        self.sweep.ended(trial)


def result(step: int, final: bool = False, failure: str = "", traceback: str = "") -> dict[str, Any]:
    """What a trial hands to Ray."""
    metrics = {"clean": 0.9 - step / 100, "pgd": step / 10, "worst": step / 10, "loss": 0.5}
    plain = {"step": step, "metrics": metrics, "seconds": step / 2, "final": final, "samples": {}, "flags": {}}
    return {**plain, "device": "cpu", "failure": failure, "traceback": traceback, "lost": "", "notes": []}


def session(study: Study, total: int | None = None, tracker: Tracker | None = None) -> Session:
    """A process that launches the study, or goes on with it where it has results; a ``tracker`` hears what happens."""
    uri = f"{study.storage}/{study.name}/results.parquet"
    results = Results.read(uri) if Path(uri).exists() else Results(uri)
    heard, shown = Heard(), io.StringIO()
    total = study.num_trials() if total is None else total
    display = Display(study.name, total, study.objectives, study.feasible, Console(file=shown, width=200))
    sweep = Sweep(study, results, total, tracker or cast(Tracker, heard), display)
    sweep._gallery._drawn = time.monotonic()  # pictures take a second, and the end draws them anyway
    return Session(sweep, heard, shown)


def launched(study: Study, total: int | None = None) -> Session:
    """A process of which a later one finds all that a launch leaves: the results, and the study itself."""
    Folder(study.storage).at(study.name).write(STUDY, json.dumps(study.as_json()).encode())
    return session(study, total)
