"""A real S3 server on the loopback, in a process of its own, that can be stopped and started again with what it holds.

Run as a module it is that process: it serves at the port given, and obeys ``stop`` and ``start`` on its stdin.
"""

import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

BUCKET = "bucket"
SECRET = "hush-this-is-secret"  # noqa: S105  # of a server that asks nobody


class Server:
    """``url`` is the same all the time, also while nobody listens there."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.object_store", str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._expect("start")
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/{BUCKET}", method="PUT")):  # noqa: S310
            pass

    def stop(self) -> None:
        """Nobody listens any more."""
        self._tell("stop")

    def start(self) -> None:
        """Everything is there again."""
        self._tell("start")

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _tell(self, word: str) -> None:
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        self._expect(word)

    def _expect(self, word: str) -> None:
        if (answer := self.process.stdout.readline()) != f"{word}\n":
            self.end()
            raise AssertionError(f"the server answered {answer!r} to {word}")


@contextmanager
def serving() -> Iterator[Server]:
    """The server, and an environment that leads to it."""
    server = Server()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", server.url)
        environment.setenv("AWS_ACCESS_KEY_ID", "somebody")
        environment.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        try:
            yield server
        finally:
            server.end()


def main(port: int) -> None:
    from moto.server import ThreadedMotoServer

    server, word = None, "start"
    while word:
        if word == "stop" and server is not None:
            server.stop()
        elif word == "start":
            server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
            server.start()
        sys.stdout.write(f"{word}\n")
        sys.stdout.flush()
        word = sys.stdin.readline().strip()


if __name__ == "__main__":
    main(int(sys.argv[1]))
