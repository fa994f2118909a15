"""Files that are whole or absent, by path and by URI."""

import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from robustcore.storage import Folder, StorageLost

forms = pytest.mark.parametrize("form", ["path", "uri"])


def folder(root: Path, form: str) -> Folder:
    return Folder(root.as_uri() if form == "uri" else str(root)).at("a/b")


@forms
def test_what_is_written_is_read_named_and_removed(form: str, tmp_path: Path) -> None:
    place = folder(tmp_path, form)
    place.write("two", b"2")
    place.write("one", b"1")
    place.write("one", b"1 again")
    assert place.names() == ["one", "two"]
    assert place.read("one") == b"1 again"
    place.remove("one")
    place.remove("one")
    assert place.names() == ["two"]
    assert place.local == tmp_path / "a" / "b"


@forms
def test_nothing_is_created_before_something_is_written(form: str, tmp_path: Path) -> None:
    place = folder(tmp_path, form)
    assert place.names() == []
    with pytest.raises(FileNotFoundError):
        place.read("one")
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_was_cut_off_is_no_file(tmp_path: Path) -> None:
    place = folder(tmp_path, "path")
    place.write("one", b"whole")
    (tmp_path / "a" / "b" / ".one.123.unfinished").write_bytes(b"who")
    assert place.names() == ["one"]
    assert place.read("one") == b"whole"


def test_a_place_that_cannot_be_written_raises_oserror(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file, not a folder")
    with pytest.raises(OSError, match="a"):
        folder(tmp_path, "path").write("one", b"1")


@pytest.mark.parametrize("uri", ["/a/b", "s3://bucket/a", "s3://bucket/a?region=x&scheme=http"])
def test_above_undoes_at(uri: str) -> None:
    assert Folder(uri).at("name").above == Folder(uri)
    assert Folder(uri).at("name").uri.count("?") == uri.count("?")


@contextmanager
def away(home: Path, seconds: float) -> Iterator[None]:
    """``home`` is moved away and comes back by itself; where something else was put in its place, it cannot."""
    elsewhere = home.with_name("elsewhere")
    home.rename(elsewhere)

    def back() -> None:
        time.sleep(seconds)
        elsewhere.rename(home)

    thread = threading.Thread(target=back)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert not elsewhere.exists(), "something was put in its place"


ACTIONS: dict[str, Callable[[Folder], object]] = {
    "write": lambda place: place.write("one", b"1"),
    "read": lambda place: place.read("there"),
    "names": lambda place: place.names(),
    "remove": lambda place: place.remove("there"),
}


@pytest.mark.parametrize("action", ACTIONS)
@forms
def test_a_kept_folder_waits_for_storage_that_is_away(form: str, action: str, tmp_path: Path) -> None:
    home = folder(tmp_path, form).kept(60)
    place = home.at("c")
    place.write("there", b"here")
    assert home.local is not None
    with away(home.local, 0.4):
        found = ACTIONS[action](place)
    assert found == {"read": b"here", "names": ["there"]}.get(action)
    assert place.names() == {"write": ["one", "there"], "remove": []}.get(action, ["there"])


@pytest.mark.parametrize("action", ACTIONS)
def test_storage_that_stays_away_is_said_and_nothing_is_put_in_its_place(action: str, tmp_path: Path) -> None:
    home = folder(tmp_path, "path").kept(0.3)
    os.rename(tmp_path / "a", tmp_path / "elsewhere")
    with pytest.raises(StorageLost, match=r"a/b/c cannot be used: the folder .*a/b is gone; tried for 0\.3 s$"):
        ACTIONS[action](home.at("c"))
    assert not (tmp_path / "a").exists()


def test_that_a_file_is_absent_is_an_answer(tmp_path: Path) -> None:
    place = folder(tmp_path, "path").kept(3600)
    with pytest.raises(FileNotFoundError):
        place.read("nowhere")
    assert place.at("nowhere").names() == []
    place.remove("nowhere")


@contextmanager
def full(size: int) -> Iterator[None]:
    """A disk that takes no file beyond ``size`` bytes: the operating system's own limit of this process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@forms
def test_what_the_disk_does_not_take_leaves_what_was_there_and_nothing_else(form: str, tmp_path: Path) -> None:
    place = folder(tmp_path, form).kept(0.3)
    place.write("one", b"whole")
    with full(100), pytest.raises(StorageLost, match="File too large; tried for"):
        place.write("one", b"." * 1000)
    assert place.read("one") == b"whole"
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["one"]


def test_what_killed_processes_left_is_tidied_up(tmp_path: Path) -> None:
    place = folder(tmp_path, "path")
    place.tidy()
    place.write("one", b"1")
    (tmp_path / "a" / "b" / ".one.123.unfinished").write_bytes(b"who")
    place.tidy()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["one"]
