"""What is imported is declared, what is declared is locked with hashes, and robustcore needs none of the cluster."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
PACKAGES = ("robustcore", "trainables", "sweeps")
OURS = {*PACKAGES, "tests"}


@cache
def project() -> dict[str, Any]:
    content: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return content


def plain(name: str) -> str:
    """A distribution's name as the lock has it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(*extras: str) -> dict[str, str]:
    """Version ranges by distribution."""
    lines = [*project()["dependencies"], *(line for extra in extras for line in optional(extra))]
    parsed = (re.fullmatch(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?\s*([^;]*)(;.*)?", line) for line in lines)
    return {plain(match[1]): match[2] for match in parsed if match}


def optional(extra: str) -> list[str]:
    lines: list[str] = project()["optional-dependencies"][extra]
    return lines


def locked() -> Iterator[tuple[str, str, int]]:
    """Name, version and number of hashes of everything in the lock."""
    for entry in re.split(r"\n(?=[A-Za-z0-9])", (ROOT / "requirements.lock").read_text()):
        pin = re.match(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==([^\s;\\]+)", entry)
        if pin:
            yield plain(pin[1]), pin[2], len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry))


def imported(folder: str) -> set[str]:
    """The third-party modules that a folder's sources import, anywhere in them."""
    names = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
    return names - sys.stdlib_module_names - OURS


@pytest.mark.parametrize(("folder", "extras"), [*((package, ()) for package in PACKAGES), ("tests", ("dev",))])
def test_every_package_that_is_imported_is_declared(folder: str, extras: tuple[str, ...]) -> None:
    distributions = packages_distributions()
    declared = requirements(*extras).keys()
    undeclared = {
        name
        for name in imported(folder)
        if declared.isdisjoint(plain(distribution) for distribution in distributions.get(name, ["?"]))
    }
    assert not undeclared


def test_every_package_that_is_declared_is_used() -> None:
    """Ours import it, or read its data, or what we import asks for it in a version that we must hold back."""
    distributions = packages_distributions()
    used = {
        plain(distribution)
        for package in PACKAGES
        for name in imported(package)
        for distribution in distributions.get(name, [])
    }
    assert requirements().keys() - used <= {"torchvision", "onnxscript", "scikit-learn"}


def test_every_requirement_is_locked_within_its_range() -> None:
    versions: dict[str, list[str]] = {}
    for name, version, _ in locked():
        versions.setdefault(name, []).append(version)
    assert len(versions) > 50
    for name, bounds in requirements("dev").items():
        assert versions.get(name), f"{name} is not in requirements.lock; run make lock"
        for version in versions[name]:
            assert SpecifierSet(bounds).contains(version), f"{name}=={version} is not within {bounds}; run make lock"


def test_everything_in_the_lock_has_a_hash_and_no_address() -> None:
    assert all(hashes > 0 for _, _, hashes in locked())
    text = (ROOT / "requirements.lock").read_text()
    assert len(re.findall(r"^[A-Za-z0-9].*==", text, re.MULTILINE)) == len(list(locked()))
    assert "://" not in text
    assert not re.findall(r"^\s*--(?!hash=).*", text, re.MULTILINE), "no option but the hashes"


WITHOUT = """
import importlib, pkgutil, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"ray", "optuna", "mlflow", "click", "sweeps", "trainables"}:
            raise ModuleNotFoundError(f"{name} is not installed here")

sys.meta_path.insert(0, Blocker())
import robustcore
names = [module.name for module in pkgutil.walk_packages(robustcore.__path__, "robustcore.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def test_robustcore_can_be_imported_where_neither_ray_nor_the_sweeps_are_installed() -> None:
    run = subprocess.run([sys.executable, "-c", WITHOUT], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) >= 30


def test_the_weights_that_ship_are_part_of_the_package() -> None:
    assert (ROOT / "robustcore" / "models" / "shipped" / "digits.safetensors").is_file()
    assert (ROOT / "sweeps" / "studies" / "alpha_study.yaml").is_file()
    ignored = subprocess.run(
        ["git", "check-ignore", "robustcore/models/shipped/digits.safetensors", "sweeps/studies/alpha_study.yaml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ignored.stdout == ""


def test_the_sweep_command_names_a_function_that_is_there() -> None:
    module, _, function = project()["scripts"]["sweep"].partition(":")
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
