"""Spooled events -> calls of MlflowClient; each may come twice, for a crash may fall between call and note.

MLflow takes four seconds to import: only the tracker's background thread imports this module.
"""

import json
import logging
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from sweeps.source.settings import flat
from sweeps.tracking.spool import Event, keep

METRICS_PER_CALL, PARAMS_PER_CALL, PARAM_LENGTH, TAG_LENGTH = 800, 100, 6000, 5000  # at most 1000 of all in a call
_TAGS = ("state", "reason", "copy_of", "repeat_of", "flags", "notes")
_NONE: Mapping[str, str] = {}
STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}

# What a server answers about the event itself. Anything else (no answer, 5xx, no permission) may pass.
REJECTIONS = {
    "ALREADY_EXISTS",
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "NOT_FOUND",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_CONFLICT",
    "RESOURCE_DOES_NOT_EXIST",
}


class RejectedError(Exception):
    """The server is well and will never take this event; the text says why."""


class Runs:
    """The parent run of one sweep and its child per trial.

    ``ids`` holds the sweep's own id, and what was created so far: it is a cache in ``ids_file`` of what the
    tags ``sweep.id`` and ``sweep.trial`` say on the server.
    """

    def __init__(self, uri: str, study: str, artifacts: str | None, ids_file: Path, front_files: Path) -> None:
        if uri.startswith("sqlite:///"):
            Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        self.client = quiet_client(uri)
        self.ids_file, self.front_files = ids_file, front_files
        self.ids: dict[str, Any] = json.loads(ids_file.read_text())
        self.study = study
        self._known: dict[str, int] = {}  # of runs that another machine may have told of: their last step
        self._may_have_begun = True  # a run that is not in ``ids`` may be there: what made it was killed, or cut off
        self.is_new = not self._still_there()
        if self.is_new:
            self._note(experiment=self._experiment(artifacts), runs={}, front=[])
            self._note(front=self._marked())

    def _still_there(self) -> bool:
        """Whether the server still holds what ``ids`` says: it may be another server, or an emptied one."""
        if "" not in self.ids.get("runs", {}):
            return False
        try:
            tags = self.client.get_run(self.ids["runs"][""]).data.tags
        except MlflowException as error:
            if error.error_code in REJECTIONS:
                return False
            raise
        return bool(tags.get("sweep.id") == self.ids["sweep"])

    def _experiment(self, artifacts: str | None) -> str:
        found = self.client.get_experiment_by_name(self.study)
        if found is None:
            return str(self.client.create_experiment(self.study, artifact_location=artifacts))
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _marked(self) -> list[str]:
        """The front as another machine has left it."""
        where = f"tags.`sweep.id` = '{self.ids['sweep']}' and tags.pareto = 'true'"
        return [run.data.tags["sweep.trial"] for run in self.client.search_runs([self.ids["experiment"]], where)]

    def _note(self, **changes: Any) -> None:
        self.ids |= changes
        keep(self.ids_file, json.dumps(self.ids).encode())

    def apply(self, events: Sequence[Event]) -> None:
        """Those of one run together, in few calls; a RejectedError is final, any other error may pass."""
        of_runs: dict[str, list[Event]] = {}
        for event in events:
            of_runs.setdefault(event.get("trial", ""), []).append(event)
        of_parent = of_runs.pop("", [])
        try:
            for event in of_parent:
                if event["kind"] == "sweep":
                    self._start_sweep(event)
            for trial, of_run in of_runs.items():
                self._apply_to_trial(trial, of_run)
            self._apply_to_parent(of_parent)
        except Exception as error:
            self._may_have_begun = True
            if (judged := _judged(error)) is error:
                raise
            raise judged from error
        self._note(runs=self.ids["runs"])
        self._may_have_begun = bool(self.ids.get("shared"))

    def _apply_to_parent(self, events: Sequence[Event]) -> None:
        fronts = [event for event in events if event["kind"] == "front"]
        for event in events:
            if event["kind"] == "redraw":
                self._redraw(event)
        if fronts:
            values = [Metric("hypervolume", e["hypervolume"], e["time"], e["finished"]) for e in fronts]
            self._log(self._run("", fronts[0]), metrics=values)
            self._front(fronts[-1])
        for event in events:
            if event["kind"] == "close":
                self.client.set_terminated(self._run("", event), event["status"], end_time=event["time"])

    def _start_sweep(self, event: Event) -> None:
        run = self._run("", event)
        self.client.update_run(run, status="RUNNING")
        # MLflow never changes a parameter: after `resume --trials 40` the first one stays, study.yaml is new.
        known = self.client.get_run(run).data.params
        self._log(run, params=_params({name: v for name, v in event["params"].items() if _key(name) not in known}))
        self.client.log_text(run, event["study"], "study.yaml")

    def _apply_to_trial(self, trial: str, events: Sequence[Event]) -> None:
        is_new = trial not in self.ids["runs"]
        run = self._run(trial, events[0])
        last: dict[str, Event] = {event["kind"]: event for event in events}
        start, end = last.get("trial"), last.get("end")
        if end and start and events.index(start) > events.index(end):
            end = None  # it goes on
        metrics = [
            Metric(_key(name), value, event["time"], event["step"])
            for event in events
            if event["kind"] == "evaluate" and not self._is_there(run, event)
            for name, value in event["metrics"].items()
        ]
        # Events that waited since an older version lack some.
        tags = {f"sweep.{tag}": end[tag] for tag in _TAGS if end.get(tag)} if end else {}
        values: dict[str, Any] = {}
        for each in events:
            if each["kind"] == "trial":
                for name, value in (flat(each["recipe"]) | each["knobs"]).items():
                    if _text(values.setdefault(name, value)) != _text(value):
                        raise RejectedError(f"{name} has several values")  # each alone is refused, but for the first
        self._log(run, metrics, _params(values), tags)
        for event in events:
            if event["kind"] == "certify":
                self._certify(event)
        if end:
            self.client.set_terminated(run, STATUS.get(end["state"], "KILLED"), end_time=end["time"])
        elif start and not is_new:
            self.client.update_run(run, status="RUNNING")
        if start:
            self.client.log_text(run, json.dumps(start["recipe"], indent=2), "recipe.json")

    def _is_there(self, run: str, event: Event) -> bool:
        """Another machine may have told it, and lost what it measured with its storage."""
        if not self.ids.get("shared"):
            return False
        if run not in self._known:
            points = self.client.get_metric_history(run, _key(next(iter(event["metrics"]), "loss")))
            self._known[run] = max((point.step for point in points), default=-1)
        return bool(event["step"] <= self._known[run])

    def _front(self, event: Event) -> None:
        before, now = self.ids["front"], event["front"]
        for trial in [*before, *now]:
            if (trial in before) != (trial in now):
                self.client.set_tag(
                    self._run(trial, event), "pareto", "true" if trial in now else "false", synchronous=True
                )
        self._note(front=now)
        for name in event["files"]:
            self.client.log_artifact(self._run("", event), str(self.front_files / name))

    def _certify(self, event: Event) -> None:
        run = self._run(event["trial"], event)
        self._log_new(run, event)
        for name, value in event["tags"].items():
            self.client.set_tag(run, name, cut(value, TAG_LENGTH), synchronous=True)

    def _redraw(self, event: Event) -> None:
        parent = self._run("", event)
        self._log_new(parent, event)
        for name in event["files"]:
            self.client.log_artifact(parent, str(self.front_files / name))

    def _log_new(self, run: str, event: Event) -> None:
        """The metrics that the run does not have yet with these very values."""
        known = self.client.get_run(run).data.metrics
        new = {_key(name): value for name, value in event["metrics"].items() if known.get(_key(name)) != value}
        values = [Metric(name, value, event["time"], event["step"]) for name, value in new.items()]
        self._log(run, values)

    def _run(self, trial: str, event: Event) -> str:
        """The id of the run of ``trial``, or of the parent if that is empty: known, found, or created."""
        if trial in self.ids["runs"]:
            return str(self.ids["runs"][trial])
        tags = {"sweep.id": self.ids["sweep"], "sweep.trial": trial or "parent"}
        found = self._found(tags) if self._may_have_begun else None
        if found is None:
            if trial:
                tags["mlflow.parentRunId"] = self._run("", event)
            found = self.client.create_run(self.ids["experiment"], event["time"], tags, trial or self.study)
        self.ids["runs"][trial] = found.info.run_id
        return str(found.info.run_id)

    def _found(self, tags: Mapping[str, str]) -> Run | None:
        where = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        runs = self.client.search_runs([self.ids["experiment"]], where, ViewType.ACTIVE_ONLY, max_results=1)
        return runs[0] if runs else None

    def _log(
        self, run: str, metrics: Sequence[Metric] = (), params: Sequence[Param] = (), tags: Mapping[str, str] = _NONE
    ) -> None:
        """In as few calls as the limits allow; nothing at all is no call."""
        texts = [RunTag(name, cut(value, TAG_LENGTH)) for name, value in tags.items()]
        while metrics or params or texts:
            here = metrics[:METRICS_PER_CALL], params[:PARAMS_PER_CALL], texts
            self.client.log_batch(run, *here, synchronous=True)
            metrics, params, texts = metrics[METRICS_PER_CALL:], params[PARAMS_PER_CALL:], []


def _judged(error: Exception) -> Exception:
    """The error itself where it may pass, else a RejectedError."""
    if isinstance(error, RejectedError):
        return error
    if isinstance(error, MlflowException):
        return RejectedError(error.message) if error.error_code in REJECTIONS else error
    if isinstance(error, (PermissionError, FileNotFoundError, NotADirectoryError)):
        # Artifacts come last in every event: a store that was moved here has its folder of artifacts elsewhere.
        return RejectedError(f"no artifacts ({error})")
    if isinstance(error, OSError):
        return error
    # An event that our own code cannot take must not block the others for ever.
    return RejectedError(f"{type(error).__name__}: {error}")


def quiet_client(uri: str) -> MlflowClient:
    """A client that raises what goes wrong and prints nothing: an address may hold a password."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # MLflow 3.17 uses what SQLAlchemy 2.1 calls deprecated: nothing that anyone here could mend.
    warnings.filterwarnings("ignore", module=r"(mlflow|sqlalchemy|alembic)\b")
    return MlflowClient(tracking_uri=uri)


def cut(text: str, length: int) -> str:
    """At most ``length`` characters, the last one an ellipsis if any is missing."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _params(values: Mapping[str, Any]) -> list[Param]:
    return [Param(_key(name), _text(value)) for name, value in values.items()]


def _text(value: Any) -> str:
    return cut(value if isinstance(value, str) else json.dumps(value), PARAM_LENGTH)


def _key(name: str) -> str:
    """``name`` in the characters that MLflow allows for a key."""
    return re.sub(r"[^\w\-. /:]", "_", name)
