"""Files that are whole or absent, by path and by URI."""

from pathlib import Path

import pytest

from robustcore.storage import Folder

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
