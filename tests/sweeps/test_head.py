"""Ray's head that goes away: it is noticed, and what waits for it is left where it is."""

import socket
import threading

import pytest

from sweeps import head
from sweeps.head import Head, HeadLost


def test_work_returns_and_raises_as_if_there_were_no_head() -> None:
    done = []
    Head(lambda: "").run(lambda: done.append(threading.current_thread()))
    assert done[0] is not threading.main_thread()
    with pytest.raises(KeyError, match="a bug"):
        Head(lambda: "").run(lambda: {}["a bug"])


def test_work_that_waits_for_a_head_that_is_gone_is_left_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "_GRACE", 0.1)
    answer = threading.Event()
    with pytest.raises(HeadLost):
        Head(lambda: "it died").run(lambda: answer.wait(60) and None)
    answer.set()


def test_work_that_notices_itself_has_the_time_to_end() -> None:
    lost, ended = threading.Event(), []

    def work() -> None:
        lost.set()
        threading.Event().wait(0.3)
        ended.append("well")

    Head(lambda: "it died" if lost.is_set() else "").run(work)
    assert ended == ["well"]


def test_a_remote_head_is_gone_when_nobody_listens_for_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "_KNOCK", 0.05)
    monkeypatch.setattr(head, "_PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        remote = head._Remote(f"127.0.0.1:{port}")
        knocking = threading.Thread(target=remote.run, daemon=True)
        knocking.start()
        knocking.join(0.6)
        assert remote.lost == ""
    knocking.join(30)
    assert f"does not answer at 127.0.0.1:{port}" in remote.lost
