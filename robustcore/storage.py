"""Files that must be whole or absent, on a local disk or on object storage; places are paths or URIs of pyarrow.

Whoever has work to lose asks for a ``kept`` folder, which waits for storage that fails or is away for a while.
"""

import contextlib
import logging
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import pyarrow.fs

from robustcore.addresses import KINDS, without_secrets
from robustcore.clients import resolved as resolved  # for others too: where a file is on which client

T = TypeVar("T")
PATIENCE = 120.0  # seconds for which a kept folder waits for its storage
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0  # seconds between two tries
_READINGS = 10  # of an object that others replace all the time
_UNFINISHED = ".unfinished"
_UNKNOWN = ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "INVALID_SIGNATURE")


class StorageLost(OSError):
    """Storage failed for as long as one was ready to wait; one sentence."""


@dataclass(frozen=True)
class Folder:
    """A folder in storage. ``at("a/b")`` is a place below it; nothing is created before something is written.

    With ``patience``, what fails is tried again for so many seconds. Without ``home``, nothing is created: where that
    folder is gone, a disk is not mounted, and what was written in its place would be lost.
    """

    uri: str
    patience: float = 0.0
    home: str = ""

    def at(self, name: str) -> "Folder":
        """The place ``name`` below this one."""
        place, question, query = self.uri.partition("?")  # s3://bucket/folder?endpoint_override=...
        return replace(self, uri=f"{place.rstrip('/')}/{name}{question}{query}")

    @property
    def above(self) -> "Folder":
        """The folder that this one is in."""
        place, question, query = self.uri.partition("?")
        return replace(self, uri=f"{place.rstrip('/').rpartition('/')[0]}{question}{query}")

    def kept(self, patience: float = PATIENCE) -> "Folder":
        """This folder, made now, as its own home; its methods raise StorageLost after ``patience`` seconds."""
        if self.local is not None:
            self.local.mkdir(parents=True, exist_ok=True)
        return replace(self, patience=patience, home=self.uri)

    @property
    def local(self) -> Path | None:
        """The path, where this is a local folder."""
        filesystem, path = resolved(self.uri)
        return Path(path) if isinstance(filesystem, pyarrow.fs.LocalFileSystem) else None

    def write(self, name: str, content: bytes) -> None:
        """Write one file: readers see all of it or nothing. Raises OSError."""

        def write() -> None:
            filesystem, folder = resolved(self.uri)
            write_file(filesystem, f"{folder}/{name}", content)

        self.patiently(write)

    def read(self, name: str) -> bytes:
        """The file's bytes; raises FileNotFoundError, or OSError."""

        def read() -> bytes:
            filesystem, folder = resolved(self.uri)
            return read_file(filesystem, f"{folder}/{name}")

        return self.patiently(read)

    def names(self) -> list[str]:
        """The files directly in the folder, sorted; none where it does not exist. Raises OSError."""

        def names() -> list[str]:
            filesystem, folder = resolved(self.uri)
            selector = pyarrow.fs.FileSelector(folder, allow_not_found=True)
            files = (info for info in filesystem.get_file_info(selector) if info.type == pyarrow.fs.FileType.File)
            return sorted(info.base_name for info in files if not info.base_name.endswith(_UNFINISHED))

        return self.patiently(names)

    def remove(self, name: str) -> None:
        """Delete one file, if it is there. Raises OSError."""

        def remove() -> None:
            filesystem, folder = resolved(self.uri)
            with contextlib.suppress(FileNotFoundError):
                filesystem.delete_file(f"{folder}/{name}")

        self.patiently(remove)

    def tidy(self) -> None:
        """Delete what processes that were killed within ``write`` left behind. Raises OSError."""
        if self.local is not None:
            for unfinished in self.local.glob(f".*{_UNFINISHED}"):
                unfinished.unlink(missing_ok=True)

    def patiently(self, action: Callable[[], T]) -> T:
        """What ``action`` returns, tried again and again where storage fails; that a file is absent is an answer."""
        deadline, pause = time.monotonic() + self.patience, _FIRST_PAUSE
        while True:
            try:
                self._check_home()
                return action()
            except OSError as error:
                is_answer = isinstance(error, FileNotFoundError) and not self._is_away()
                if is_answer or (not self.patience and self.local is not None):
                    raise
                trouble = f"{without_secrets(self.uri)} cannot be used: {without_secrets(reason(error))}"
            left = deadline - time.monotonic()
            if left <= 0:
                raise StorageLost(trouble + (f"; tried for {self.patience:g} s" if self.patience else ""))
            if pause == _FIRST_PAUSE:
                logging.getLogger(__name__).warning("warning: %s; trying for %g s", trouble, self.patience)
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _check_home(self) -> None:
        if self._is_away():
            raise NotADirectoryError(f"the folder {self.home} is gone")

    def _is_away(self) -> bool:
        home = Folder(self.home).local if self.home else None
        return home is not None and not home.is_dir()


def read_file(filesystem: pyarrow.fs.FileSystem, place: str) -> bytes:
    """What is at ``place``, whole. Raises FileNotFoundError, or OSError.

    Object storage is asked for the size first, and then for so many bytes: of what was put in its place meanwhile.
    """
    for _ in range(_READINGS):
        with filesystem.open_input_file(place) as stream:
            content: bytes = stream.read()
        if isinstance(filesystem, pyarrow.fs.LocalFileSystem) or filesystem.get_file_info(place).size == len(content):
            return content
    raise OSError("it is replaced faster than it can be read")


def write_file(filesystem: pyarrow.fs.FileSystem, place: str, content: bytes) -> None:
    """Write ``place``, a path on ``filesystem``: readers see all of it or what was there before. Raises OSError."""
    if isinstance(filesystem, pyarrow.fs.LocalFileSystem):
        replace_file(Path(place), content)
    else:
        _put(filesystem, place, content)


def _put(filesystem: pyarrow.fs.FileSystem, place: str, content: bytes) -> None:
    """Write an object, which appears when it is whole.

    Ctrl-C interrupts the main thread alone: between opening and writing it would leave an empty object.
    """

    def put() -> None:
        try:
            stream = filesystem.open_output_stream(place)
        except FileNotFoundError:  # object storage has no folders, some others have
            filesystem.create_dir(place.rpartition("/")[0], recursive=True)
            stream = filesystem.open_output_stream(place)
        stream.write(content)
        stream.close()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(put).result()


def replace_file(path: Path, content: bytes) -> None:
    """Write ``content`` beside ``path``, then rename it into place; folders are made, power cuts survived."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}{_UNFINISHED}")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)  # the new name itself must survive too
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def reason(error: OSError) -> str:
    """The operating system's words, or the client's, on one line."""
    if error.strerror and error.errno:
        return error.strerror
    words = " ".join(str(error).split())
    said = re.search(r"AWS Error (\w+) during \w+ operation: (.*?)(; Details:| \(Request ID:|$)", words)
    if said and said[1] in _UNKNOWN:
        return f"access is denied ({said[1]}); {KINDS['s3']} say who asks"
    return f"{said[2]} ({said[1]})" if said else words[:300]
