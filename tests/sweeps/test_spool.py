"""Events wait on disk in order, each until it was taken, whatever a kill did to the last line."""

from pathlib import Path

import pytest

from sweeps.tracking import Tracker
from sweeps.tracking.spool import Spool


def test_a_line_torn_by_a_kill_is_passed_over(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append({"kind": "one"})
    with spool.path.open("ab") as file:
        file.write(b'{"kind": "tw')
    assert [event["kind"] for event, _ in spool.pending()] == ["one"]
    spool = Spool(tmp_path)
    spool.append({"kind": "three"})
    events = spool.pending()
    assert [event["kind"] for event, _ in events] == ["one", "three"]
    assert [event["kind"] for event, _ in spool.pending(limit=1)] == ["one"]
    spool.advance(events[0][1])
    assert [event["kind"] for event, _ in Spool(tmp_path).pending()] == ["three"]
    spool.advance(events[1][1])
    assert Spool(tmp_path).pending() == []


def test_how_far_behind_it_is_counts_what_nobody_took(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "mlflow")
    assert spool.behind == 0
    spool.append({"kind": "one"})
    one = spool.behind
    spool.append({"kind": "two"})
    assert spool.behind == 2 * one > 0
    spool.advance(spool.pending()[0][1])
    assert spool.behind == Spool(tmp_path / "mlflow").behind == one
    (tmp_path / "mlflow").rename(tmp_path / "away")
    assert spool.behind == 0


def test_what_the_disk_does_not_take_waits_for_the_next_event(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "mlflow")
    spool.append({"kind": "one"})
    (tmp_path / "mlflow").rename(tmp_path / "away")
    spool.append({"kind": "two"})
    spool.append({"kind": "three"})
    assert spool.unwritten == 2
    (tmp_path / "away").rename(tmp_path / "mlflow")
    spool.append({"kind": "four"})
    assert spool.unwritten == 0
    assert [event["kind"] for event, _ in spool.pending()] == ["one", "two", "three", "four"]
    assert list(spool.events()) == [event for event, _ in spool.pending()]


def test_nothing_is_written_over_the_place_of_a_disk_that_is_not_mounted(tmp_path: Path) -> None:
    study = tmp_path / "study"
    tracker = Tracker("http://127.0.0.1:9", "tiny", study / "mlflow", None)
    study.rename(tmp_path / "away")
    tracker.redraw({}, 1, {"front.png": b"a picture"})
    with pytest.raises(OSError, match="is gone"):
        tracker.spool.advance(0)
    assert "1 events for MLflow are lost" in tracker.close(None)
    assert not study.exists()
