"""One driver a study: by the operating system's lock on this machine, by a lease everywhere."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow.fs
import pytest

from robustcore import storage
from robustcore.storage import Folder
from sweeps import lock
from sweeps.lock import LEASE, Hold, Lease, is_running, locked
from sweeps.stored import RequestError

HERE = socket.gethostname()


@pytest.fixture(params=["disk", "bucket"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """A study on this machine's disk, or in a bucket: there no lock of the operating system can help."""
    if request.param == "disk":
        return Folder(str(tmp_path / "study"))
    buckets = pyarrow.fs.SubTreeFileSystem(str(tmp_path), pyarrow.fs.LocalFileSystem())
    monkeypatch.setattr(storage, "resolved", lambda uri: (buckets, uri.partition("://")[2]))

    def put(_: object, place: str, content: bytes) -> None:
        """What is put into a bucket appears when it is whole."""
        unfinished = tmp_path / f".{threading.get_ident()}"
        unfinished.write_bytes(content)
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        unfinished.replace(tmp_path / place)

    monkeypatch.setattr(storage, "_put", put)
    monkeypatch.setattr(lock, "_SETTLE", 0.3)
    return Folder("bucket://study")


@pytest.fixture
def dead() -> int:
    """The id of a process that was there."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def lease(**changes: object) -> Lease:
    mine = Lease("other", HERE, os.getpid(), lock._born(os.getpid()), time.time())
    return dataclasses.replace(mine, **changes)  # type: ignore[arg-type]


def put(folder: Folder, there: Lease) -> None:
    folder.write(LEASE, json.dumps(dataclasses.asdict(there)).encode())


def test_a_study_that_is_held_is_refused_and_is_running(folder: Folder) -> None:
    with locked(folder, "tiny"):
        assert is_running(folder)
        with pytest.raises(RequestError, match="another process runs the study 'tiny'"), locked(folder, "tiny"):
            pass
        assert is_running(folder)
    assert not is_running(folder)
    with locked(folder, "tiny"):
        pass
    assert LEASE not in folder.names()


def test_of_those_who_start_at_once_one_gets_the_study(folder: Folder) -> None:
    got, refused, over = [], [], threading.Event()

    def run(number: int) -> None:
        try:
            with locked(folder, "tiny"):
                got.append(number)
                over.wait()
        except RequestError:
            refused.append(number)
        if len(refused) == 3:
            over.set()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (len(got), len(refused)) == (1, 3)


def test_the_lease_of_a_process_that_died_here_is_taken_over_at_once(folder: Folder, dead: int) -> None:
    put(folder, lease(pid=dead))
    assert not is_running(folder)
    with locked(folder, "tiny"):
        pass


def test_a_process_with_the_id_of_a_dead_one_is_not_taken_for_it(folder: Folder) -> None:
    put(folder, lease(born="1"))
    with locked(folder, "tiny"):
        pass


def test_the_lease_of_another_machine_stands_until_it_is_old(folder: Folder) -> None:
    put(folder, lease(host="elsewhere", time=time.time() - 60))
    assert is_running(folder)
    words = r"process \d+ on elsewhere, last heard of 6\d s ago.* its lease ends after 5 minutes"
    with pytest.raises(RequestError, match=words), locked(folder, "tiny"):
        pass
    put(folder, lease(host="elsewhere", time=time.time() - 301))
    assert not is_running(folder)
    with locked(folder, "tiny"):
        pass


def test_a_lease_that_was_cut_short_holds_nobody_up(folder: Folder) -> None:
    folder.write(LEASE, b'{"owner": "ot')
    with locked(folder, "tiny"):
        pass


def test_a_lease_is_renewed_and_whoever_lost_it_is_told_and_leaves_it_alone(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_RENEW", 0.02)
    with locked(folder, "tiny") as hold:
        first = json.loads(folder.read(LEASE))["time"]
        wait_until(lambda: json.loads(folder.read(LEASE))["time"] > first)
        assert hold.taken_over() == ""
        put(folder, lease(host="elsewhere"))
        wait_until(lambda: told(hold))
        assert "on elsewhere" in hold.taken_over()
    assert json.loads(folder.read(LEASE))["host"] == "elsewhere"


def told(hold: Hold) -> bool:
    return hold.taken_over() != ""


def wait_until(condition: object) -> None:
    deadline = time.monotonic() + 20
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RequestError, match=r"cannot write to .*file/study \(Not a directory\)"),
        locked(Folder(str(tmp_path / "file" / "study")), "tiny"),
    ):
        pass


def test_where_nothing_was_launched_nothing_runs_and_nothing_is_made(tmp_path: Path) -> None:
    assert not is_running(Folder(str(tmp_path / "study")))
    assert list(tmp_path.iterdir()) == []
