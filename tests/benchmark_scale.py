"""What the launcher takes for each decision in a long sweep: simulated trials on many slots through its own `Sweep`.

`python -m tests.benchmark_scale [TRIALS] [SLOTS] [SAMPLER]` runs it. Everything is real but the trials and Ray; MLflow
keeps its runs in a file, from a thread of its own. Memory is of the whole process.
"""

import resource
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from sweeps.driver import Sweep
from sweeps.study import load_study
from sweeps.tracking.place import tracker_of
from tests.sweeps.commands import sweep as sweep_command
from tests.sweeps.sessions import launched, result

EVALUATIONS = 4
PARTS = 10  # of the sweep that are reported


def main(trials: int = 10_000, slots: int = 500, sampler: str = "random") -> None:
    """Print a line for each tenth of the sweep, then what `status` and `front` take on its folder."""
    table = Table(
        *("trials", "ms a decision", "95 %", "worst", "MB", "MLflow waits for"),
        title=f"{trials} trials on {slots} slots, {sampler}",
    )
    # MLflow's thread may still be writing when all is said.
    with tempfile.TemporaryDirectory(prefix="sweep-scale-", ignore_cleanup_errors=True) as folder:
        study = load_study(
            "alpha_study",
            [
                f"search={{sampler: {sampler}, trials: {trials}}}",
                f"storage={folder}",
                "stop_early={after: 20, keep: 1/2}",
                "recipe.evaluation.every=20",
            ],
        )
        tracker = tracker_of(study)
        tracker.start_sweep({}, study.text)
        sweep = launched(study).sweep
        sweep._tracker = tracker
        for ended, taken in decisions(sweep, slots, trials):
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            numbers = [f"{1e3 * value:.1f}" for value in (np.mean(taken), np.quantile(taken, 0.95), max(taken))]
            table.add_row(str(ended), *numbers, f"{memory:.0f}", f"{len(tracker.spool.pending())} events")
        sweep.close()
        tracker.close("FINISHED", timeout=0)
        size = Path(sweep.results.uri).stat().st_size / 1e6
        seconds = [f"`sweep {verb}` takes {taken_by(verb, folder):.1f} s" for verb in ("status", "front")]
        table.caption = f"results.parquet has {size:.1f} MB; {', '.join(seconds)}"
    Console(width=110).print(table)


def taken_by(verb: str, storage: str) -> float:
    """Seconds of a command, from its start to its end."""
    started = time.perf_counter()
    sweep_command(verb, "alpha_study", "--storage", storage)
    return time.perf_counter() - started


def decisions(sweep: Sweep, slots: int, trials: int) -> Any:
    """After each tenth of the trials: how many are over, and the seconds of each decision in it.

    A decision is a question for the next trial, or an event with all that the launcher does about it.
    """
    generator, running, over = np.random.default_rng(0), deque[list[Any]](), 0
    taken: list[float] = []

    def timed(call: Any, *arguments: Any) -> Any:
        started = time.perf_counter()
        answer = call(*arguments)
        taken.append(time.perf_counter() - started)
        return answer

    while True:
        while len(running) < slots and (assignment := timed(sweep.next_assignment)) is not None:
            timed(sweep.started, assignment.trial)
            running.append([assignment.trial, 0, generator.random(2)])
        if not running:
            return
        state = running.popleft()
        trial, state[1] = state[0], state[1] + 1
        outcome = report(state[1], state[2])
        goes_on = timed(sweep.goes_on, trial, outcome)
        timed(sweep.evaluated, trial, outcome)
        if goes_on and not outcome["final"]:
            running.append(state)
            continue
        timed(sweep.ended, trial)
        over += 1
        if over % (trials // PARTS) == 0:
            yield over, taken
            taken.clear()


def report(evaluation: int, worth: np.ndarray) -> dict[str, Any]:
    """The trial's next evaluation, as it would hand it to Ray."""
    clean, pgd = (float(value) * evaluation / EVALUATIONS for value in worth)
    metrics = {"clean": clean, "pgd": pgd, "worst": pgd, "loss": 0.5}
    return result(20 * evaluation, final=evaluation == EVALUATIONS) | {"metrics": metrics}


if __name__ == "__main__":
    main(*(int(word) if word.isdigit() else word for word in sys.argv[1:]))  # type: ignore[arg-type]
