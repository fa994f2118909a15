"""Where the members of an uncompressed tar are; ``tarfile`` takes a damaged tar for a short one, this does not."""

import tarfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from robustcore.errors import DataError

_BLOCK = 512
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass(frozen=True)
class Member:
    """One file of a tar: WebDataset splits its name at the first dot into the sample's key and the suffix."""

    shard: Path
    name: str
    start: int  # byte in the tar
    size: int

    @property
    def key(self) -> str:
        """The name up to the first dot of its last part."""
        folder, slash, file = self.name.rpartition("/")
        return folder + slash + file.partition(".")[0]

    @property
    def suffix(self) -> str:
        """What follows, in small letters."""
        return self.name.rpartition("/")[2].partition(".")[2].lower()


def members(shard: Path) -> tuple[Member, ...]:
    """The files in the tar, in its order, hidden ones left out; raises DataError where it is compressed or damaged."""
    status = shard.stat()
    return _members(shard, (status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=4096)
def _members(shard: Path, stamp: tuple[int, int]) -> tuple[Member, ...]:  # noqa: ARG001  # a changed file is another
    _refuse_compressed(shard)
    found: list[tarfile.TarInfo] = []
    try:
        with tarfile.open(shard, "r:") as tar:
            found = list(tar)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise DataError(f"{shard} is not a whole tar file ({error})", "path") from None
    _check_end(shard, found)
    return tuple(
        Member(shard, info.name, info.offset_data, info.size)
        for info in found
        if info.isfile() and not info.name.rpartition("/")[2].startswith((".", "__"))
    )


def read(member: Member) -> bytes:
    """The bytes of one file; raises DataError where there are fewer."""
    try:
        with member.shard.open("rb") as file:
            file.seek(member.start)
            content = file.read(member.size)
    except OSError as error:
        raise DataError(f"{member.shard}, member {member.name}: {error}", "path") from None
    if len(content) < member.size:
        raise DataError(f"{member.shard}, member {member.name}: the shard ends within it", "path")
    return content


def _refuse_compressed(shard: Path) -> None:
    try:
        with shard.open("rb") as file:
            start = file.read(6)
    except OSError as error:
        raise DataError(f"cannot read {shard} ({error.strerror})", "path") from None
    for magic, name in _COMPRESSED.items():
        if start.startswith(magic):
            message = f"{shard} is compressed with {name}, expected a plain tar: images in it are read by byte offset"
            raise DataError(f"{message}; unpack it once", "path")


def _check_end(shard: Path, found: list[tarfile.TarInfo]) -> None:
    """A tar ends with a block of zeros; where it does not, it was cut off, or a header in its middle is damaged."""
    end = found[-1].offset_data + -(-found[-1].size // _BLOCK) * _BLOCK if found else 0
    with shard.open("rb") as file:
        file.seek(end)
        block = file.read(_BLOCK)
    if block != bytes(_BLOCK):
        last = f"after member {found[-1].name}" if found else "at its start"
        what = "is damaged" if len(block) == _BLOCK else "is cut off"
        raise DataError(f"{shard} {what} {last}", "path")
