"""Events wait on disk in order, each until it was taken, whatever a kill did to the last line."""

from pathlib import Path

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
