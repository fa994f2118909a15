"""A sweep on a cluster that is watched: each training step that any process made, and when."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.machines import ENVIRONMENT, Machines
from tests.sweeps import faults
from tests.sweeps.commands import COMMAND, STUDY, status, write_study

EVERY = 10  # steps from checkpoint to checkpoint
STEPS = Path(__file__).with_name("steps")
PATIENCE = 400.0  # seconds for what must come


def study(trials: int, steps: int, workers: int = 1, more: str = "") -> str:
    """A study of so many trials, each of so many steps."""
    alphas = str([number / 10 for number in range(trials)])
    return (
        STUDY.replace("trials: 2", f"trials: {trials}")
        .replace("[0, 1]", alphas)
        .replace("steps: 4}", f"steps: {steps}}}")
        .replace("every: 2", f"every: {EVERY}")
        .replace("{cpus: 1}", f"{{cpus: 1, workers: {workers}}}")
    ) + more


def watched_path(folder: Path) -> dict[str, str]:
    """For the processes of a cluster: their training steps are noted in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join([str(STEPS), str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    return {"PYTHONPATH": path, "STEPS_FOLDER": str(folder)}


@dataclass
class Swept:
    """One sweep, of trials of ``needed`` steps in all, and what it has done until now."""

    machines: Machines
    folder: Path
    text: str
    steps: Path
    began: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self.study = write_study(self.folder, self.text)
        self._before = set(self.steps.iterdir())
        self.process = self._start("launch")

    def _start(self, verb: str, *more: str) -> subprocess.Popen[str]:
        command = [*COMMAND, verb, str(self.study), "--storage", str(self.storage), *more]
        with self.log.open("a") as stream:
            return subprocess.Popen(
                [*command, "--address", self.machines.address],
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
                env={**os.environ, **ENVIRONMENT, "PYTHONUNBUFFERED": "1"},
            )

    def resume(self) -> None:
        """Go on with it in another process."""
        self.process = self._start("resume")

    @property
    def storage(self) -> Path:
        return self.folder / "runs"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def made(self) -> dict[str, list[tuple[int, float]]]:
        """The steps that each process has made, each with its moment, in turn."""
        found = {}
        for path in set(self.steps.iterdir()) - self._before:
            lines = [line.split() for line in path.read_text().splitlines()]
            found[path.name] = [(int(words[0]), float(words[1])) for words in lines if len(words) == 2]
        return {name: steps for name, steps in found.items() if steps}

    def total(self) -> int:
        return sum(map(len, self.made().values()))

    def first_step(self) -> float:
        return min(steps[0][1] for steps in self.made().values())

    def busy(self) -> str:
        """The node on which a process makes steps: where the newest was made."""
        made = self.made()
        for name in sorted(made, key=lambda name: -made[name][-1][1]):
            if node := self.machines.node_of(int(name)):
                return node
        raise AssertionError("nobody makes steps")

    def last_checkpoint(self) -> float:
        """When the last trial had nothing more to do."""
        return faults.checkpoints(self.storage / "tiny")[-1].stat().st_mtime

    def wait_for_steps(self, count: int) -> None:
        """Until so many have been made."""
        faults.wait_until(lambda: self.process.poll() is not None or self.total() >= count, PATIENCE, "that many steps")
        assert self.process.poll() is None, self.log.read_text()

    def end(self) -> int:
        """Wait for it; its exit code."""
        faults.wait_until(lambda: self.process.poll() is not None, PATIENCE, f"its end: {self.log.read_text()}")
        return self.process.wait()

    def trials(self) -> list[dict]:
        return status(self.study, self.storage)


@contextmanager
def swept(machines: Machines, folder: Path, text: str, steps: Path) -> Iterator[Swept]:
    """Killed at the end, if it still runs."""
    found = Swept(machines, folder, text, steps)
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.process.kill()
            found.process.wait()
