"""The README's example of a new method, followed to the letter in a copy of the project."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources and tests, with the two changes that the README shows."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("robustcore", "trainables", "sweeps", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    method, union = example()
    name = re.match(r"# (\S+)\n", method)
    assert name is not None
    (folder / name[1]).write_text(method.split("\n", 1)[1])
    added, line = re.fullmatch(r"(from .*\n)\n(Loss = .*\n)", union).groups()  # type: ignore[union-attr]
    losses = folder / "robustcore" / "losses" / "__init__.py"
    before = losses.read_text()
    losses.write_text(re.sub(r"Loss = .*\n", lambda _: f"{line}", before).replace("\nLoss =", f"\n{added}\nLoss ="))
    return folder


def example() -> tuple[str, str]:
    """The two code blocks: the file, and what is written into the union's."""
    text = (ROOT / "README.md").read_text().split("**Adding a method**")[1]
    method, union = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[:2]
    return method, union


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True)


def test_the_example_is_short() -> None:
    method, union = example()
    assert len([line for line in method.splitlines() if line.strip()]) < 30
    assert len([line for line in union.splitlines() if line.strip()]) == 2


def test_a_method_added_as_the_readme_says_is_trained_by_its_name(copy: Path) -> None:
    settings = ("loss.kind=huber", "loss.beta=0.5", "optim.steps=2", "optim.warmup=0", "evaluation.every=2")
    given = [argument for setting in settings for argument in ("--set", setting)]
    command = ("-c", "from sweeps.cli import main; main()")
    done = run(copy, *command, "trial", "alpha_study", *given, "--set", "evaluation.attacks.pgd.steps=1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:4] == ["step", "2", "of", "2"]


def test_a_method_added_as_the_readme_says_is_tested_with_its_family(copy: Path) -> None:
    done = run(copy, "-m", "pytest", "-n0", "-v", "-p", "no:cacheprovider", "tests/robustcore/test_losses.py")
    assert done.returncode == 0, done.stdout
    assert "Huber(" in done.stdout
