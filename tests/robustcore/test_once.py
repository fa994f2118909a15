"""What trials share is computed once: under races, after failures, and after a process that died halfway."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from robustcore.once import computed_once

ROOT = Path(__file__).parents[2]


def writing(text: str) -> Callable[[Path], None]:
    def compute(place: Path) -> None:
        place.write_text(text)

    return compute


def refusing(place: Path) -> None:
    raise AssertionError("this has been computed already")


def breaking(place: Path) -> None:
    place.write_text("half of")
    raise InterruptedError


def results(folder: Path) -> list[Path]:
    """Everything there that could be read as a result."""
    return sorted(path for path in folder.iterdir() if path.suffix == ".txt" and ".unfinished" not in path.name)


def test_the_first_computes_and_the_next_reads(tmp_path: Path) -> None:
    path = computed_once(tmp_path / "not" / "yet", ["key", 1], ".txt", writing("one"))
    assert path.read_text() == "one"
    assert path.parent == tmp_path / "not" / "yet"
    assert computed_once(path.parent, ["key", 1], ".txt", refusing) == path
    assert path.read_text() == "one"


KEYS: list[Any] = [["a"], ["b"], ["a", None], ["a", "None"], ["a", 1], ["a", "1"], ["a", 1.5], ["a", [1]], [["a"], 1]]


def test_every_key_has_a_file_of_its_own(tmp_path: Path) -> None:
    for number, key in enumerate(KEYS):
        computed_once(tmp_path, key, ".txt", writing(str(number)))
    paths = [computed_once(tmp_path, key, ".txt", refusing) for key in KEYS]
    assert [path.read_text() for path in paths] == [str(number) for number in range(len(KEYS))]


def test_the_order_of_a_keys_names_does_not_matter(tmp_path: Path) -> None:
    path = computed_once(tmp_path, {"a": 1, "b": 2}, ".txt", writing("one"))
    assert computed_once(tmp_path, {"b": 2, "a": 1}, ".txt", refusing) == path


def test_one_key_in_two_folders_is_computed_in_both(tmp_path: Path) -> None:
    for name in ("one", "other"):
        assert computed_once(tmp_path / name, "key", ".txt", writing(name)).read_text() == name


def test_a_computation_that_fails_leaves_nothing_to_read_and_the_next_one_starts_anew(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(InterruptedError):
            computed_once(tmp_path, "key", ".txt", breaking)
        assert not results(tmp_path)
    path = computed_once(tmp_path, "key", ".txt", writing("whole"))
    assert path.read_text() == "whole"
    assert results(tmp_path) == [path]
    assert not list(tmp_path.glob("*.unfinished*"))


def test_a_computation_that_writes_nothing_is_not_taken_for_done(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        computed_once(tmp_path, "key", ".txt", lambda place: None)
    assert computed_once(tmp_path, "key", ".txt", writing("whole")).read_text() == "whole"


def test_of_several_threads_that_ask_at_once_one_computes(tmp_path: Path) -> None:
    together, computed, found = threading.Barrier(4), [], []

    def compute(place: Path) -> None:
        computed.append(threading.get_ident())
        place.write_text("one")

    def ask() -> None:
        together.wait()
        found.append(computed_once(tmp_path, "key", ".txt", compute).read_text())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(computed) == 1
    assert found == ["one"] * 4


def test_another_thread_waits_for_a_computation_that_fails_and_then_computes_itself(tmp_path: Path) -> None:
    begun, may_fail, found = threading.Event(), threading.Event(), []

    def fail(place: Path) -> None:
        place.write_text("half of")
        begun.set()
        may_fail.wait()
        raise InterruptedError

    def first() -> None:
        with pytest.raises(InterruptedError):
            computed_once(tmp_path, "key", ".txt", fail)

    def second() -> None:
        begun.wait()
        may_fail.set()
        found.append(computed_once(tmp_path, "key", ".txt", writing("whole")).read_text())

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["whole"]


# A process says that it is about to ask; whoever computes does not finish before all have said so.
ASKING = """
import os, sys, time
from pathlib import Path
from robustcore.once import computed_once

folder, me, others, dies = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4] == "dies"

def compute(place):
    (folder / f"computed-{me}").touch()
    place.write_text("half of")
    if dies:
        os._exit(9)
    while len(list(folder.glob("asking-*"))) < others:
        time.sleep(0.01)
    place.write_text(me)

(folder / f"asking-{me}").touch()
print(computed_once(folder, "key", ".txt", compute).read_text())
"""


def asking(folder: Path, me: str, others: int = 1, dies: bool = False) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", ASKING, str(folder), me, str(others), "dies" if dies else "lives"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_of_several_processes_that_ask_at_once_one_computes_and_all_read_the_same(tmp_path: Path) -> None:
    processes = [asking(tmp_path, str(number), others=3) for number in range(3)]
    answers = [process.communicate()[0].strip() for process in processes]
    (computed,) = tmp_path.glob("computed-*")
    assert answers == [computed.name.removeprefix("computed-")] * 3


def test_what_a_process_that_died_left_behind_is_never_read(tmp_path: Path) -> None:
    with asking(tmp_path, "dying", dies=True) as process:
        assert process.wait() == 9
    assert "half of" in [path.read_text() for path in tmp_path.glob("*.unfinished*")]
    assert not results(tmp_path)
    assert computed_once(tmp_path, "key", ".txt", writing("whole")).read_text() == "whole"
