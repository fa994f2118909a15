"""Pictures while trials run: nobody waits for them, they show one moment, and the last ones show the end."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from robustcore.storage import Folder
from sweeps import gallery
from sweeps.gallery import Gallery
from sweeps.results import TrialRecord
from sweeps.study import load_study
from tests.sweeps.mlflow_store import wait_until
from tests.sweeps.trials import trial


@pytest.fixture
def go_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A picture of the trials' states and steps that is begun at once and done when this is set."""
    event = threading.Event()

    def drawn(records: Sequence[TrialRecord], *_: Any) -> dict[str, bytes]:
        assert event.wait(60)
        return {"front.png": " ".join(f"{each.state} {each.step}" for each in records).encode()}

    monkeypatch.setattr(gallery, "front_files", drawn)
    yield event
    event.set()


def test_nobody_waits_and_what_was_drawn_comes_with_a_later_call(tmp_path: Path, go_on: threading.Event) -> None:
    pictures, record = Gallery(load_study("alpha_study"), Folder(str(tmp_path))), trial(0, {"clean": 0.5}, "running")
    before = record.step
    assert pictures.draw([record], [], at_once=False) == {}
    record.state = "finished"
    assert pictures.draw([record], [], at_once=False) == {}
    go_on.set()
    found: list[dict[str, bytes]] = []

    def is_done() -> bool:
        found.append(pictures.draw([record], [], at_once=False))
        return bool(found[-1])

    wait_until(is_done)
    # As it was when the drawing began.
    assert found[-1] == {"front.png": f"running {before}".encode()}
    assert (tmp_path / "front.png").read_bytes() == found[-1]["front.png"]
    assert pictures.draw([record], [], at_once=False) == {}


def test_the_last_ones_show_the_end_whatever_was_being_drawn(tmp_path: Path, go_on: threading.Event) -> None:
    pictures, record = Gallery(load_study("alpha_study"), Folder(str(tmp_path))), trial(0, {"clean": 0.5}, "running")
    pictures.draw([record], [], at_once=False)
    record.state = "finished"
    go_on.set()
    assert pictures.draw([record], [], at_once=True)["front.png"].startswith(b"finished")
    assert (tmp_path / "front.png").read_bytes().startswith(b"finished")


def test_a_drawing_that_breaks_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "front_files", lambda *_: dict[str, bytes]()["no such key"])
    pictures = Gallery(load_study("alpha_study"), Folder(str(tmp_path)))
    pictures.draw([], [], at_once=False)
    with pytest.raises(KeyError, match="no such key"):
        pictures.draw([], [], at_once=True)
