"""A sweep whose storage is a real S3 server that goes away and comes back, resumed on what is like another machine."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.fs
import pytest
from mlflow.tracking import MlflowClient

from robustcore.clients import resolved
from robustcore.finetune import finetune
from robustcore.process import Process
from robustcore.recipe import recipe_from
from robustcore.storage import Folder
from sweeps.finished import trained_model
from sweeps.lock import is_running, locked
from sweeps.results import Results
from sweeps.stored import RequestError, patience
from tests.object_store import BUCKET, SECRET, Server, serving
from tests.sweeps.commands import COMMAND, STUDY, write_study

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow 3.17 with SQLAlchemy 2.1

LONGER = STUDY.replace("steps: 4}", "steps: 20}").replace("every: 2", "every: 4")
FONTS = str(Path.home() / ".cache" / "matplotlib")  # to look for them takes ten seconds in each new home
STORAGE = f"s3://{BUCKET}/sweeps"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@dataclass
class Machine:
    """What a process can tell machines apart by: its home with all caches, and where it works."""

    root: Path

    def start(self, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        self.root.mkdir(exist_ok=True)
        return subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=self.root,
            env={**os.environ, "HOME": str(self.root), "MPLCONFIGDIR": FONTS, "PYTHONUNBUFFERED": "1", **environment},
        )

    def run(self, *arguments: object, code: int = 0, **environment: str) -> str:
        process = self.start(*arguments, "--storage", STORAGE, **environment)
        said = process.communicate(timeout=300)[0]
        assert process.returncode == code, said
        assert "Traceback" not in said
        return said


@dataclass
class Story:
    """What was said by the launch that lost its storage, by the resume elsewhere, and where all of it is."""

    study: Path
    mlflow: str
    lost: str
    resumed: str
    other: Machine


@pytest.fixture(scope="module")
def story(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A launch whose storage goes away for longer than it waits; a resume whose storage is away for a moment."""
    root = tmp_path_factory.mktemp("story")
    mlflow = f"sqlite:///{root}/mlflow.db"
    study = write_study(root, LONGER + f"mlflow: {mlflow}\n")
    one, other = Machine(root / "one"), Machine(root / "other")
    with one.start("launch", study, "--storage", STORAGE, SWEEP_PATIENCE="1") as launch:
        wait_for_evaluations(2, launch)
        server.stop()
        lost = launch.communicate(timeout=120)[0]
    assert launch.returncode == 1, lost
    server.start()
    with other.start("resume", study, "--storage", STORAGE) as resume:
        wait_for_evaluations(evaluations() + 1, resume)
        server.stop()
        resumed = said_until("trying for 120 s", resume)
        server.start()
        resumed += resume.communicate(timeout=240)[0]
    assert resume.returncode == 0, resumed
    return Story(study, mlflow, lost, resumed, other)


def said_until(words: str, process: subprocess.Popen[str]) -> str:
    """What a process says up to the line with these words, or until its end."""
    said = ""
    for line in process.stdout or []:
        said += line
        if words in line:
            break
    return said


def evaluations() -> int:
    """That the storage knows of."""
    try:
        records = Results.read(Folder(STORAGE).at("tiny/results.parquet").uri).records.values()
    except (FileNotFoundError, ValueError):
        return 0
    return sum(len(record.evaluations) for record in records)


def wait_for_evaluations(count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while evaluations() < count:
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"waited in vain for {count} evaluations:\n{process.communicate()[0]}")
        time.sleep(0.1)


def test_a_sweep_whose_storage_stays_away_ends_with_a_sentence_and_the_command_that_goes_on(story: Story) -> None:
    assert "cannot be used" in story.lost
    assert "tried for 1 s" in story.lost
    assert f"--storage {STORAGE}` goes on" in story.lost
    assert "Traceback" not in story.lost


def test_the_resumed_sweep_waits_for_its_storage_and_misses_nothing(story: Story) -> None:
    assert "trying for 120 s" in story.resumed
    records = Results.read(Folder(STORAGE).at("tiny/results.parquet").uri).records
    assert [record.state for record in records.values()] == ["finished", "finished"]
    for record in records.values():
        alone = {progress.step: progress.metrics for progress in finetune(recipe_from(record.recipe))}
        assert {each.step: each.metrics for each in record.evaluations} == alone


def test_machines_go_on_in_the_same_runs_of_mlflow(story: Story) -> None:
    client = MlflowClient(story.mlflow)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert sorted(runs) == ["0000", "0001", "tiny"]
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert len(client.search_runs([experiment.experiment_id])) == 3
    for name, record in Results.read(Folder(STORAGE).at("tiny/results.parquet").uri).records.items():
        points = client.get_metric_history(runs[name].info.run_id, "pgd")
        known = [(each.step, each.metrics["pgd"]) for each in record.evaluations]
        assert sorted((point.step, point.value) for point in points) == known


@pytest.mark.usefixtures("story")
def test_a_third_machine_reads_it(tmp_path: Path) -> None:
    third = Machine(tmp_path / "third")
    assert "2 finished" in third.run("status", "tiny")
    front = json.loads(third.run("front", "tiny", "--format", "json"))
    assert {trial["state"] for trial in front} == {"finished"}
    record = Results.read(Folder(STORAGE).at("tiny/results.parquet").uri).records[front[0]["trial"]]
    recipe, trained = trained_model(Folder(STORAGE).at("tiny"), record, Process(cache=tmp_path / "cache"))
    assert recipe.fingerprint() == record.recipe_hash
    assert trained.loaded.encoder is not None


def test_no_secret_is_said_or_kept(story: Story) -> None:
    assert SECRET not in story.lost + story.resumed
    filesystem, place = resolved(STORAGE)
    files = filesystem.get_file_info(pyarrow.fs.FileSelector(place, recursive=True))
    contents = [filesystem.open_input_file(file.path).read() for file in files if file.is_file]
    kept = [path.read_bytes() for path in story.study.parent.rglob("*") if path.is_file()]
    assert len(contents) > 10
    assert not any(SECRET.encode() in content for content in (*contents, *kept))


@pytest.mark.parametrize("given", ["abc", "", "-1", "nan", "inf"])
def test_a_patience_that_is_no_number_of_seconds_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP_PATIENCE", given)
    with pytest.raises(RequestError, match=f"SWEEP_PATIENCE: expected a number of seconds, got '{given}'"):
        patience()


def test_of_two_who_would_drive_a_study_one_is_refused(server: Server) -> None:
    folder = Folder(STORAGE).at("driven")
    with locked(folder, "driven"):
        assert is_running(folder)
        with pytest.raises(RequestError, match="another process runs the study 'driven'"), locked(folder, "driven"):
            pass
    assert not is_running(folder)
