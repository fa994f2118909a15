"""Trials -> MLflow: one parent run a sweep, one child a trial; nothing here ever waits for the server to answer.

Each call appends an event to a spool on disk; a background thread replays the spool to the server. What a
dead server did not take is replayed later, in this process or in that of the next ``sweep resume``.
"""

import json
import os
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from robustcore.storage import replace_file
from sweeps.results.records import Evaluation, TrialRecord
from sweeps.seeds import interval, seeds_of
from sweeps.tracking.spool import Event, Spool, keep

if TYPE_CHECKING:
    from sweeps.tracking.mlflow_runs import Runs

# Unless the user says otherwise: a dead server costs seconds, not minutes; no chatter, no telemetry.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}
LONGEST_WAIT = 30.0  # seconds between two tries
EVENTS_AT_ONCE = 2000  # those of one run go together: a long backlog takes fewer calls
FAR_BEHIND = 4 << 20  # bytes of events, some ten thousand of them
BREATH = 0.05  # seconds: about what MLflow takes for a trial


class Tracker:
    """Spools events to ``folder`` at once, replays them to the MLflow at ``uri`` from a background thread.

    ``uri`` is ``sqlite:///...`` or a tracking server's; ``artifacts`` is where a new experiment keeps its
    files (a server has its own place: None). ``sweep`` is the sweep's id where it is known from elsewhere.
    ``warning`` is one sentence while the server takes no events.
    """

    def __init__(self, uri: str, study: str, folder: Path, artifacts: str | None, sweep: str = "") -> None:
        self.uri, self.study, self.folder, self.artifacts = uri, study, folder, artifacts
        self.warning = ""
        self._rejected = 0
        self.ids_file = folder / "runs.json"
        _prepare(self.ids_file, sweep)
        self.spool = Spool(folder)
        self._wake, self._closing, self._stop = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._replay, name="mlflow", daemon=True)

    def start_sweep(self, params: dict[str, Any], study_yaml: str) -> None:
        """The parent run, created once even across resumes; it is RUNNING again from here on."""
        self._spool("sweep", params=params, study=study_yaml)

    @cached_property
    def _told(self) -> set[tuple[str, int]]:
        """Trials and steps that this machine has spooled."""
        return {(event["trial"], event["step"]) for event in self.spool.events() if event["kind"] == "evaluate"}

    def catch_up(self, records: Iterable[TrialRecord]) -> None:
        """Tell of trials that another machine ran: it may never have sent it; what the server has, it takes no more."""
        for record in records:
            if any((record.trial, evaluation.step) not in self._told for evaluation in record.evaluations):
                self._start_trial(record)
                for evaluation in record.evaluations:
                    self.evaluate(record, evaluation)
                self.end_trial(record)

    def start_trial(self, record: TrialRecord) -> None:
        """The child run: knobs and the flattened recipe as parameters, the recipe as ``recipe.json``.

        Takes a moment longer where the server answers and is far behind: trials that end in no time would leave it
        ever further behind, and to others a moment is nothing.
        """
        if self.spool.behind > FAR_BEHIND and not self.warning:
            time.sleep(BREATH)
        self._start_trial(record)

    def _start_trial(self, record: TrialRecord) -> None:
        self._spool("trial", trial=record.trial, knobs=record.knobs, recipe=record.recipe)

    def evaluate(self, record: TrialRecord, evaluation: Evaluation) -> None:
        """Metrics by step, once: a trial that goes on after a kill reports its past again."""
        if (record.trial, evaluation.step) in self._told:
            return
        self._told.add((record.trial, evaluation.step))
        self._spool("evaluate", trial=record.trial, step=evaluation.step, metrics=evaluation.metrics)

    def end_trial(self, record: TrialRecord) -> None:
        """FINISHED, FAILED, or KILLED if it was stopped or is to go on later; tags such as sweep.reason say more."""
        tags = {"state": record.state, "reason": record.reason, "copy_of": record.copy_of}
        tags |= {"repeat_of": record.repeat_of, "flags": "; ".join(f"{n}: {text}" for n, text in record.flags.items())}
        tags["notes"] = "; ".join(record.notes)
        self._spool("end", trial=record.trial, **tags)

    def update_front(
        self, front: list[TrialRecord], hypervolume: float, finished: int, files: dict[str, bytes]
    ) -> None:
        """Tag pareto=true on the front, false on who left it; hypervolume at step ``finished``; artifacts.

        Of ``files`` (name -> content) only the newest are kept and sent.
        """
        trials = [record.trial for record in front]
        self._spool("front", front=trials, hypervolume=hypervolume, finished=finished, files=self._kept(files))

    def note_intervals(self, front: Sequence[TrialRecord], objectives: Iterable[str]) -> None:
        """``ci/<objective>/low`` and ``high`` (95 %) of the front's trials; ``mean`` too where it is one of seeds."""
        for record in front:
            found = {name: each for name in objectives if (each := interval(record, name)) is not None}
            ends = {"low": "low", "high": "high"} | ({"value": "mean"} if len(seeds_of(record)) > 1 else {})
            metrics = {f"ci/{name}/{word}": getattr(i, end) for name, i in found.items() for end, word in ends.items()}
            if metrics:
                self._spool("certify", trial=record.trial, step=record.step, metrics=metrics, tags={})

    def certify(self, record: TrialRecord, tags: dict[str, str]) -> None:
        """What the trial's certificate says, as metrics ``certified/...`` of its run, and ``tags`` that say how."""
        assert record.certificate is not None, "only a certificate can be told"
        metrics = {f"certified/{name}": value for name, value in record.certificate.metrics.items()}
        self._spool("certify", trial=record.trial, step=record.step, metrics=metrics, tags=tags)

    def redraw(self, metrics: dict[str, float], step: int, files: dict[str, bytes]) -> None:
        """New pictures of the front, and what else is new of the parent run at ``step``, a number of trials."""
        self._spool("redraw", metrics=metrics, step=step, files=self._kept(files))

    def _kept(self, files: dict[str, bytes]) -> list[str]:
        """The names of those that could be written to where they wait."""
        kept = []
        for name, content in files.items():
            with suppress(OSError):
                keep(self.folder / "front" / name, content)
                kept.append(name)
        return kept

    def close(self, status: Literal["FINISHED", "KILLED", "FAILED"] | None, timeout: float = 15.0) -> str:
        """End the parent run, unless ``status`` is None, and wait at most ``timeout`` seconds for the server.

        Returns "", or one sentence about the events that still wait, or that the server refused.
        A second call changes nothing.
        """
        if self._closing.is_set():
            return self.warning
        if status is not None:
            self._spool("close", status=status)
        self._closing.set()
        self._wake.set()  # once more: the thread may have taken the event before it could see the closing
        self._thread.join(timeout)
        self._stop.set()
        waiting = len(self.spool.pending())
        if waiting:
            events = f"{waiting} {'event waits' if waiting == 1 else 'events wait'}"
            why = self.warning.partition(";")[0] or f"{self._place()} was too slow"
            self.warning = f"{why}; {events} in {self.spool.path}, and `sweep resume` replays them."
        if self.spool.unwritten:
            self.warning = f"{self.spool.unwritten} events for MLflow are lost: {self.spool.path} could not be written."
        return self.warning

    def _spool(self, kind: str, **event: Any) -> None:
        self.spool.append({"kind": kind, "time": int(time.time() * 1000)} | event)
        self._wake.set()
        if self._thread.ident is None:
            # Its client is busy Python: at the usual 5 ms, the sampler would wait as long after each matrix product.
            sys.setswitchinterval(1e-4)
            self._thread.start()

    # Below here runs in the background thread.

    def _replay(self) -> None:
        runs, wait = None, 1.0
        while not self._stop.is_set():
            self._wake.clear()
            is_last = self._closing.is_set()
            try:
                runs = runs or self._connect()
                self._drain(runs)
            except Exception as error:  # whatever it is, the sweep goes on and the events stay
                self.warning = self._sentence(error)
                self._closing.wait(wait)
                wait = min(2 * wait, LONGEST_WAIT)
            else:
                refused = f"MLflow refused {self._rejected} events; {self.folder / 'rejected.jsonl'} says why."
                self.warning, wait = refused if self._rejected else "", 1.0
                if not is_last:
                    self._wake.wait()
            if is_last:
                return

    def _connect(self) -> "Runs":
        set_environment()
        from sweeps.tracking.mlflow_runs import Runs  # takes four seconds

        runs = Runs(self.uri, self.study, self.artifacts, self.ids_file, self.folder / "front")
        if runs.is_new:
            self.spool.advance(0)  # this server has seen nothing of the sweep: it gets all of it
        return runs

    def _drain(self, runs: "Runs") -> None:
        while not self._stop.is_set() and (batch := self.spool.pending(EVENTS_AT_ONCE)):
            self._send(runs, [event for event, _ in batch])
            self.spool.advance(batch[-1][1])

    def _send(self, runs: "Runs", events: Sequence[Event]) -> None:
        from sweeps.tracking.mlflow_runs import RejectedError

        try:
            runs.apply(events)
        except RejectedError as error:
            if half := len(events) // 2:
                self._send(runs, events[:half])
                self._send(runs, events[half:])
                return
            with (self.folder / "rejected.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps({"error": str(error), "event": events[0]}) + "\n")
            self._rejected += 1

    def _sentence(self, error: Exception) -> str:
        return f"{self.problem(error)}; the sweep goes on, and its events wait in {self.spool.path}."

    def problem(self, error: Exception) -> str:
        """What is wrong with MLflow, in words that hold no password; without a full stop."""
        code = getattr(error, "error_code", "")
        if code in ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"):
            return f"{self._place()} lets us not in ({code})"
        if code or isinstance(error, OSError):
            return f"{self._place()} does not answer ({code or type(error).__name__})"
        # Not the network: only its own words can help.
        words = " ".join(str(error).split()).replace(self.uri, self._place())
        return f"{self._place()} cannot be used ({type(error).__name__}: {words[:200]})"

    def _place(self) -> str:
        parts = urlsplit(self.uri)  # without its user and password
        if not parts.hostname:
            return f"MLflow at {self.uri}"
        return f"MLflow at {parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


def _prepare(ids_file: Path, sweep: str) -> None:
    """The file is there; what a deleted sweep in the same place left is gone. Of a ``sweep`` others make runs too."""
    if ids_file.exists():
        if not sweep or json.loads(ids_file.read_text())["sweep"] == sweep:
            return
        shutil.rmtree(ids_file.parent)
    ids = {"sweep": sweep, "runs": {}, "shared": True} if sweep else {"sweep": uuid.uuid4().hex}
    replace_file(ids_file, json.dumps(ids).encode())


def set_environment() -> None:
    """Before mlflow is imported; what the user has set stays."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
