"""A sweep on a real cluster, from a laptop that shares nothing with it but a folder: sent, followed, stopped, resumed.

One head for all, whose dashboard wants a token; the tests are in the order of a sweep's life.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sweeps.cli import main
from sweeps.remote.jobs import Jobs
from sweeps.results import Results
from tests.support import write_digits
from tests.sweeps.clusters import ROOT, TOKEN, Cluster, cluster, environment_of, started
from tests.sweeps.commands import STUDY
from tests.sweeps.relay import relay

FAR = (
    STUDY.replace("name: tiny", "name: far")
    .replace("{kind: digits}", "{kind: parquet, path: data/digits.parquet, split: train}")
    .replace("{kind: digits, split: test}", "{kind: parquet, path: data/digits.parquet, split: test}")
    .replace("steps: 4}", "steps: 240}")
    .replace("every: 2", "every: 60")
)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster"), cpus=2) as made:
        yield made


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its project: a study, the images it names, and 200 MB that it does not."""
    folder = tmp_path_factory.mktemp("laptop")
    write_digits(folder / "data" / "digits.parquet", 64, 32)
    with (folder / "checkpoint.pt").open("wb") as sparse:
        sparse.truncate(200_000_000)
    (folder / "far.yaml").write_text(FAR)
    return folder


@pytest.fixture(autouse=True)
def _at_the_laptop(laptop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(laptop)
    monkeypatch.setenv("HOME", str(laptop / "home"))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")  # of another cluster: --address is the one that counts


def sweep(*arguments: object) -> Result:
    """One command in this process."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert "Traceback" not in result.output
    assert TOKEN not in result.output
    return result


def storage(head: Cluster) -> list[object]:
    return ["--storage", head.folder / "results", "--shared", head.folder / "results"]


def wait_for(condition: Callable[[], object], what: str, patience: float = 120) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.3)


@pytest.mark.parametrize(("token", "sentence"), [("wrong", "does not accept the token"), ("", "wants a token, and")])
def test_without_the_right_token_nobody_gets_in(
    token: str, sentence: str, head: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    for verb, more in (("launch", storage(head)), ("stop", [])):
        result = sweep(verb, "far.yaml", "--address", head.jobs, *more)
        assert result.exit_code == 2
        assert sentence in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_what_was_never_launched_is_not_there(head: Cluster) -> None:
    for verb in ("attach", "logs", "stop"):
        result = sweep(verb, "far.yaml", "--address", head.jobs)
        assert (result.exit_code, result.stderr.split(";")[0]) == (2, f"no sweep 'far' has run at {head.jobs}")


def test_a_launch_sends_what_the_study_needs_and_a_second_one_starts_nothing(head: Cluster) -> None:
    first = sweep("launch", "far.yaml", "--address", head.jobs, *storage(head), "--detach")
    assert first.exit_code == 0, first.output
    sizes = [float(size) for size in re.findall(r"^ *([\d.]+) MB", first.stdout, re.MULTILINE)]
    assert len(sizes) == 3, "code, images, sum"
    assert sizes[-1] < 5
    assert "checkpoint.pt" not in first.stdout
    assert "It runs as the job 'far'." in first.stdout
    second = sweep("launch", "far.yaml", "--address", head.jobs, *storage(head), "--detach")
    assert second.exit_code == 0
    assert "The sweep 'far' runs there already, as the job 'far'" in second.stdout
    other = sweep("launch", "far.yaml", "--address", head.jobs, "--storage", "s3://bucket/x", "--detach")
    assert (other.exit_code, "another sweep runs there under the name 'far'" in other.stderr) == (2, True)


def test_following_survives_lost_connections_and_ctrl_c_only_detaches(head: Cluster) -> None:
    with relay(head.jobs.removeprefix("http://")) as wire:
        address = f"http://127.0.0.1:{wire.port}"

        def disturb() -> None:
            jobs = Jobs(head.jobs)
            job = jobs.find("far")
            assert job is not None
            for sight in ("MLflow", "trial 0000 started"):
                wait_for(lambda sight=sight: sight in jobs.log(job), f"the log has no {sight}")
                time.sleep(1)
                wire.cut()
                time.sleep(1)
            os.kill(os.getpid(), signal.SIGINT)

        disturbing = threading.Thread(target=disturb)
        disturbing.start()
        result = sweep("attach", "far", "--address", address)
        disturbing.join()
        assert wire.cuts >= 2
    assert result.exit_code == 130
    assert f"`sweep stop far --address {address}` ends it" in result.stderr
    log = sweep("logs", "far", "--address", head.jobs).stdout
    said = result.stdout
    assert "trial 0000 started" in said
    assert log.count(said) == 1, "nothing twice, nothing left out"
    job = Jobs(head.jobs).find("far")
    assert job is not None
    assert not job.is_over


def test_stop_ends_it_as_ctrl_c_does(head: Cluster) -> None:
    result = sweep("stop", "far.yaml", "--address", head.jobs)
    assert result.exit_code == 0, result.output
    assert "The sweep ends: it was asked to terminate" in result.stdout
    assert "sweep resume far.yaml --storage" in result.stdout
    assert f"--address {head.jobs} --shared" in result.stdout
    assert result.stdout.endswith("The job 'far' is STOPPED.\n")
    records = Results.read(str(head.folder / "results" / "far" / "results.parquet")).records
    assert records["0000"].state == "running", "to be gone on with"
    assert list((head.folder / "results" / "far" / "trials" / "0000" / "checkpoints").glob("*.safetensors"))
    again = sweep("stop", "far.yaml", "--address", head.jobs)
    assert (again.exit_code, "does not run there" in again.stdout) == (0, True)


def test_resume_goes_on_in_a_new_life_with_the_same_files(head: Cluster) -> None:
    result = sweep("resume", "far.yaml", "--address", head.jobs, *storage(head))
    assert result.exit_code == 0, result.output
    assert "It runs as the job 'far~2'." in result.stdout
    assert "2 of 2 trials done" in result.stdout
    records = Results.read(str(head.folder / "results" / "far" / "results.parquet")).records
    assert [record.state for record in records.values()] == ["finished", "finished"]
    assert records["0000"].recipe["data"]["train"]["path"].startswith(str(head.folder / "home"))
    assert [each.step for each in records["0000"].evaluations] == [60, 120, 180, 240]


def test_a_launch_of_what_has_results_is_refused_there_and_its_exit_code_comes_back(head: Cluster) -> None:
    result = sweep("launch", "far.yaml", "--address", head.jobs, *storage(head))
    assert result.exit_code == 2
    assert "the study 'far' already has results" in result.stdout


LOOK = """
import os, signal, sys, time
from contextlib import suppress
from sweeps.preflight import findings, inspect_cluster
from sweeps.preflight.later import first_worker
from sweeps.session import ray_session
from sweeps.stored import RequestError
from sweeps.study import load_study
from tests.sweeps.sockets import family

study = load_study(sys.argv[2], [f"storage={sys.argv[3]}"])
with ray_session(sys.argv[1]):
    inspect_cluster(study, force=True)
    try:
        inspect_cluster(study, force=False)
    except RequestError as error:
        print(error)
    later = []
    with first_worker(study, later.append, every=0.1):  # as if it had come now
        while not any("clocks: " in said for said in later):
            time.sleep(0.1)
    print(later[0])
    machine = family(int(sys.argv[4]))
    for process in machine:
        os.kill(process, signal.SIGSTOP)
    found = findings(study, patience=4)
    for process in machine:
        with suppress(ProcessLookupError):  # the first to go on may have ended others
            os.kill(process, signal.SIGCONT)
    print(found[0].sentence)
print(sorted(os.listdir(sys.argv[3] + "/far")))
"""


def planted(folder: Path) -> Path:
    """Our packages as a badly kept machine has them: another version, another disk, another clock."""
    listed = subprocess.run(["git", "ls-files", "sweeps", "trainables", "robustcore"], cwd=ROOT, capture_output=True)
    for name in listed.stdout.decode().split():
        if name.endswith(".py"):
            copy = folder / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((ROOT / name).read_bytes())
    for name, old, new in (
        ("sweeps/preflight/probe.py", "return time.time()", "return time.time() + 3600"),
        ("sweeps/preflight/probe.py", "resolved(place)", 'resolved("/another-disk" + place)'),
        ("sweeps/preflight/probe.py", "_storage(Folder(folder)", '_storage(Folder("/another-disk" + folder)'),
    ):
        text = (folder / name).read_text()
        assert text.count(old) == 1, old
        (folder / name).write_text(text.replace(old, new))
    return folder


def test_a_machine_that_is_not_like_the_head_is_found_before_the_first_trial(head: Cluster, tmp_path: Path) -> None:
    results, script = head.folder / "results", tmp_path / "look.py"
    script.write_text(LOOK)
    bad = {**head.environment, "PYTHONPATH": str(planted(tmp_path / "packages"))}
    arguments = [f"--address={head.gcs}", "--num-cpus=1", "--object-store-memory=100000000"]
    with started(arguments, bad, tmp_path / "node.log") as node:
        environment = {**environment_of(head.folder / "home"), "PYTHONPATH": str(ROOT)}
        jobs = Jobs(head.jobs)
        wait_for(lambda: "Ray runtime started" in (tmp_path / "node.log").read_text(), "the worker does not come up")
        assert jobs.ray_version
        command = [sys.executable, script, head.gcs, "far.yaml", results, str(node.pid)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    *_, storage_, data, versions, clocks, end, later, silent, left = done.stdout.splitlines()
    assert re.fullmatch(f"storage: {results} is not the same .*: the worker .*: it does not see what .*", storage_)
    assert re.fullmatch("data: .*/digits.parquet cannot be read: the worker .*: no such file or folder; .*", data)
    assert re.fullmatch(r"versions: the head .* has python 3.* but the worker .* has robust-sweeps .*", versions)
    assert re.fullmatch("clocks: the worker .*: its clock is 3[56].. s ahead of the head's; .*", clocks)
    assert end == "Nothing was started; --force goes on all the same."
    assert later == f"warning: {storage_}"
    assert re.fullmatch("machines: .*the worker .*: it did not answer within 4 s; .*", silent)
    assert done.stderr.count("warning: ") == 4, "with --force"
    assert ".preflight" not in left
