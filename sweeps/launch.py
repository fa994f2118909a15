"""Study -> Tuner.fit(): start a sweep, or go on with one. The next hop is ``trainables.trial``, through Ray Tune."""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from robustcore.storage import Folder
from sweeps.budget import check_budget
from sweeps.earlier import advice_of
from sweeps.growth import changes, grown, total_trials
from sweeps.head import HeadLost
from sweeps.lock import Hold, locked
from sweeps.preflight import inspect_cluster
from sweeps.preflight.later import first_worker
from sweeps.progress import Display
from sweeps.results import Results
from sweeps.session import ray_session, trials_at_once
from sweeps.stored import RESULTS, STUDY, RequestError, launched_study, patience, stored_results
from sweeps.study import Study
from sweeps.tracking.place import tracker_of

if TYPE_CHECKING:
    from sweeps.driver import Sweep


def launch_study(study: Study, address: str = "local", force: bool = False) -> "Outcome":
    """Run every trial of a study that has no results yet. Raises RequestError, or ModelError before anything starts.

    ``force`` goes on where a cluster is not as it should be.
    """
    if address == "local" and study.recipe.model.needs_download():
        study.recipe.model.load()  # once, here: where a hub does not answer, no trial could start
    folder = Folder(study.storage).at(study.name)
    with locked(folder, study.name) as hold:
        if RESULTS in folder.names():
            raise RequestError(
                f"the study '{study.name}' already has results in {folder.uri}; `sweep resume` continues it, another "
                "--storage starts it anew"
            )
        return _run(study, Results(folder.at(RESULTS).uri), study.num_trials(), address, hold, force)


def resume_study(
    folder: Folder,
    trials: int | None,
    address: str = "local",
    settings: Sequence[str] = (),
    say: Callable[[str], object] = str,
    force: bool = False,
) -> "Outcome":
    """Go on with a launched study until it has ``trials`` trials (default: as many as it was to have).

    ``settings`` change what may change, and ``say`` hears how. Raises RequestError where it was never launched, is
    being run, has more trials than that or has spent its budget, StudyError where a setting is wrong.
    """
    before = launched_study(folder)
    study = grown(before, settings)
    with locked(folder, study.name) as hold:
        # None yet where it was killed before its first trial.
        results = stored_results(folder) if RESULTS in folder.names() else Results(folder.at(RESULTS).uri)
        if trials is not None:
            study = replace(study, search=replace(study.search, trials=trials))
        records = results.records.values()
        total = total_trials(study, records, trials)
        advice_of(study)
        check_budget(study, total, records)
        for line in changes(before, study, records):
            say(f"changed  {line}")
        return _run(study, results, total, address, hold, force)


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


def _run(study: Study, results: Results, total: int, address: str, hold: Hold, force: bool) -> Outcome:
    from sweeps.driver import Sweep

    folder = Folder(study.storage).at(study.name).kept(patience())
    with ray_session(address) as head:
        is_known = address == "local" or inspect_cluster(study, force)
        at_once = trials_at_once(study.resources)
        folder.write(STUDY, json.dumps(study.as_json(), indent=1).encode())
        tracker = tracker_of(study)
        plain = study.plain
        tracker.start_sweep({name: plain[name] for name in ("search", "resources", "objectives")}, study.text)
        tracker.catch_up(results.records.values())
        with Display(study.name, total, study.objectives, study.feasible) as display, ExitStack() as watching:
            if not is_known:
                watching.enter_context(first_worker(study, display.say))
            sweep = Sweep(study, results, total, tracker, display)
            sweep.ending.taken_over, sweep.ending.head_lost = hold.taken_over, head.lost
            with sweep.ending.on_signals():
                with suppress(HeadLost), TemporaryDirectory(prefix="sweep-", ignore_cleanup_errors=True) as scratch:
                    head.run(lambda: _fit(study, sweep, at_once, scratch))
                sweep.close()
    warning = tracker.close("FINISHED" if sweep.is_complete() else "KILLED")
    if sweep.ending.error is not None:
        raise sweep.ending.error
    return Outcome(sweep, tracker.uri, warning)


def _fit(study: Study, sweep: "Sweep", at_once: int, scratch: str) -> None:
    from ray import tune

    from sweeps.hooks import Judge, Stop, Suggest, Watch
    from trainables.guard import free, free_left
    from trainables.trial import trainable
    from trainables.worker import Assignment

    resources, watch = study.resources, Watch(sweep)
    free_left(sweep.folder.uri)
    shape = Assignment("", {}, "", "", resources.workers, resources.cpus, resources.gpus)
    tune.Tuner(
        trainable(shape),
        tune_config=tune.TuneConfig(
            search_alg=Suggest(sweep),
            scheduler=Judge(sweep, watch),
            num_samples=-1,
            max_concurrent_trials=at_once,
            reuse_actors=resources.workers == 1,
        ),
        run_config=tune.RunConfig(
            name=study.name,
            storage_path=scratch,
            callbacks=[watch],
            stop=Stop(sweep),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=-1),  # ``Judge`` ends it
            # Trials write their own checkpoints; Tune shall not ask for any.
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
        ),
    ).fit()
    for record in sweep.unfinished():  # of those that it stops with the sweep, Tune does not tell
        if record.state == "running":
            free(sweep.folder.at(f"trials/{record.trial}").uri)
