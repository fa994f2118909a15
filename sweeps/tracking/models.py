"""An exported trial -> a logged model of its run in MLflow, and a version of a registered one; nothing is pickled.

As ``mlflow_runs``, this takes four seconds to import.
"""

import contextlib
import json
from pathlib import Path
from typing import Any

from mlflow.entities import LoggedModel, LoggedModelOutput, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from sweeps.results import TrialRecord
from sweeps.stored import RequestError
from sweeps.tracking import Tracker
from sweeps.tracking.mlflow_runs import quiet_client


def log_model(tracker: Tracker, record: TrialRecord, to: str, folder: Path, register: bool) -> str:
    """Send the files of ``folder``; what is then where, in words.

    ``register`` makes it the next version of the registered model that is named as the study. Raises RequestError
    where the store has no run of the trial, and whatever a client raises whom nobody answers.
    """
    client = quiet_client(tracker.uri)
    run = _run_of(client, tracker, record.trial)
    model = client.create_logged_model(
        run.info.experiment_id,
        f"{tracker.study}-{record.trial}-{to}".replace(".", "_"),
        source_run_id=run.info.run_id,
        tags={"sweep.study": tracker.study, "sweep.trial": record.trial, "sweep.format": to},
        params={path: json.dumps(value) for path, value in record.knobs.items()},
        model_type=to,
    )
    try:
        client.log_model_artifacts(model.model_id, str(folder))
    except BaseException:
        with contextlib.suppress(Exception):  # the first error says more
            client.finalize_logged_model(model.model_id, "FAILED")
        raise
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, record.step)])
    version = f", {tracker.study} version {_registered(client, tracker.study, run, model)}" if register else ""
    return f"models:/{model.model_id}{version}"


def _run_of(client: MlflowClient, tracker: Tracker, trial: str) -> Run:
    experiment = client.get_experiment_by_name(tracker.study)
    ids: dict[str, Any] = json.loads(tracker.ids_file.read_text())
    tags = {"sweep.trial": trial}
    if "runs" in ids:  # else the sweep was launched elsewhere, under an id that is not known here
        tags["sweep.id"] = ids["sweep"]
    where = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    found = client.search_runs([experiment.experiment_id], where, max_results=2) if experiment is not None else []
    if len(found) != 1:
        raise RequestError(f"it has {'several runs' if found else 'no run'} of trial {trial}")
    run: Run = found[0]
    return run


def _registered(client: MlflowClient, name: str, run: Run, model: LoggedModel) -> str:
    """The number of the version."""
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # The place of the files: a store without a server resolves no models:/ URI of its own.
    version = client.create_model_version(name, model.artifact_location, run.info.run_id, model_id=model.model_id)
    return str(version.version)
