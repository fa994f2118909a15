"""What is asked once, not of each machine: whether the pool can hold a trial, and whether MLflow answers."""

import os
from urllib.parse import urlsplit

from robustcore.addresses import without_secrets
from sweeps.preflight.findings import Finding
from sweeps.session import trials_at_once
from sweeps.stored import RequestError
from sweeps.study import Study
from sweeps.tracking import ENVIRONMENT


def pool_finding(study: Study) -> Finding:
    """At the pool's maximum, whatever is up now."""
    resources = study.resources
    trial = f"{resources.workers} x ({resources.cpus:g} CPUs, {resources.gpus:g} GPUs)"
    try:
        at_once = trials_at_once(resources)
    except RequestError as error:
        return Finding("room", f"none for a trial of {trial}", f"room: {error}")
    return Finding("room", f"{at_once} {'trial' if at_once == 1 else 'trials'} of {trial} at a time")


def tracking_finding(study: Study) -> Finding:
    """From the head, which alone tells MLflow of trials."""
    if study.mlflow is None:
        return Finding("MLflow", "a file of its own")
    place = without_secrets(study.mlflow)
    try:
        _ask(study.mlflow)
    except Exception as error:  # MLflow's client raises whatever its transport does
        why = without_secrets(" ".join(str(error).split()))[:300]
        return Finding(
            "MLflow",
            f"{place} does not answer",
            f"MLflow: {place} cannot be used from the head ({why}); expected a server that the cluster reaches, and "
            "MLFLOW_TRACKING_TOKEN, or a user name and a password, in their environment where it wants them",
        )
    return Finding("MLflow", f"{place} answers")


def _ask(uri: str) -> None:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if urlsplit(uri).scheme not in ("http", "https"):
        return
    from mlflow import MlflowClient

    MlflowClient(uri).search_experiments(max_results=1)
