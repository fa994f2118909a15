"""What goes to the cluster: this version of the code, the study's own files and the order, as one archive.

Nothing else does, whatever lies beside them: a study says what it needs. The plan is printed before anything is sent.
"""

import json
import logging
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sweeps.remote.inputs import Input, walk
from sweeps.remote.shipped import INPUTS
from sweeps.stored import RequestError

LIMIT = 100_000_000  # bytes; what a jobs server takes in one request
ORDER = "order.json"
PACKAGES = ("sweeps", "trainables", "robustcore")
_DISTRIBUTION = "robust-sweeps"
_JUNK = {".git", ".venv", "venv", "__pycache__", "node_modules", "runs", "mlruns", "build", "dist"}
_CODE = (".py", ".yaml", ".yml", ".json", ".toml", ".txt", ".md", ".html", ".css", ".js", ".parquet", ".safetensors")
_SHOWN = 8  # files of a refusal
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of every file: the same content is the same archive


@dataclass(frozen=True)
class Cargo:
    """``code`` by its name in the archive; ``inputs`` are the study's files; ``elsewhere`` the cluster reads."""

    code: dict[str, Path]
    inputs: tuple[Input, ...]
    elsewhere: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes, before they are packed."""
        return _size(self.code.values()) + sum(each.size for each in self.inputs)

    def plan(self) -> Iterator[str]:
        """A line for each part."""
        version = distribution(_DISTRIBUTION).version
        yield f"{megabytes(_size(self.code.values()))}  {_DISTRIBUTION} {version}, {len(self.code)} files"
        for each in self.inputs:
            count = f", {len(each.files)} files" if len(each.files) > 1 else ""
            yield f"{megabytes(each.size)}  {each.place}: {each.path}{count}"
        yield f"{megabytes(self.size)}  in all, of at most {LIMIT // 10**6} MB"
        if self.elsewhere:
            yield f"The cluster reads by itself: {', '.join(self.elsewhere)}"

    def check(self) -> None:
        """Raises RequestError where it is too much, with the biggest files."""
        if self.size <= LIMIT:
            return
        files = {file for each in self.inputs for file in each.files} | set(self.code.values())
        biggest = sorted(files, key=lambda file: (-file.stat().st_size, file))[:_SHOWN]
        raise RequestError(
            "\n".join(
                [
                    f"the job would have {megabytes(self.size).strip()}, expected at most {LIMIT // 10**6} MB; nothing "
                    "was sent. Put data where the cluster reads it: in object storage (s3://, gs://), or in a folder "
                    "that all its machines see under one path, named by --shared. The biggest files:",
                    *(f"{megabytes(file.stat().st_size)}  {file}" for file in biggest),
                ]
            )
        )

    def pack(self, order: dict[str, Any], archive: Path) -> None:
        """Write the archive, the same bytes for the same content."""
        metadata = distribution(_DISTRIBUTION).read_text("METADATA") or ""
        version = distribution(_DISTRIBUTION).version
        texts = {
            ORDER: json.dumps(order, sort_keys=True),
            f"{_DISTRIBUTION.replace('-', '_')}-{version}.dist-info/METADATA": metadata,
        }
        files = dict(self.code)
        for each in self.inputs:
            inside = {f"{INPUTS}/{each.digest}/{file.relative_to(each.root).as_posix()}": file for file in each.files}
            files |= inside
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for name in sorted([*texts, *files]):
                content = texts[name].encode() if name in texts else files[name].read_bytes()
                entry = zipfile.ZipInfo(name, _EPOCH)
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                packed.writestr(entry, content)


def cargo_of(inputs: Sequence[Input], elsewhere: Sequence[str]) -> Cargo:
    """With the code that runs here."""
    return Cargo(dict(_code()), tuple(inputs), tuple(elsewhere))


def megabytes(size: float) -> str:
    """``  12.3 MB``"""
    return f"{size / 1e6:7.1f} MB"


def _code() -> Iterator[tuple[str, Path]]:
    """The files of our packages; what .gitignore and .rayignore leave out of a checkout stays here."""
    for package in PACKAGES:
        spec = find_spec(package)
        assert spec is not None, "these are our own"
        folder = Path(str(spec.origin)).parent
        ignored = _ignored(folder)
        for file in walk(folder, _JUNK):
            if file.suffix in _CODE and not any(rule(file) for rule in ignored):
                yield file.relative_to(folder.parent).as_posix(), file


def _ignored(package: Path) -> list[Any]:
    from ray._private.runtime_env.packaging import get_excludes_from_ignore_files

    quiet = logging.getLogger(__name__)  # Ray would tell of each file
    rules: list[Any] = []
    for folder in (package.parent, package):
        rules += get_excludes_from_ignore_files(folder, include_gitignore=True, logger=quiet)
    return rules


def _size(files: Any) -> int:
    return sum(file.stat().st_size for file in files)
