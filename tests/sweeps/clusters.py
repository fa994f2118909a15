"""A Ray cluster of this test run: a head with its dashboard on the loopback, wanting a token, and worker nodes.

Every process is ended by its id; other Rays of the machine are left alone.
"""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.sweeps.sockets import family

ROOT = Path(__file__).parents[2]
TOKEN = "0123456789abcdef0123456789abcdef"  # noqa: S105 (of a cluster that lives for a minute)
_RAY = str(Path(sys.executable).with_name("ray"))
_PATIENCE = 90.0  # seconds


@dataclass(frozen=True)
class Cluster:
    """``gcs`` is HOST:PORT for ``--address``, ``jobs`` the URL of its dashboard; ``folder`` is its own."""

    gcs: str
    jobs: str
    folder: Path
    environment: dict[str, str]

    def log(self) -> str:
        return (self.folder / "head.log").read_text()


def free_ports(count: int) -> list[int]:
    with_ports = [socket.socket() for _ in range(count)]
    for each in with_ports:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in with_ports]
    for each in with_ports:
        each.close()
    return ports


def environment_of(home: Path, **more: str) -> dict[str, str]:
    """Of the cluster's machines: another home than ours, and no secret of ours but the token."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_", "MLFLOW_"))}
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DISABLE_IMPORT_WARNING": "1",
        **more,
    }


@contextmanager
def cluster(folder: Path, cpus: int) -> Iterator[Cluster]:
    """A head with so many CPUs; its dashboard answers."""
    scratch = tempfile.mkdtemp(prefix="ray-")  # names of sockets below it may have 107 bytes in all
    port, dashboard, agent, client = free_ports(4)
    home = folder / "home"
    home.mkdir(parents=True)
    environment = environment_of(home)
    arguments = [
        *("--head", f"--port={port}", f"--num-cpus={cpus}", "--num-gpus=0", f"--ray-client-server-port={client}"),
        *("--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"),
        *(f"--dashboard-agent-listen-port={agent}", f"--temp-dir={scratch}", "--object-store-memory=100000000"),
    ]
    made = Cluster(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}", folder, environment)
    with started(arguments, environment, folder / "head.log"):
        _wait_for(made.jobs)
        yield made
    shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def started(
    arguments: Sequence[str], environment: dict[str, str], log: Path, before: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """``ray start`` until the end of the block; ``before`` is a command that runs it."""
    command = [*before, _RAY, "start", "--block", "--node-ip-address=127.0.0.1", "--disable-usage-stats", *arguments]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """It and all below it, at once."""
    members = family(process.pid)
    for member in members:
        try:
            os.kill(member, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait(timeout=30)


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    headers = {"Authorization": f"Bearer {TOKEN}"}
    while True:
        try:
            with closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=5)) as connection:
                connection.request("GET", "/api/version", headers=headers)
                if connection.getresponse().status == 200:
                    return
        except OSError:
            pass
        assert time.monotonic() < deadline, f"{url} does not answer"
        time.sleep(0.2)
