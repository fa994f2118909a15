"""The `sweep` command as users run it, and a study that takes it seconds."""

import json
import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from sweeps.cli import main

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


def answer(*arguments: object, code: int = 0) -> Result:
    """Of a verb that only reads, asked in this process: the start of another would take longer than that."""
    result = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == code, f"exit code {result.exit_code}\n{result.output}"
    return result


def status(study: Path | str, storage: Path | str) -> list[dict]:
    return json.loads(answer("status", study, "--storage", storage, "--format", "json").stdout)
