"""A cluster of Ray on this machine whose nodes come and go as those of a cloud do; it ends only its own processes.

Ray's provider of fake nodes starts each as a few processes here, told apart by ids that count up from the head's. The
head listens on a free port, so that several clusters may run beside each other; a node that is killed is replaced.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.sweeps import faults
from tests.sweeps.sockets import family

HEAD = "f" * 51 + "00000"  # the fake provider's own id of it
IDLE = 4.0  # seconds after which a node that does nothing goes
_SPEED = {
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_health_check_initial_delay_ms": "1000",  # a killed node is missed after two seconds, not after twenty
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "3",
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",
}
# Also of drivers: Ray listens on the loopback alone, and asks for no token.
ENVIRONMENT = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
_FAKE = {"RAY_FAKE_CLUSTER": "1", "RAY_USAGE_STATS_ENABLED": "0"}
_V2 = {
    "RAY_enable_autoscaler_v2": "1",
    "RAY_CLOUD_INSTANCE_ID": HEAD,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD,
}


@dataclass
class Machines:
    """A head that runs, and what it may start."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def nodes(self) -> list[str]:
        """Ids of the nodes beside the head that are alive, as the head knows them: the oldest first."""
        found = _client(self.address).get_all_node_info()
        return sorted(each.hex() for each, info in found.items() if info.state == 0 and not info.is_head_node)

    def kill(self, node: str) -> None:
        """As a cloud does that gives no notice."""
        for raylet in self._raylets(node):
            faults.kill(raylet)

    def node_of(self, pid: int) -> str:
        """The node whose process this is; "" where it has ended."""
        return next((node for node in self.nodes() for raylet in self._raylets(node) if pid in family(raylet)), "")

    def _raylets(self, node: str) -> list[int]:
        return [
            pid
            for pid in family(self.process.pid)
            if faults.command(pid) == "raylet" and f"={node}\0" in _environment(pid)
        ]

    def drain(self, node: str, seconds: float) -> None:
        """As a cloud does that gives notice: the node is to be left, and is killed after so many seconds."""
        from ray.core.generated.autoscaler_pb2 import DRAIN_NODE_REASON_PREEMPTION

        deadline = int((time.time() + seconds) * 1000)
        taken, why = _client(self.address).drain_node(node, DRAIN_NODE_REASON_PREEMPTION, "spot", deadline)
        assert taken, why
        threading.Timer(seconds, self.kill, (node,)).start()

    def end(self) -> None:
        """Its processes, whatever they are at."""
        while others := faults.alive(family(self.process.pid) - {self.process.pid}):
            for pid in others:
                faults.kill(pid)
        self.process.kill()
        self.process.wait()


@dataclass
class Watch(threading.Thread):
    """Looks all the time at how many nodes there are beside the head."""

    machines: Machines
    seen: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self._over = threading.Event()

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        while not self._over.wait(0.1):
            with suppress(Exception):  # a head that is busy is asked again
                self.seen.append((time.time(), len(self.machines.nodes())))

    def __enter__(self) -> "Watch":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self.join()

    @property
    def most(self) -> int:
        return max((count for _, count in self.seen), default=0)

    @property
    def now(self) -> int:
        return self.seen[-1][1] if self.seen else -1

    def first(self, count: int, after: float = 0.0) -> float:
        """The moment at which there were first so many; infinite if there never were."""
        return next((moment for moment, seen in self.seen if seen == count and moment >= after), float("inf"))


@contextmanager
def machines(
    kinds: Mapping[str, tuple[Mapping[str, float], int]],
    head: Mapping[str, float] | None = None,
    at_most: int = 8,
    idle: float = IDLE,
    v2: bool = True,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Machines]:
    """A head that starts nodes of these ``kinds``, each with its resources and how many there may be."""
    # Ray's sockets lie below it, and a socket's path may have no more than 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="pool-", dir="/tmp"))
    port = free_port()
    config = folder / "autoscaler.json"
    head = {"CPU": 0, **(head or {})}
    config.write_text(json.dumps(_config(kinds, head, at_most, idle, f"127.0.0.1:{port}")))
    log = folder / "head.log"
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--include-dashboard=false"]
    command += [f"--port={port}", f"--autoscaling-config={config}", f"--temp-dir={folder}", "--disable-usage-stats"]
    command += ["--node-ip-address=127.0.0.1", f"--num-cpus={head['CPU']:g}", "--num-gpus=0"]
    command += [f"--object-store-memory={100 << 20}"]
    known = {**os.environ, **ENVIRONMENT, **_FAKE, **_SPEED, **(_V2 if v2 else {}), **(environment or {})}
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env=known, stdout=stream, stderr=stream, start_new_session=True)
    started = Machines(f"127.0.0.1:{port}", process, log)
    try:
        faults.wait_until(lambda: process.poll() is not None or _answers(started), 60, "the head's start")
        assert process.poll() is None, log.read_text()
        yield started
    finally:
        started.end()
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port: int = place.getsockname()[1]
        return port


def _config(
    kinds: Mapping[str, tuple[Mapping[str, float], int]],
    head: Mapping[str, float],
    at_most: int,
    idle: float,
    address: str,
) -> dict[str, Any]:
    commands = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    provider = {
        "type": "external",  # the wheel lacks the file of defaults that the type of this provider needs
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "gcs_address": address,
        "head_node_id": HEAD,
        "launch_multiple": True,
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    }
    types = {
        name: {"resources": dict(resources), "node_config": {}, "min_workers": 0, "max_workers": count}
        for name, (resources, count) in kinds.items()
    }
    types["ray.head.default"] = {"resources": dict(head), "node_config": {}, "max_workers": 0}
    return {
        "cluster_name": "pool",
        "max_workers": at_most,
        "provider": provider,
        "available_node_types": types,
        "head_node_type": "ray.head.default",
        "upscaling_speed": 100.0,
        "idle_timeout_minutes": idle / 60,
        **{f"{name}_commands": [] for name in commands},
        **{name: {} for name in ("auth", "docker", "file_mounts")},
        **{name: [] for name in ("cluster_synced_files", "rsync_exclude", "rsync_filter")},
        "file_mounts_sync_continuously": False,
    }


def _client(address: str) -> Any:
    from ray._raylet import GcsClient

    return GcsClient(address=address)


def _answers(started: Machines) -> bool:
    """Whether the head itself is there; Ray's client would wait for its server for long."""
    host, port = started.address.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return any(faults.command(pid) == "raylet" for pid in family(started.process.pid)) and b"Ray runtime started" in (
        started.log.read_bytes()
    )


def _environment(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return ""
