"""Imports draw the architecture: every one is read with ``ast``, also those inside functions, and held to a table."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("robustcore", "trainables", "sweeps")

# What each package may import besides the standard library and itself.
MAY_IMPORT = {
    "robustcore": {
        *("annotated_types", "numpy", "open_clip", "PIL", "pyarrow", "pydantic", "safetensors", "torch"),
        "torchvision",
    },
    "trainables": {"ray", "robustcore", "safetensors", "torch"},
    "sweeps": {
        *("annotated_types", "click", "jsonschema", "matplotlib", "mlflow", "numpy", "optuna", "packaging", "plotly"),
        *("pyarrow", "pydantic", "pydantic_core", "ray", "rich", "robustcore", "threadpoolctl", "trainables", "yaml"),
    },
}

# Inside robustcore: what each part may import besides itself and the vocabulary, which imports itself alone.
VOCABULARY = {
    *("addresses", "clients", "errors", "intervals", "noise", "once", "precision", "process", "stalls", "storage"),
    "types",
}
ORDER = {
    "attacks": set[str](),
    "losses": set[str](),
    "data": set[str](),
    "optim": set[str](),
    "models": {"data"},
    "suites": {"data"},
    "evaluation": {"attacks", "data", "losses", "models", "suites"},
    "text_stage": {"losses", "models", "optim"},
    "original": {"data", "evaluation", "losses", "models"},
    "recipe": {"attacks", "data", "evaluation", "losses", "models", "optim", "text_stage"},
    "trainee": {"models", "recipe", "text_stage"},
    "prepared": {"data", "evaluation", "losses", "models", "original", "recipe", "text_stage", "trainee"},
    "trained": {"data", "evaluation", "models", "original", "recipe", "trainee"},
    "descent": {"attacks", "data", "losses", "models", "optim", "prepared", "recipe"},
    "export": {"data", "losses", "models"},
    "finetune": {"descent", "evaluation", "prepared", "recipe"},
    "rehearsal": {"finetune", "recipe"},
    "pretrain": {"attacks", "data", "evaluation", "losses", "models", "original"},
}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Dotted names of everything that the module imports, wherever it does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute, so that they can be read"
            yield str(node.module)
            # "from robustcore import recipe" imports a module too
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module in PACKAGES)


def part(path: Path) -> str:
    """The part of robustcore that a module belongs to."""
    return path.relative_to(ROOT / "robustcore").parts[0].removesuffix(".py")


def test_the_table_speaks_of_packages_that_are_there() -> None:
    for package in PACKAGES:
        assert len(sources(package)) > 3
    parts = {part(path) for path in sources("robustcore")} - {"__init__"}
    assert parts == VOCABULARY | ORDER.keys()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_the_table_allows(package: str) -> None:
    allowed = MAY_IMPORT[package] | {package} | sys.stdlib_module_names
    forbidden = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(package)
        for name in imports(path)
        if name.split(".")[0] not in allowed
    }
    assert not forbidden


@pytest.mark.parametrize("package", PACKAGES)
def test_everything_that_the_table_allows_beyond_torchvision_is_used(package: str) -> None:
    """What nobody imports any more leaves the table."""
    used = {name.split(".")[0] for path in sources(package) for name in imports(path)}
    assert MAY_IMPORT[package] - used <= {"torchvision"}


def test_inside_robustcore_imports_run_from_the_loop_down_to_the_types() -> None:
    forbidden = set()
    for path in sources("robustcore"):
        own = part(path)
        if own == "__init__":
            continue
        allowed = {own} | VOCABULARY | ORDER.get(own, set())
        for name in imports(path):
            top, _, rest = name.partition(".")
            if top == "robustcore" and rest and rest.split(".")[0] not in allowed:
                forbidden.add(f"{path.relative_to(ROOT)} imports {name}")
    assert not forbidden


def test_the_order_inside_robustcore_has_no_circle() -> None:
    placed = set(VOCABULARY)
    left = dict(ORDER)
    while left:
        ready = {name for name, needs in left.items() if needs <= placed}
        assert ready, f"{sorted(left)} import each other"
        placed |= ready
        left = {name: needs for name, needs in left.items() if name not in ready}


def test_no_module_is_longer_than_300_lines_and_each_opens_by_saying_its_job() -> None:
    for package in PACKAGES:
        for path in sources(package):
            text = path.read_text()
            assert len(text.splitlines()) <= 300, f"{path} is too long to be read"
            docstring = ast.get_docstring(ast.parse(text))
            assert docstring, f"{path} does not say its job"
            assert docstring.split("\n\n")[0].rstrip().endswith((".", "?", "``", ":")), f"{path}: {docstring[:80]}"
