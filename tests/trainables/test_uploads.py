"""Checkpoints on their way while training goes on: the newest wins, the last is waited for, a failure is heard."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from robustcore.process import Process
from robustcore.recipe import recipe_from
from robustcore.storage import Folder, StorageLost
from tests.support import recipe_plain, write_digits
from trainables import worker
from trainables.checkpoints import load_checkpoint
from trainables.uploads import Uploads
from trainables.worker import Assignment, results


class Slow:
    """Storage that takes one value at a time, each only when ``free`` is set, and fails on ``bad`` ones."""

    def __init__(self, *bad: int) -> None:
        self.saved: list[int] = []
        self.began, self.free, self._bad = threading.Semaphore(0), threading.Event(), bad

    def __call__(self, value: int) -> None:
        self.began.release()
        self.free.wait(20)
        if value in self._bad:
            raise StorageLost(f"{value} is lost")
        self.saved.append(value)


def test_of_those_that_wait_the_newest_is_saved_and_nobody_waits_for_it() -> None:
    slow = Slow()
    with Uploads(slow) as uploads:
        uploads.put(1)
        slow.began.acquire()
        for value in (2, 3, 4):
            uploads.put(value)
        assert slow.saved == []
        slow.free.set()
    assert slow.saved == [1, 4]


ASKED: dict[str, Callable[[Uploads[int]], None]] = {
    "put": lambda uploads: uploads.put(2),
    "check": lambda uploads: uploads.check(),
    "finish": lambda uploads: uploads.finish(),
}


@pytest.mark.parametrize("ask", ASKED)
def test_one_that_failed_is_heard_at_the_next_call(ask: str) -> None:
    slow = Slow(1)
    slow.free.set()
    with Uploads(slow) as uploads:
        uploads.put(1)
        while not uploads._unheard[0].done():
            time.sleep(0.001)
        with pytest.raises(StorageLost, match="1 is lost"):
            ASKED[ask](uploads)


def test_storage_that_failed_is_not_asked_for_what_still_waits() -> None:
    slow = Slow(1)

    def train() -> None:
        with Uploads(slow) as uploads:
            uploads.put(1)
            slow.began.acquire()
            uploads.put(2)
            uploads.put(3)
            slow.free.set()
            uploads.finish()

    with pytest.raises(StorageLost, match="1 is lost"):
        train()
    assert slow.saved == []


@pytest.fixture
def assignment(tmp_path: Path) -> Assignment:
    plain = recipe_plain(write_digits(tmp_path / "digits.parquet", train=32, test=16))
    return Assignment("0000", plain, str(tmp_path / "trial"), str(tmp_path / "cache"))


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    save = worker.save_checkpoint

    def late(*arguments: Any) -> None:
        time.sleep(0.3)
        save(*arguments)

    monkeypatch.setattr(worker, "save_checkpoint", late)


def step_on_storage(assignment: Assignment) -> int:
    folder = Folder(assignment.folder).at("checkpoints")
    saved = load_checkpoint(folder, recipe_from(assignment.recipe).fingerprint())
    return saved.state.step if saved is not None else 0


@pytest.mark.usefixtures("slowly")
def test_the_last_result_comes_when_its_checkpoint_is_on_storage_and_no_earlier_one_waits(
    assignment: Assignment,
) -> None:
    known = {result["step"]: step_on_storage(assignment) for result in results(assignment, Process())}
    assert known == {2: 0, 4: 4}


@pytest.mark.usefixtures("slowly")
def test_a_trial_that_is_stopped_leaves_the_checkpoint_of_its_last_result(assignment: Assignment) -> None:
    trial = results(assignment, Process())
    next(trial)
    trial.close()
    assert step_on_storage(assignment) == 2


def test_a_trial_that_loses_its_storage_says_so_at_the_next_step(
    assignment: Assignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*arguments: Any) -> None:
        raise StorageLost("it is gone")

    monkeypatch.setattr(worker, "save_checkpoint", lose)
    plain = recipe_plain(Path(assignment.recipe["data"]["train"]["path"]), optim__steps=100)
    found: Iterator[dict[str, Any]] = results(replace(assignment, recipe=plain), Process())
    *_, last = found
    assert (last["lost"], last["failure"], last["final"]) == ("it is gone", "", True)
    assert last["step"] < 20
