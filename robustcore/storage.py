"""Files that must be whole or absent, on a local disk or on object storage; places are paths or URIs of pyarrow."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow.fs


@dataclass(frozen=True)
class Folder:
    """A folder in storage. ``at("a/b")`` is a place below it; nothing is created before something is written."""

    uri: str

    def at(self, name: str) -> "Folder":
        """The place ``name`` below this one."""
        place, question, query = self.uri.partition("?")  # s3://bucket/folder?endpoint_override=...
        return Folder(f"{place.rstrip('/')}/{name}{question}{query}")

    @property
    def local(self) -> Path | None:
        """The path, where this is a local folder."""
        filesystem, path = self._resolved()
        return Path(path) if isinstance(filesystem, pyarrow.fs.LocalFileSystem) else None

    def write(self, name: str, content: bytes) -> None:
        """Write one file: readers see all of it or nothing. Raises OSError."""
        filesystem, folder = self._resolved()
        filesystem.create_dir(folder, recursive=True)
        if not isinstance(filesystem, pyarrow.fs.LocalFileSystem):
            with filesystem.open_output_stream(f"{folder}/{name}") as stream:  # an object appears when it is whole
                stream.write(content)
            return
        unfinished = Path(folder) / f".{name}.{os.getpid()}.unfinished"
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, Path(folder) / name)

    def read(self, name: str) -> bytes:
        """The file's bytes; raises FileNotFoundError."""
        filesystem, folder = self._resolved()
        with filesystem.open_input_file(f"{folder}/{name}") as stream:
            content: bytes = stream.read()
        return content

    def names(self) -> list[str]:
        """The files directly in the folder, sorted; none where it does not exist."""
        filesystem, folder = self._resolved()
        selector = pyarrow.fs.FileSelector(folder, allow_not_found=True)
        return sorted(
            info.base_name
            for info in filesystem.get_file_info(selector)
            if info.type == pyarrow.fs.FileType.File and not info.base_name.endswith(".unfinished")
        )

    def remove(self, name: str) -> None:
        """Delete one file, if it is there."""
        filesystem, folder = self._resolved()
        with contextlib.suppress(FileNotFoundError):
            filesystem.delete_file(f"{folder}/{name}")

    def _resolved(self) -> tuple[pyarrow.fs.FileSystem, str]:
        if "://" in self.uri:
            filesystem, path = pyarrow.fs.FileSystem.from_uri(self.uri)
            return filesystem, path
        return pyarrow.fs.LocalFileSystem(), os.path.abspath(self.uri)
