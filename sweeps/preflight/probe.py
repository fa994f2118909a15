"""What one machine of a cluster sees; runs there, as a Ray actor, with the modules that a trial would have there."""

import hashlib
import platform
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import pyarrow.fs

from robustcore.addresses import without_secrets
from robustcore.clients import resolved
from robustcore.errors import InputError
from robustcore.storage import Folder, reason

_OURS = ("sweeps", "trainables", "robustcore")


@dataclass(frozen=True)
class Look:
    """``storage`` says what is wrong with it, ``missing`` which data cannot be read and why; versions by package."""

    host: str
    versions: dict[str, str]
    storage: str = ""
    missing: dict[str, str] = field(default_factory=dict)


class Probe:
    """An actor of a machine."""

    def look(self, folder: str, question: str, answer: str, places: Sequence[str]) -> Look:
        """Read the file ``question`` in the study's folder, write ``answer`` beside it, open ``places``."""
        missing = {place: why for place in places if (why := _why_not_readable(place))}
        return Look(socket.gethostname(), versions(), _storage(Folder(folder), question, answer), missing)

    def clock(self) -> float:
        """Unix seconds."""
        return time.time()


def versions() -> dict[str, str]:
    """Of what must be the same everywhere; our own is a digest of the code, whose number may stay while it changes."""
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "ray": _version("ray"),
        "torch": _version("torch"),
        "robust-sweeps": f"{_version('robust-sweeps')} ({_code()})",
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _code() -> str:
    digest = hashlib.sha256()
    for package in _OURS:
        spec = find_spec(package)
        folders = list(spec.submodule_search_locations or []) if spec is not None else []
        for folder in map(Path, folders):
            for file in sorted(folder.rglob("*.py")):
                digest.update(f"{package}/{file.relative_to(folder).as_posix()}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:8]


def _storage(folder: Folder, question: str, answer: str) -> str:
    try:
        expected = question.encode()
        if folder.read(question) != expected:
            return "it reads something else than the head wrote"
        folder.write(answer, expected)
    except FileNotFoundError:
        return "it does not see what the head wrote"
    except (OSError, ValueError, InputError) as error:
        return f"it cannot use it: {reason(error) if isinstance(error, OSError) else error}"
    return ""


def _why_not_readable(place: str) -> str:
    try:
        filesystem, path = resolved(place)
        if filesystem.get_file_info(path).type == pyarrow.fs.FileType.NotFound:
            return "no such file or folder"
        if "://" not in place and Path(path).is_file():
            Path(path).open("rb").close()
    except (OSError, ValueError, InputError) as error:
        return f"{without_secrets(place)}: {reason(error) if isinstance(error, OSError) else error}"
    return ""
