"""What can happen to a sweep that runs: its processes are found and killed, its files damaged and moved away."""

import contextlib
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tests.sweeps.sockets import family

HEAD = ("gcs_server", "raylet")


def processes(root: int, word: str) -> list[int]:
    """Descendants of ``root`` that show ``word`` in the name of their command, such as raylet or ray::InPlaceTrial."""
    return sorted(pid for pid in family(root) if pid != root and word in command(pid))


def command(pid: int) -> str:
    """The first word of its command line, without folders; empty where it is gone."""
    try:
        first = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
    except OSError:
        return ""
    return first if first.startswith("ray::") else Path(first).name


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Nothing, where it has ended meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def alive(pids: Iterable[int]) -> set[int]:
    """Who of them still runs; one that nobody has waited for does not."""
    return {pid for pid in pids if Path(f"/proc/{pid}/stat").exists() and state(pid) != "Z"}


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


def checkpoints(study: Path) -> list[Path]:
    """The JSON of every checkpoint below a study's folder, the newest last."""
    found = []
    for path in study.glob("trials/*/checkpoints/*.json"):
        try:
            found.append((path.stat().st_mtime_ns, path))
        except FileNotFoundError:
            continue  # an older one, that was dropped just now
    return [path for _, path in sorted(found)]


@contextlib.contextmanager
def away(storage: Path) -> Iterator[None]:
    """A disk that is not mounted for a while; nobody may write to where it was."""
    elsewhere = storage.with_name("away")
    storage.rename(elsewhere)
    yield
    assert not storage.exists(), f"somebody wrote to {sorted(storage.rglob('*'))}"
    elsewhere.rename(storage)


@contextlib.contextmanager
def full(pids: Iterable[int]) -> Iterator[None]:
    """No file of these processes can grow for a while, as on a full disk."""
    before = {}
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            before[pid] = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[pid][1]))
    yield
    for pid, limits in before.items():
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: -max(1, path.stat().st_size // 3)])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def lose(path: Path) -> None:
    path.unlink()


def damage(study: Path, draw: random.Random) -> str:
    """Cut, flip or lose a file of the newest checkpoint that has one before it; what was done, or ""."""
    for newest in reversed(checkpoints(study)):
        if len(list(newest.parent.glob("*.json"))) > 1:
            how = draw.choice([cut, flip, lose])
            path = draw.choice([newest, newest.with_suffix(".safetensors")])
            how(path)
            return f"{how.__name__} {path.parent.parent.name}/{path.name}"
    return ""


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.05)
