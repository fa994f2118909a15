"""What a study names on this machine's disks, and so must travel with it or be where the cluster sees it."""

import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sweeps.places import local_places
from sweeps.remote.shipped import MARK
from sweeps.source import Problem, Source
from sweeps.study import Study

_NO_IMAGES = {".git", ".hg", ".svn", ".cache", "__pycache__", ".ipynb_checkpoints"}
_LABELS = "classnames.txt"  # read beside shards
_RESULTS = (".parquet", ".journal", ".json")  # what advises a sampler: no pictures, no checkpoints


@dataclass(frozen=True)
class Input:
    """Files below ``root``, of which the study names ``path``; ``place`` is the first key that does."""

    place: str
    root: Path
    path: Path
    files: tuple[Path, ...]

    @property
    def digest(self) -> str:
        """Of names and contents."""
        found = hashlib.sha256()
        for file in self.files:
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            found.update(f"{file.relative_to(self.root).as_posix()}\0{content}\n".encode())
        return found.hexdigest()[:24]

    @property
    def sent(self) -> str:
        """The path as an order has it."""
        return f"{MARK}{self.digest}/{self.path.relative_to(self.root).as_posix()}"

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(file.stat().st_size for file in self.files)


def inputs_of(study: Study, source: Source, shared: Sequence[Path]) -> tuple[dict[Path, Input], list[Path]]:
    """By path, what must be sent; and what the cluster sees itself, because it is in a ``shared`` folder."""
    found: dict[Path, Input] = {}
    seen: list[Path] = []
    for keys, path in local_places(study.plain, source.folder).items():
        if is_shared(path, shared):
            seen.append(path)
        elif path not in found:
            root = path.parent
            files = tuple(sorted(_files(path, is_results=keys[:2] == ("search", "warm_start"))))
            found[path] = Input(".".join(map(str, keys)), root, path, files)
    return found, sorted(set(seen))


def input_problems(study: Study, source: Source, shared: Sequence[Path]) -> Iterator[Problem]:
    """A path that is not here, or that a .rayignore keeps here."""
    for keys, path in local_places(study.plain, source.folder).items():
        if is_shared(path, shared):
            continue
        if not any(_files(path, is_results=False)):
            yield source.problem(keys, f"{path} is not here, and in no folder that --shared names; {_OTHERWISE}")
        elif (rule := _kept_by(path, source.folder)) is not None:
            yield source.problem(keys, f"{rule} keeps {path} from being sent; {_OTHERWISE}")


_OTHERWISE = "what all machines of the cluster see under one path may stay there: --shared FOLDER"


def is_shared(path: Path, shared: Sequence[Path]) -> bool:
    """Whether it lies in one of the folders."""
    return any(path.is_relative_to(folder) for folder in shared)


def walk(folder: Path, junk: Collection[str]) -> Iterator[Path]:
    """The files below, without folders of these names."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in junk)
        yield from (Path(place, name) for name in files)


def _files(path: Path, *, is_results: bool) -> Iterator[Path]:
    """What a path of a study stands for: a file, a folder, or the numbered shards of a pattern."""
    if is_results:
        yield from (file for file in path.glob("*") if file.is_file() and file.suffix in _RESULTS)
        return
    if path.is_dir():
        yield from walk(path, _NO_IMAGES)  # nothing else: a class may have any name
    elif path.is_file():
        yield path
    elif "{" in path.name:
        before, _, rest = path.name.partition("{")
        yield from path.parent.glob(f"{before}*{rest.partition('}')[2]}")
    labels = path.parent / _LABELS
    if labels.is_file() and path != labels:
        yield labels


def _kept_by(path: Path, folder: Path) -> Path | None:
    """The .rayignore, at the study or between it and the path, that says not to send it."""
    from ray._private.runtime_env.packaging import get_excludes_from_ignore_files

    for above in (path, *path.parents):
        if above.is_relative_to(folder) and (above / ".rayignore").is_file():
            files = [file for file in _files(path, is_results=False) if file.is_relative_to(above)]
            excludes = get_excludes_from_ignore_files(above, include_gitignore=False)
            if any(excluded(file) for excluded in excludes for file in files):
                return above / ".rayignore"
    return None
