"""One sweep that is killed again and again at random moments, beside the same sweep left alone: `make chaos`.

Every kind of process is killed, checkpoints are damaged between two lives, and the storage is full or gone for a while.
In the end nothing may tell the two sweeps apart but the time they took.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from mlflow.tracking import MlflowClient
from rich.console import Console
from rich.table import Table

from tests.sweeps import faults
from tests.sweeps.commands import STUDY, start, sweep, write_study

# Trials that finish, fail, are stopped and are copied; one at a time, so that each knows the same ones before it.
ALONE = (
    STUDY.replace("steps: 4}", "steps: 60}")
    .replace("every: 2", "every: 6")
    .replace(
        "loss.alpha: {choice: [0, 1]}", "loss.alpha: {choice: [0, 0.3, 1, 3]}\n  optim.lr: {choice: [1e-3, 1e-2, 1e30]}"
    )
    .replace("sampler: grid, trials: 2", "sampler: random, trials: 12, seed: 3")
    .replace("resources: {cpus: 1}", "resources: {cpus: 1, at_once: 1}\nstop_early: {after: 18, keep: 1/2}")
)
TOGETHER = (
    STUDY.replace("steps: 4}", "steps: 40}")
    .replace("every: 2", "every: 4")
    .replace("resources: {cpus: 1}", "resources: {workers: 2, cpus: 1, at_once: 1}")
)
PATIENCE = 600.0  # seconds for what must come


@dataclass
class Fault:
    """What was done, when, and what came of it."""

    kind: str
    moment: str
    outcome: str = ""


@dataclass
class Chaos:
    """A study that is launched, disturbed and resumed until it is complete."""

    study: Path
    storage: Path
    draw: random.Random
    every: int
    faults: list[Fault] = field(default_factory=list)
    lives: int = 0

    @property
    def log(self) -> Path:
        """What the present life prints."""
        return self.study.with_name(f"life-{self.lives}.log")

    @property
    def folder(self) -> Path:
        return self.storage / "tiny"

    def run(self, kinds: list[str], reports: int) -> None:
        """Each of ``kinds`` at a random moment of its own stretch of about ``reports`` evaluations."""
        life: subprocess.Popen[str] | None = None
        for number, kind in enumerate(kinds):
            due = (number + self.draw.random()) * reports / (len(kinds) + 1)
            if life is None or life.poll() is not None:
                life = self.begin()
            self.wait(life, due)
            time.sleep(0.3 * self.draw.random())
            if life.poll() is not None:
                break
            self.faults.append(Fault(kind, self.moment()))
            self.suffer(life, kind)
        if life is None or life.poll() is not None:
            life = self.begin()
        assert life.wait(PATIENCE) in (0, 1), self.last_words("the last life")

    def begin(self) -> subprocess.Popen[str]:
        self.lives += 1
        verb = "launch" if not (self.folder / "results.parquet").exists() else "resume"
        return start(verb, self.study, "--storage", self.storage, log=self.log)

    def wait(self, life: subprocess.Popen[str], due: float) -> None:
        """Until so many evaluations have been made in all, or the sweep has ended; the first fault may come earlier."""
        deadline = time.monotonic() + PATIENCE
        before = self.evaluations()
        while life.poll() is None and (self.evaluations() < due or self.evaluations() == before > due):
            assert time.monotonic() < deadline, self.last_words(f"evaluation {due:.0f} did not come")
            time.sleep(0.05)

    def last_words(self, trouble: str) -> str:
        """For whoever reads the failure."""
        return f"{trouble}; life {self.lives} said:\n{self.log.read_text()[-4000:]}"

    def evaluations(self) -> int:
        return evaluations(self.folder, self.every)

    def moment(self) -> str:
        found = faults.checkpoints(self.folder)
        return f"{found[-1].parent.parent.name} after {found[-1].stem}" if found else "before any checkpoint"

    def trials(self, life: subprocess.Popen[str]) -> list[int]:
        """The processes that Tune has started."""
        return [
            pid for name in ("ResourceTrainable", "ImplicitFunc") for pid in faults.processes(life.pid, f"ray::{name}")
        ]

    def suffer(self, life: subprocess.Popen[str], kind: str) -> None:
        """The fault, and what must follow at once."""
        began, everyone = time.monotonic(), {p: faults.command(p) for p in faults.family(life.pid) - {life.pid}}
        fault = self.faults[-1]
        if kind in ("actor", "worker"):
            found = self.trials(life) if kind == "actor" else faults.processes(life.pid, "ray::RayTrainWorker")
            for pid in found[:1]:
                faults.kill(pid)
            fault.outcome = "the sweep goes on" if found else "there was none"
            return
        if kind in ("storage", "full"):
            with faults.away(self.storage) if kind == "storage" else faults.full([life.pid, *self.trials(life)]):
                time.sleep(2 + 2 * self.draw.random())
            fault.outcome = "the sweep goes on"
            return
        if kind in faults.HEAD:
            faults.kill(faults.processes(life.pid, kind)[0])
        else:
            signals = {"driver": signal.SIGKILL, "damage": signal.SIGKILL, "SIGINT": signal.SIGINT}
            faults.kill(life.pid, signals.get(kind, signal.SIGTERM))
        code = life.wait(90)
        fault.outcome = f"exit {code} after {time.monotonic() - began:.1f} s"
        # Ray's agents notice the end of a process that was killed before it could tell them only after minutes.
        if kind in ("driver", "damage"):
            everyone = {pid: name for pid, name in everyone.items() if "Agent" not in name}
        faults.wait_until(lambda: not faults.alive(everyone), 60, f"after {kind}, the end of {everyone}")
        if kind not in ("driver", "damage"):
            assert code == 1, self.last_words(f"after {kind}, exit {code}")
            assert "Traceback" not in self.log.read_text(), self.last_words(f"after {kind}, a traceback")
            assert "sweep resume" in self.log.read_text(), self.last_words(f"after {kind}, nothing says how to resume")
        if kind == "damage":
            fault.outcome += f"; {faults.damage(self.folder, self.draw) or 'nothing to damage'}"


def evaluations(study: Path, every: int) -> int:
    """How many stand in the checkpoints of a study."""
    newest: dict[Path, int] = {}
    for path in faults.checkpoints(study):
        newest[path.parent] = max(newest.get(path.parent, 0), int(path.stem.removeprefix("step-")))
    return sum(newest.values()) // every


def facts(storage: Path) -> dict[str, Any]:
    """Everything of a sweep that kills must not change."""
    table = pq.read_table(storage / "tiny" / "results.parquet").to_pylist()
    rows = {
        f"trial {row['trial']} at step {row['step']}": {
            name: row[name] for name in row if name not in ("seconds", "started", "notes", "reason")
        }
        for row in table
    }
    assert len(rows) == len(table), "the results hold a step of a trial twice"
    front = json.loads((storage / "tiny" / "front.json").read_text())
    return {"results": rows, "front": {"trials": [m["trial"] for m in front]}, "mlflow": tracked(storage)}


def tracked(storage: Path) -> dict[str, Any]:
    """Runs of MLflow by name: status, parameters, and every point of every metric that was trained or measured."""
    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    assert len({run.info.run_name for run in runs}) == len(runs), "a trial has two runs in MLflow"
    found = {}
    for run in runs:
        names = [name for name in run.data.metrics if name != "hypervolume" and not name.startswith("spent/")]
        points = {n: sorted((p.step, p.value) for p in client.get_metric_history(run.info.run_id, n)) for n in names}
        params = {} if "mlflow.parentRunId" not in run.data.tags else run.data.params
        facts = {"status": run.info.status, "params": params, "points": points, "pareto": run.data.tags.get("pareto")}
        found[str(run.info.run_name)] = facts
    return found


def differences(one: Any, other: Any, place: str) -> Iterator[str]:
    """In words, one a difference."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        if repr(one) != repr(other):  # a NaN is itself
            yield f"{place}: {one!r} if left alone, {other!r} if disturbed"
        return
    for name in {**one, **other}:
        if name not in other:
            yield f"{place}, {name}: lost"
        elif name not in one:
            yield f"{place}, {name}: only where disturbed"
        else:
            yield from differences(one[name], other[name], f"{place}, {name}")


def chaos(text: str, every: int, kinds: list[str], seed: int, console: Console) -> None:
    """Raises AssertionError, and keeps everything, where something tells the two sweeps apart."""
    root = Path(tempfile.mkdtemp(prefix="chaos-"))
    study = write_study(root, text)
    done = Chaos(study, root / "runs", drawn(seed), every)
    try:
        sweep("launch", study, "--storage", root / "alone", code=None, timeout=PATIENCE)
        alone = facts(root / "alone")
        done.run(kinds, evaluations(root / "alone" / "tiny", every))
        found = list(differences(alone, facts(done.storage), "in"))
        assert not found, "\n".join(found)
        assert len(done.faults) == len(kinds), f"the sweep ended before {kinds[len(done.faults) :]}"
    except BaseException:
        console.print(f"{root} holds everything.")
        raise
    finally:
        console.print(shown(done))
    shutil.rmtree(root)


def drawn(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 (no secret)


def shown(done: Chaos) -> Table:
    table = Table("fault", "when", "what came of it", title=f"{len(done.faults)} faults, {done.lives} lives")
    for fault in done.faults:
        table.add_row(fault.kind, fault.moment, fault.outcome)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    draw, console = drawn(asked.seed), Console(width=140)
    single = ["driver", "actor", "raylet", "gcs_server", "damage", "SIGINT", "SIGTERM", "storage", "full"]
    kinds = [single[number % len(single)] for number in range(asked.faults)]
    draw.shuffle(kinds)
    chaos(ALONE, 6, kinds, asked.seed, console)
    chaos(TOGETHER, 4, ["worker", "gcs_server", "driver", "actor"], asked.seed, console)
    console.print("Nothing tells the disturbed sweeps from the undisturbed ones.")


if __name__ == "__main__":
    main()
