"""Where a head is looked for."""

import socket

import pytest

from sweeps.session import _is_on_loopback


def test_a_head_that_listens_on_the_loopback_alone_is_looked_for_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as head:
        port = head.getsockname()[1]
        assert _is_on_loopback(f"127.0.0.1:{port}")
        assert _is_on_loopback(f"localhost:{port}")


@pytest.mark.parametrize("address", ["auto", "10.0.0.1:6379", "head.internal:6379", "http://127.0.0.1:8265"])
def test_a_head_elsewhere_is_looked_for_elsewhere(address: str) -> None:
    assert not _is_on_loopback(address)
