"""The image passes its lint and its own rules: locked, not root, with nothing in it that is for developers."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "cluster" / "Dockerfile"


def instructions() -> list[str]:
    """Without comments, continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return re.sub(r"\s*\\\n\s*", " ", "\n".join(lines)).splitlines()


def pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==([^\s;\\]+)", lock.read_text(), re.MULTILINE))


def test_hadolint_has_no_complaint() -> None:
    run = subprocess.run([Path(sys.executable).with_name("hadolint"), DOCKERFILE], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, ""), run.stdout


def test_a_complaint_of_hadolint_would_be_heard(tmp_path: Path) -> None:
    worse = tmp_path / "Dockerfile"
    worse.write_text(DOCKERFILE.read_text().replace("python:3.11.14-slim-bookworm", "python:latest", 1))
    run = subprocess.run([Path(sys.executable).with_name("hadolint"), worse], capture_output=True, text=True)
    assert "DL3007" in run.stdout


def test_the_image_runs_as_a_user_that_kubernetes_knows_not_to_be_root() -> None:
    users = [line.split()[1] for line in instructions() if line.startswith("USER ")]
    assert users == ["1000:1000"]
    after = instructions()[instructions().index("USER 1000:1000") :]
    assert not any(line.startswith(("RUN", "COPY", "ADD")) for line in after)


def test_every_file_comes_by_hash_or_from_this_repository() -> None:
    installs = [line for line in instructions() if "uv pip install" in line]
    assert all("--require-hashes" in line or "--no-deps /wheels" in line for line in installs)
    assert not any(
        re.search(r"curl|wget http|ADD http", line) for line in instructions() if line.startswith(("RUN", "ADD"))
    )
    copied = {part for line in instructions() if line.startswith("COPY ") for part in line.split()[1:-1]}
    sources = {source.split("/")[0] for source in copied if not source.startswith(("--from", "/"))}
    allowed = (ROOT / "cluster" / "Dockerfile.dockerignore").read_text().splitlines()
    assert sources == {line[1:] for line in allowed if line.startswith("!")}
    assert "*" in allowed, "what is not named stays out"


def test_no_secret_is_built_in() -> None:
    assert not any(re.search(r"(TOKEN|PASSWORD|SECRET|KEY)\s*=", line) for line in instructions())
    assert not any(line.startswith("ARG") for line in instructions())


def test_the_images_lock_is_the_tested_one_without_tools_of_development() -> None:
    tested, image = pins(ROOT / "requirements.lock"), pins(ROOT / "cluster" / "requirements.lock")
    different = {name for name in tested.keys() & image.keys() if tested[name] != image[name]}
    assert not different, "run make lock"
    assert {"boto3", "google-cloud-storage", "psycopg2-binary", "ray", "torch", "mlflow"} <= image.keys()
    assert not {"pytest", "mypy", "ruff", "transformers"} & image.keys()
    entries = re.split(r"\n(?=[A-Za-z0-9])", (ROOT / "cluster" / "requirements.lock").read_text())
    assert all("--hash=sha256:" in entry for entry in entries if "==" in entry.splitlines()[0])


@pytest.mark.parametrize("lock", ["requirements.lock", "cluster/requirements.lock"])
def test_a_lock_names_no_registry(lock: str) -> None:
    assert "://" not in (ROOT / lock).read_text()
