"""Spooled events -> calls of MlflowClient; each may come twice, for a crash may fall between call and note.

MLflow takes four seconds to import: only the tracker's background thread imports this module.
"""

import json
import logging
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from robustcore.storage import replace_file
from sweeps.source.settings import flat
from sweeps.tracking.spool import Event

METRICS_PER_CALL, PARAMS_PER_CALL, PARAM_LENGTH, TAG_LENGTH = 1000, 100, 6000, 5000
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
        self.is_new = not self._still_there()
        if self.is_new:
            self._note(experiment=self._experiment(artifacts), runs={}, front=[])

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

    def _note(self, **changes: Any) -> None:
        self.ids |= changes
        replace_file(self.ids_file, json.dumps(self.ids).encode())

    def apply(self, events: Sequence[Event], *, is_newest_front: bool = True) -> None:
        """One event, or several of kind ``evaluate``; a RejectedError is final, any other error may pass."""
        kind = events[0]["kind"]
        try:
            if kind == "evaluate":
                self._evaluate(events)
            elif kind == "front":
                self._front(events[0], is_newest_front)
            else:
                actions: dict[str, Callable[[Event], None]] = {
                    "sweep": self._start_sweep,
                    "trial": self._start_trial,
                    "end": self._end_trial,
                    "certify": self._certify,
                    "redraw": self._redraw,
                    "close": self._close,
                }
                actions[kind](events[0])
        except MlflowException as error:
            if error.error_code in REJECTIONS:
                raise RejectedError(error.message) from error
            raise
        except (PermissionError, FileNotFoundError, NotADirectoryError) as error:
            # Artifacts come last in every event: a store that was moved here has its folder of artifacts elsewhere.
            raise RejectedError(f"no artifacts ({error})") from error
        except OSError:
            raise
        except Exception as error:  # an event that our own code cannot take must not block the others for ever
            raise RejectedError(f"{type(error).__name__}: {error}") from error

    def _start_sweep(self, event: Event) -> None:
        run = self._run("", event)
        self.client.update_run(run, status="RUNNING")
        # MLflow never changes a parameter: after `resume --trials 40` the first one stays, study.yaml is new.
        known = self.client.get_run(run).data.params
        self._log_params(run, {name: value for name, value in event["params"].items() if _key(name) not in known})
        self.client.log_text(run, event["study"], "study.yaml")

    def _start_trial(self, event: Event) -> None:
        run = self._run(event["trial"], event)
        self.client.update_run(run, status="RUNNING")
        self._log_params(run, flat(event["recipe"]) | event["knobs"])
        self.client.log_text(run, json.dumps(event["recipe"], indent=2), "recipe.json")

    def _evaluate(self, events: Iterable[Event]) -> None:
        metrics: dict[str, list[Metric]] = {}
        for event in events:
            values = metrics.setdefault(self._run(event["trial"], event), [])
            for name, value in event["metrics"].items():
                values.append(Metric(_key(name), value, event["time"], event["step"]))
        for run, values in metrics.items():
            for start in range(0, len(values), METRICS_PER_CALL):
                batch = values[start : start + METRICS_PER_CALL]
                self.client.log_batch(run, metrics=batch, synchronous=True)

    def _end_trial(self, event: Event) -> None:
        run = self._run(event["trial"], event)
        for tag in ("state", "reason", "copy_of", "repeat_of", "flags", "notes"):
            if event.get(tag):  # events that waited since an older version lack some
                self.client.set_tag(run, f"sweep.{tag}", cut(event[tag], TAG_LENGTH), synchronous=True)
        self.client.set_terminated(run, STATUS.get(event["state"], "KILLED"), end_time=event["time"])

    def _front(self, event: Event, is_newest: bool) -> None:
        parent = self._run("", event)
        metric = Metric("hypervolume", event["hypervolume"], event["time"], event["finished"])
        self.client.log_batch(parent, metrics=[metric], synchronous=True)
        if not is_newest:
            return
        before, now = self.ids["front"], event["front"]
        for trial in [*before, *now]:
            if (trial in before) != (trial in now):
                self.client.set_tag(
                    self._run(trial, event), "pareto", "true" if trial in now else "false", synchronous=True
                )
        self._note(front=now)
        for name in event["files"]:
            self.client.log_artifact(parent, str(self.front_files / name))

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
        if values:
            self.client.log_batch(run, metrics=values, synchronous=True)

    def _close(self, event: Event) -> None:
        self.client.set_terminated(self._run("", event), event["status"], end_time=event["time"])

    def _run(self, trial: str, event: Event) -> str:
        """The id of the run of ``trial``, or of the parent if that is empty: known, found, or created."""
        if trial in self.ids["runs"]:
            return str(self.ids["runs"][trial])
        tags = {"sweep.id": self.ids["sweep"], "sweep.trial": trial or "parent"}
        where = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        experiment = self.ids["experiment"]
        found = self.client.search_runs([experiment], where, ViewType.ACTIVE_ONLY, max_results=1)
        if found:
            run = found[0]
        else:
            if trial:
                tags["mlflow.parentRunId"] = self._run("", event)
            run = self.client.create_run(experiment, event["time"], tags, trial or self.study)
        self._note(runs=self.ids["runs"] | {trial: run.info.run_id})
        return str(run.info.run_id)

    def _log_params(self, run: str, values: Mapping[str, Any]) -> None:
        params = [Param(_key(name), _text(value)) for name, value in values.items()]
        for start in range(0, len(params), PARAMS_PER_CALL):
            self.client.log_batch(run, params=params[start : start + PARAMS_PER_CALL], synchronous=True)


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


def _text(value: Any) -> str:
    return cut(value if isinstance(value, str) else json.dumps(value), PARAM_LENGTH)


def _key(name: str) -> str:
    """``name`` in the characters that MLflow allows for a key."""
    return re.sub(r"[^\w\-. /:]", "_", name)
