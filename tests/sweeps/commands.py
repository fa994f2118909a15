"""The `sweep` command as users run it, and a study that takes it seconds."""

import json
import os
import subprocess
import sys
from pathlib import Path

STUDY = """
name: tiny
recipe:
  model: {kind: clip, weights: digits}
  data: {train: {kind: digits}, batch_size: 32}
  loss: {kind: fare, alpha: 0}
  attack: {kind: pgd, ball: {kind: linf, eps: 16/255}, steps: 1}
  optim: {lr: 1e-3, steps: 4}
  evaluation:
    every: 2
    datasets: {digits: {kind: digits, split: test}}
    attacks: {pgd: {kind: pgd, ball: {kind: linf, eps: 16/255}, steps: 1}}
knobs:
  loss.alpha: {choice: [0, 1]}
objectives: {clean: max, pgd: max}
search: {sampler: grid, trials: 2}
resources: {cpus: 1}
"""

COMMAND = [str(Path(sys.executable).with_name("sweep"))]


def write_study(folder: Path, text: str = STUDY) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny.yaml"
    path.write_text(text)
    return path


def sweep(*arguments: object, code: int | None = 0, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run one command to its end; its exit code must be ``code``."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL
    )
    assert code is None or done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done


def start(*arguments: object, log: Path) -> subprocess.Popen[str]:
    """Start a command whose output goes to ``log``."""
    with log.open("w") as stream:
        return subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdout=stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )


def status(study: Path, storage: Path) -> list[dict]:
    return json.loads(sweep("status", study, "--storage", storage, "--format", "json").stdout)
