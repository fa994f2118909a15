"""Ray Tune's hooks, each a line: what Tune asks the searcher or tells the callback goes to the ``Sweep``.

Tune pickles them into a snapshot that nothing ever reads: a sweep resumes from its own results, not from Tune's.
"""

import math
import time
from collections import defaultdict
from dataclasses import asdict
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from sweeps.driver import Sweep
from sweeps.head import HeadLost
from trainables import signals
from trainables.guard import free
from trainables.lives import Lives
from trainables.machines import is_lost

_REST = 30.0  # seconds in which trials that run may still write a checkpoint


class _NotPickled:
    """Leaves its state behind when pickled: sockets and threads hang on it, and nobody unpickles it."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Suggest(_NotPickled, Searcher):  # type: ignore[misc]  # Ray's types are Any here
    """Hands Tune one assignment after the other."""

    def __init__(self, sweep: Sweep) -> None:
        super().__init__()
        self._sweep = sweep

    def set_search_properties(self, metric: str | None, mode: str | None, config: Any, **spec: Any) -> bool:
        """The study has said everything."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """A Tune config, or None for "ask again later"; Tune's own id for it is of no interest."""
        assignment = self._sweep.next_assignment()
        if assignment is not None:
            return {"assignment": asdict(assignment)}
        return None if self._sweep.has_repeats() else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """``Watch`` hears it too."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing to save."""


class Judge(_NotPickled, FIFOScheduler):  # type: ignore[misc]  # Ray's types are Any here
    """Stops trials as ``stop_early`` has it; Tune asks it before ``Watch`` hears of a result."""

    def __init__(self, sweep: Sweep, watch: "Watch") -> None:
        super().__init__()
        self._sweep, self._watch = sweep, watch

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Asked before anything is started."""
        for trial in self._watch.spent():
            tune_controller.stop_trial(trial)
        chosen: Trial | None = super().choose_trial_to_run(tune_controller)
        return chosen

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Called with the flattened result, whose metrics are ``metrics/<name>``."""
        metrics = {name.removeprefix("metrics/"): result[name] for name in result if name.startswith("metrics/")}
        goes_on = True
        with self._sweep.ending.on_errors():
            goes_on = self._sweep.goes_on(_name(trial), {**result, "metrics": metrics})
        decision: str = TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP
        return decision


class Watch(_NotPickled, tune.Callback):  # type: ignore[misc]  # Ray's types are Any here
    """Tells the sweep what happens to its trials."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._lives: dict[str, Lives] = defaultdict(Lives)
        self._spent: dict[str, Trial] = {}

    def spent(self) -> list[Trial]:
        """Trials that are not to be started again."""
        return list(self._spent.values())

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Also after a lost machine."""
        with self._sweep.ending.on_errors():
            self._sweep.started(_name(trial))

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        """One evaluation, or the reason of a failure."""
        with self._sweep.ending.on_errors():
            self._sweep.evaluated(_name(trial), result)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """At its own end, or stopped by the scheduler."""
        why = self._lives[_name(trial)].spent() if self._spent.pop(_name(trial), None) else ""
        with self._sweep.ending.on_errors():
            free(trial.config["assignment"]["folder"])
            self._sweep.ended(_name(trial), error=why and f"{why}: {_reason(trial)}")

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Its process died; it will be started again, unless that is stopped."""
        with self._sweep.ending.on_errors():
            folder = trial.config["assignment"]["folder"]
            free(folder, for_good=False)
            lives, place = self._lives[_name(trial)], signals.place(folder)
            # Who is lost before it could say where it was leaves only Ray's words.
            lost = is_lost(place) if place else "node has died" in _reason(trial)
            what = lives.lose(lost, self._sweep.results.records[_name(trial)].step)
            if lives.spent():
                self._spent[_name(trial)] = trial
            else:
                self._sweep.happened(_name(trial), what)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """It could not even be started."""
        with self._sweep.ending.on_errors():
            free(trial.config["assignment"]["folder"])
            self._sweep.ended(_name(trial), error=_reason(trial))


class Stop(_NotPickled, tune.Stopper):  # type: ignore[misc]  # Ray's types are Any here
    """Ends the sweep where there is a reason to."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._until = math.inf

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Of single trials, ``Judge`` decides."""
        return False

    def stop_all(self) -> bool:
        """Asked ten times a second. Who asked for the end gets a checkpoint of every trial that can write it soon."""
        ending = self._sweep.ending
        if not ending.reason:
            return False
        if ending.head_lost():
            raise HeadLost  # whatever Tune would do now waits for an answer that never comes
        if self._until == math.inf:
            self._sweep.show_ending()
            self._until = time.monotonic() + (_REST if ending.was_asked else 0)
            signals.ask_to_rest(self._sweep.folder.uri)
        running = [record.trial for record in self._sweep.unfinished() if record.state == "running"]
        rest = all(signals.rests(self._sweep.folder.at(f"trials/{trial}").uri) for trial in running)
        return rest or time.monotonic() > self._until


def _reason(trial: Trial) -> str:
    """The last that Tune heard of it."""
    return " ".join(str(trial.get_error() or "its process was lost").split())[:300]


def _name(trial: Trial) -> str:
    name: str = trial.config["assignment"]["trial"]
    return name
