"""Where the runs of a study are tracked: its own MLflow, else a file beside its results."""

from pathlib import Path

from robustcore.storage import Folder
from sweeps.study import Study
from sweeps.tracking import Tracker


def tracker_of(study: Study) -> Tracker:
    """A tracker of the study's runs; those of an earlier process are known to it."""
    uri, artifacts = _mlflow(study)
    return Tracker(uri, study.name, _spool(study), artifacts)


def _mlflow(study: Study) -> tuple[str, str | None]:
    """The tracking URI, and where artifacts go when it is a file of our own."""
    if study.mlflow is not None:
        return study.mlflow, None
    root = Folder(study.storage).local or Path.cwd()
    root.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{root / 'mlflow.db'}", str(root / "mlflow-artifacts")


def _spool(study: Study) -> Path:
    """Events wait on the local disk, whatever the storage."""
    local = Folder(study.storage).at(study.name).local
    return (local or Path.home() / ".cache" / "robust-sweeps" / study.name) / "mlflow"
