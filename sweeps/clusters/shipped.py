"""The manifests that come with this package, whether it runs from its sources or was installed."""

from importlib.resources import files
from pathlib import Path

from sweeps.source import did_you_mean
from sweeps.stored import RequestError

FILES = {
    "aws": "aws.yaml",
    "gcp": "gcp.yaml",
    "kuberay": "kuberay/cluster.yaml",
    "job": "kuberay/job.yaml",
    "mlflow": "kuberay/mlflow.yaml",
}


def shipped_path(name: str) -> Path:
    """Of one of FILES; raises RequestError where there is no such manifest."""
    if name not in FILES:
        near = did_you_mean(name, list(FILES))
        raise RequestError(f"no manifest is called '{name}', expected one of: {', '.join(FILES)}{near}")
    return _folder() / FILES[name]


def _folder() -> Path:
    """A wheel carries them beside this module; in the sources they are the top-level folder ``cluster``."""
    package = Path(str(files("sweeps")))
    installed = package / "clusters" / "manifests"
    return installed if installed.is_dir() else package.parent / "cluster"
