"""Sweeps that tests send to MLflow, and what they then find in its store."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from sweeps.results.records import Evaluation, TrialRecord
from sweeps.tracking import Tracker

PATIENCE = 120.0  # seconds, where a test waits for what must come


def tracker_of(uri: str, folder: Path) -> Tracker:
    return Tracker(uri, "alpha_study", folder / "spool", str(folder / "artifacts"))


def play(tracker: Tracker, records: list[TrialRecord]) -> None:
    """A whole sweep, without its closing."""
    tracker.start_sweep({"objectives": {"clean": "max"}, "trials": len(records)}, "name: alpha_study\n")
    for count, record in enumerate(records, start=1):
        tracker.start_trial(record)
        for evaluation in record.evaluations:
            tracker.evaluate(record, evaluation)
        tracker.end_trial(record)
        tracker.update_front([record], 0.1 * count, count, {"front.json": b"[%d]" % count, "front.png": b"PNG"})


def longer(records: list[TrialRecord]) -> list[TrialRecord]:
    for record in records:
        if record.evaluations:
            record.evaluations.append(Evaluation(400, {"clean": 0.5, "pgd/digits": 0.25}, 60.0))
    return records


def stored(uri: str) -> tuple[Run, dict[str, Run]]:
    """The parent and its children by trial, after a check that there is nothing else."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("alpha_study")
    assert experiment is not None
    runs = list(client.search_runs([experiment.experiment_id], max_results=1000))
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = {run.info.run_name: run for run in runs if run is not parent}
    assert len(children) == len(runs) - 1
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} <= {parent.info.run_id}
    return parent, children


def history(uri: str, run: Run, metric: str) -> list[tuple[int, float]]:
    points = MlflowClient(tracking_uri=uri).get_metric_history(run.info.run_id, metric)
    return sorted((point.step, point.value) for point in points)  # a repeat would show


def artifact(uri: str, run: Run, name: str) -> bytes:
    return Path(MlflowClient(tracking_uri=uri).download_artifacts(run.info.run_id, name)).read_bytes()


def check_sweep(uri: str, records: list[TrialRecord]) -> None:
    """What ``play`` and a closing leave, once each."""
    parent, children = stored(uri)
    assert parent.info.run_name == "alpha_study"
    assert parent.info.status == "FINISHED"
    assert history(uri, parent, "hypervolume") == [(i, 0.1 * i) for i in range(1, len(records) + 1)]
    assert artifact(uri, parent, "front.json") == b"[%d]" % len(records)
    assert artifact(uri, parent, "study.yaml") == b"name: alpha_study\n"
    assert set(children) == {record.trial for record in records}
    for record in records:
        run = children[record.trial]
        expected = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}[record.state]
        assert (run.info.status, run.data.tags["sweep.state"]) == (expected, record.state)
        assert run.data.tags.get("sweep.reason", "") == record.reason
        assert float(run.data.params["loss.alpha"]) == record.knobs["loss.alpha"]
        assert json.loads(artifact(uri, run, "recipe.json")) == record.recipe
        for name in record.metrics:
            assert history(uri, run, name) == [(e.step, e.metrics[name]) for e in record.evaluations]
    assert [name for name, run in children.items() if run.data.tags.get("pareto") == "true"] == [records[-1].trial]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
