"""Where the runs of a study are tracked: its own MLflow, else a file beside its results.

Events wait on the local disk. Where the results are elsewhere, the id that all runs of the sweep bear lies beside
them, so that a machine which goes on with the sweep goes on in the same runs.
"""

import hashlib
import json
import uuid
from pathlib import Path

from robustcore.storage import Folder
from sweeps.study import Study
from sweeps.tracking import Tracker

_IDS = "mlflow.json"


def tracker_of(study: Study) -> Tracker:
    """A tracker of the study's runs; those of an earlier process are known to it."""
    uri, artifacts = _mlflow(study)
    return Tracker(uri, study.name, _spool(study), artifacts, _id(study))


def _mlflow(study: Study) -> tuple[str, str | None]:
    """The tracking URI, and where artifacts go when it is a file of our own."""
    if study.mlflow is not None:
        return study.mlflow, None
    root = Folder(study.storage).local or Path.cwd()
    root.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{root / 'mlflow.db'}", str(root / "mlflow-artifacts")


def _spool(study: Study) -> Path:
    """One for each study, though others elsewhere may have its name."""
    folder = Folder(study.storage).at(study.name)
    if folder.local is not None:
        return folder.local / "mlflow"
    digest = hashlib.sha256(folder.uri.encode()).hexdigest()[:8]
    return Path.home() / ".cache" / "robust-sweeps" / f"{study.name}-{digest}" / "mlflow"


def _id(study: Study) -> str:
    """Empty where the events lie beside the results, and the id with them. Raises OSError."""
    folder = Folder(study.storage).at(study.name)
    if folder.local is not None:
        return ""
    try:
        return str(json.loads(folder.read(_IDS))["sweep"])
    except FileNotFoundError:
        sweep = uuid.uuid4().hex
        folder.write(_IDS, json.dumps({"sweep": sweep}).encode())
        return sweep
