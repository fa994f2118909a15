"""Where a head is looked for."""

import socket
import sys

import pytest

from sweeps.session import _is_on_loopback, ray_session
from sweeps.stored import RequestError


def test_a_head_that_listens_on_the_loopback_alone_is_looked_for_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as head:
        port = head.getsockname()[1]
        assert _is_on_loopback(f"127.0.0.1:{port}")
        assert _is_on_loopback(f"localhost:{port}")


@pytest.mark.parametrize("address", ["auto", "10.0.0.1:6379", "head.internal:6379", "http://127.0.0.1:8265"])
def test_a_head_elsewhere_is_looked_for_elsewhere(address: str) -> None:
    assert not _is_on_loopback(address)


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "10.0.0.1:0"])
def test_a_port_that_cannot_be_is_a_sentence_and_nothing_is_started(address: str) -> None:
    with (
        pytest.raises(RequestError, match=f"port of '{address}': expected 1 to 65535, got"),
        ray_session(address),
    ):
        pass
    assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()


def test_where_nobody_listens_nobody_is_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(RequestError, match=f"nobody listens at '{address}'"), ray_session(address):
        pass
