"""What a pool of machines costs and survives, in figures: `make cluster`, about fifteen minutes on two cores.

Sweeps in place and under Ray Train on a cluster that grows from nothing: when the first trial begins, when the pool is
at its most, when it is empty again; then machines are killed and taken back, and the sweep's own driver is killed.
Every step that any process makes is counted.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.cluster.machines import IDLE, Machines, Watch, machines
from tests.cluster.swept import EVERY, PATIENCE, Swept, study, swept, watched_path
from tests.sweeps import faults

MOST, STEPS = 2, 60
LATE = 5.0
WRONG = "wrong"
STOPPING = "\nstop_early: {after: 10, keep: 0.3}"


@dataclass
class Case:
    """A study, what is done to its sweep, and how many steps that may cost."""

    name: str
    trials: int
    workers: int = 1
    more: str = ""
    fault: Callable[["Run"], None] | None = None
    may_lose: int = 0
    v2: bool = True


@dataclass
class Run:
    """A case that runs, and the moments of its faults."""

    case: Case
    machines: Machines
    swept: Swept
    watch: Watch
    faults: list[float]

    def wait(self, count: int) -> None:
        """Until so many steps more are made than now."""
        self.swept.wait_for_steps(self.swept.total() + count)

    def struck(self) -> None:
        self.faults.append(time.time())


def kill(run: Run) -> None:
    """A machine goes in the middle between two checkpoints, without notice."""
    run.wait(EVERY + EVERY // 2)
    run.struck()
    run.machines.kill(run.swept.busy())


def take_back(run: Run) -> None:
    """A machine goes with notice of half a minute."""
    run.wait(EVERY + EVERY // 2)
    run.struck()
    run.machines.drain(run.swept.busy(), 30)


def kill_often(run: Run) -> None:
    """More machines than a trial has tries."""
    for _ in range(5):
        kill(run)
        faults.wait_until(lambda: run.watch.now < MOST, PATIENCE, "that it is missed")


def kill_driver(run: Run) -> None:
    """The process of the sweep goes, and with it all of its trials; another one goes on."""
    run.wait(EVERY + EVERY // 2)
    run.struck()
    run.swept.process.kill()
    run.swept.process.wait()
    run.swept.resume()


def interrupt(run: Run) -> None:
    """Ctrl-C, and then another process goes on."""
    run.wait(EVERY + EVERY // 2)
    run.struck()
    run.swept.process.send_signal(signal.SIGINT)
    assert run.swept.process.wait(PATIENCE) == 1
    ended = time.time()
    faults.wait_until(lambda: run.watch.now == 0, PATIENCE, "an empty pool")
    stayed = time.time() - ended
    assert stayed < IDLE + LATE, f"nobody works, and machines stay for {stayed:.1f} s"
    run.swept.resume()


CASES = (
    Case("in place", 4),
    Case("in place, stopped early", 6, more=STOPPING),
    Case("in place, the older autoscaler", 3, v2=False),
    Case("Ray Train, 2 workers", 2, workers=2),
    Case("Ray Train, stopped early", 3, workers=2, more=STOPPING),
    Case("in place, a machine killed", 3, fault=kill, may_lose=EVERY),
    Case("in place, five machines killed", 2, fault=kill_often, may_lose=5 * EVERY),
    Case("in place, a machine taken back", 3, fault=take_back),
    Case("in place, the driver killed", 3, fault=kill_driver, may_lose=2 * EVERY),
    Case("in place, Ctrl-C", 3, fault=interrupt),
    Case("Ray Train, a machine killed", 1, workers=2, fault=kill, may_lose=EVERY),
    Case("Ray Train, a machine taken back", 1, workers=2, fault=take_back),
    Case("Ray Train, the driver killed", 1, workers=2, fault=kill_driver, may_lose=EVERY),
    Case("Ray Train, Ctrl-C", 1, workers=2, fault=interrupt, may_lose=EVERY),  # it goes on until it is killed
)


@contextmanager
def pool(folder: Path, v2: bool = True) -> Iterator[Machines]:
    kinds = {"gpu": ({"CPU": 1, "GPU": 1}, MOST)}
    with machines(kinds, environment=watched_path(folder / "steps"), v2=v2) as found:
        yield found


def run(case: Case, there: Machines, folder: Path) -> list[str]:
    """The case's row of the table, if everything about it is as it must be."""
    root, text = folder / case.name, study(case.trials, STEPS, case.workers, case.more)
    with Watch(there) as watch, swept(there, root, text, folder / "steps") as found:
        at = Run(case, there, found, watch, [])
        if case.fault is not None:
            case.fault(at)
        assert found.end() == 0, found.log.read_text()
        faults.wait_until(lambda: watch.now == 0, PATIENCE, "an empty pool")
        return row(at)


def row(at: Run) -> list[str]:
    found, watch, began = at.swept, at.watch, at.swept.began
    trials = found.trials()
    assert all(trial["state"] in ("finished", "stopped") for trial in trials), trials
    assert watch.most == MOST
    needed, made, ended = sum(trial["step"] for trial in trials), found.total(), found.last_checkpoint()
    lost, empty = made - needed, watch.first(0, after=ended) - ended
    # A trial that is stopped early has gone on for a moment before it hears of that.
    assert at.case.more or 0 <= lost <= at.case.may_lose, f"{at.case.name}: {made} steps made, {needed} needed"
    assert empty < IDLE + LATE, f"{at.case.name}: empty {empty:.1f} s after the last trial"
    return [
        at.case.name,
        f"{found.first_step() - began:.1f}",
        f"{watch.first(MOST) - began:.1f}",
        f"{ended - began:.1f}",
        f"{empty:.1f}",
        f"{lost} of {made}",
        ", ".join(recovery(found, moment) for moment in at.faults),
    ]


def recovery(found: Swept, moment: float) -> str:
    """Seconds from the fault until a process that was not there before it makes a step.

    There is none where a process that was there has taken the trial over, its own being finished.
    """
    begun = [steps[0][1] for steps in found.made().values() if steps[0][1] > moment]
    return f"{min(begun) - moment:.1f}" if begun else "taken over"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=[""], nargs="*", help="Cases whose name has one of these in it.")
    asked, console = parser.parse_args(), Console(width=140)
    table = Table("seconds to", "first step", "most", "last", "then empty", "steps lost", "next step after a fault")
    rows: list[list[str]] = []
    chosen = [case for case in CASES if any(words in case.name for words in asked.only)]
    if not chosen:
        parser.error(f"--only: expected words of one of {', '.join(repr(case.name) for case in CASES)}")
    with tempfile.TemporaryDirectory(prefix="pool-figures-") as root:
        for v2 in (True, False):
            these = [case for case in chosen if case.v2 == v2]
            if these:
                with pool(Path(root), v2) as there:
                    for case in these:
                        found = tried(case, there, Path(root))
                        console.print("  ".join(found))
                        table.add_row(*found)
                        rows.append(found)
    console.print(table)
    console.print(f"A machine that does nothing goes after {IDLE:g} s; a checkpoint is written each {EVERY} steps.")
    sys.exit(any(row[1] == WRONG for row in rows))


def tried(case: Case, there: Machines, folder: Path) -> list[str]:
    """Its row; one that goes wrong shall not cost the others."""
    try:
        return run(case, there, folder)
    except AssertionError as error:
        with Watch(there) as watch:
            faults.wait_until(lambda: watch.now == 0, PATIENCE, "an empty pool")
        return [case.name, WRONG, str(error)]


if __name__ == "__main__":
    main()
