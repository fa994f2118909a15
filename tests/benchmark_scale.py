"""What the launcher takes for each decision in a long sweep: simulated trials on many slots through its own `Sweep`.

`python -m tests.benchmark_scale [TRIALS] [SLOTS] [SAMPLER]` runs it. Everything is real but the trials, Ray and MLflow.
Memory is of the whole process.
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
from sweeps.results import Results
from sweeps.study import load_study
from tests.sweeps.sessions import result, session

EVALUATIONS = 4
PARTS = 10  # of the sweep that are reported


def main(trials: int = 10_000, slots: int = 500, sampler: str = "random") -> None:
    """Print a line for each tenth of the sweep, then what `status` and `front` take on its folder."""
    table = Table(
        "trials", "ms a decision", "95 %", "worst", "MB", title=f"{trials} trials on {slots} slots, {sampler}"
    )
    with tempfile.TemporaryDirectory(prefix="sweep-scale-") as folder:
        study = load_study(
            "alpha_study",
            [
                f"search={{sampler: {sampler}, trials: {trials}}}",
                f"storage={folder}",
                "stop_early={after: 20, keep: 1/2}",
                "recipe.evaluation.every=20",
            ],
        )
        sweep = session(study).sweep
        for ended, taken in decisions(sweep, slots, trials):
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            numbers = [f"{1e3 * value:.1f}" for value in (np.mean(taken), np.quantile(taken, 0.95), max(taken))]
            table.add_row(str(ended), *numbers, f"{memory:.0f}")
        size = Path(sweep.results.uri).stat().st_size / 1e6
        started = time.perf_counter()
        Results.read(sweep.results.uri)
        table.caption = f"results.parquet has {size:.1f} MB and is read in {time.perf_counter() - started:.1f} s"
    Console(width=110).print(table)


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
