"""Study -> Tuner.fit(): start a sweep, or go on with one. The next hop is ``trainables.trial``, through Ray Tune."""

import json
import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustcore.storage import Folder
from sweeps.lock import locked
from sweeps.progress import Display
from sweeps.results import Results
from sweeps.stored import RESULTS, STUDY, RequestError, nothing_in, stored_results
from sweeps.study import Study, study_from
from sweeps.tracking import Tracker
from trainables.resources import Demand, capacity, cluster_nodes, this_machine

if TYPE_CHECKING:
    from sweeps.driver import Sweep

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a trial without a GPU sees the machine as it is
    "RAY_AIR_NEW_OUTPUT": "0",  # the display is ours
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # our results are the record
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "3600",  # (sic) nodes of an autoscaling pool take their time
}
# Read when Ray is imported: without it, Ray's servers would listen on every network of the machine.
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# What the drivers of Ray Train runs must find in their own environment.
_TRAIN = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "1200"}


def launch_study(study: Study, address: str = "local") -> "Outcome":
    """Run every trial of a study that has no results yet. Raises RequestError, or ModelError before anything starts."""
    if address == "local" and study.recipe.model.needs_download():
        study.recipe.model.load()  # once, here: where a hub does not answer, no trial could start
    folder = Folder(study.storage).at(study.name)
    with locked(folder, study.name):
        if RESULTS in folder.names():
            raise RequestError(
                f"the study '{study.name}' already has results in {folder.uri}; `sweep resume` continues it, another "
                "--storage starts it anew"
            )
        return _run(study, Results(folder.at(RESULTS).uri), study.num_trials(), address)


def resume_study(folder: Folder, trials: int | None, address: str = "local") -> "Outcome":
    """Go on with a launched study until it has ``trials`` trials (default: as many as it was to have).

    Raises RequestError where it was never launched, is being run, or has more trials than that.
    """
    try:
        study = study_from(json.loads(folder.read(STUDY)))
    except FileNotFoundError:
        raise nothing_in(folder) from None
    with locked(folder, study.name):
        # None yet where it was killed before its first trial.
        results = stored_results(folder) if RESULTS in folder.names() else Results(folder.at(RESULTS).uri)
        if trials is not None:
            study = replace(study, search=replace(study.search, trials=trials))
            if study.num_trials() < trials:
                raise RequestError(
                    f"the study '{study.name}' has only {study.num_trials()} different trials, got --trials {trials}"
                )
        total = study.num_trials()
        if total < len(results.records):
            raise RequestError(
                f"the study '{study.name}' already has {len(results.records)} trials, expected more in --trials, "
                f"got {total}"
            )
        return _run(study, results, total, address)


@dataclass(frozen=True)
class Outcome:
    """What a sweep that has ended leaves to say."""

    sweep: "Sweep"
    mlflow: str
    warning: str

    @property
    def failed(self) -> int:
        """How many trials failed."""
        return sum(record.state == "failed" for record in self.sweep.results.records.values())


def _run(study: Study, results: Results, total: int, address: str) -> Outcome:
    from sweeps.driver import Sweep

    with _ray(address):
        at_once = _at_once(study)
        Folder(study.storage).at(study.name).write(STUDY, json.dumps(study.as_json(), indent=1).encode())
        uri, artifacts = _mlflow(study)
        tracker = Tracker(uri, study.name, _spool(study), artifacts)
        plain = study.plain
        tracker.start_sweep({name: plain[name] for name in ("search", "resources", "objectives")}, study.text)
        with Display(study.name, total, study.objectives, study.feasible) as display:
            sweep = Sweep(study, results, total, tracker, display)
            _fit(study, sweep, at_once)
            sweep.close()
    warning = tracker.close("KILLED" if sweep.unfinished() else "FINISHED")
    return Outcome(sweep, uri, warning)


def _fit(study: Study, sweep: "Sweep", at_once: int) -> None:
    from ray import tune

    from sweeps.hooks import Suggest, Watch
    from sweeps.stop_early import MultiObjectiveASHA
    from trainables.trial import trainable
    from trainables.worker import Assignment

    resources = study.resources
    stops_early = study.stop_early is not None and study.stop_early.kind != "none"
    scheduler = MultiObjectiveASHA(study, sweep.results.records.values()) if stops_early else None
    shape = Assignment("", {}, "", "", resources.workers, resources.cpus, resources.gpus)
    with tempfile.TemporaryDirectory(prefix="sweep-tune-") as scratch:
        tune.Tuner(
            trainable(shape),
            tune_config=tune.TuneConfig(
                search_alg=Suggest(sweep),
                scheduler=scheduler,
                num_samples=-1,
                max_concurrent_trials=at_once,
                reuse_actors=resources.workers == 1,
            ),
            run_config=tune.RunConfig(
                name=study.name,
                storage_path=scratch,
                callbacks=[Watch(sweep)],
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=3),
                # Trials write their own checkpoints; Tune shall not ask for any.
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        ).fit()


def _at_once(study: Study) -> int:
    """How many trials run at a time: what the nodes can hold, and no more than the study wants."""
    resources = study.resources
    demand = Demand(resources.workers, resources.cpus, resources.gpus)
    nodes = cluster_nodes()
    fitting = capacity(demand, nodes)
    if fitting == 0:
        raise RequestError(
            f"a trial takes {resources.workers} x ({resources.cpus:g} CPUs, {resources.gpus:g} GPUs), and no place has "
            f"that: the nodes have {', '.join(f'{node.cpus:g} CPUs and {node.gpus:g} GPUs' for node in nodes)}"
        )
    return min(fitting, resources.at_once or fitting)


@contextmanager
def _ray(address: str) -> Iterator[None]:
    """A connection to Ray: a fresh one on the loopback for ``local``, else the cluster at the address."""
    for name, value in (_QUIET | (_LOOPBACK if address == "local" else {})).items():
        os.environ.setdefault(name, value)
    import ray

    environment = {"env_vars": {name: os.environ.get(name, value) for name, value in (_TRAIN | _QUIET).items()}}
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures are told by trial, in the results
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "runtime_env": environment}
    if address == "local":
        node = this_machine()
        local = {"num_cpus": int(node.cpus), "num_gpus": int(node.gpus), "_node_ip_address": "127.0.0.1"}
        ray.init(address="local", include_dashboard=False, **local, **quiet)
    else:
        _knock(address)
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError) as error:  # nobody there; another version of Ray or Python
            raise RequestError(
                f"no Ray cluster to join at '{address}' ({' '.join(str(error).split())[:300]})"
            ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Ray itself goes on trying for minutes where nobody listens."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise RequestError(f"nobody listens at '{address}' ({error.strerror or error})") from None


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
