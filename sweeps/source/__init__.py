"""Where a study's text comes from, and on which line each key stands; light enough for shell completion."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustcore import errors
from robustcore.addresses import without_secrets

if TYPE_CHECKING:
    from sweeps.source.marked import KeyPath

NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"  # it becomes that of a folder
STORAGE = "runs"
MAX_BYTES = 2**20
ELSEWHERE = 10**9  # the line of what is not in the file: a ``--set``, the machine


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a study."""

    place: str  # "alpha_study.yaml:14: recipe.attack.stepz", or "--set attack.stepz=3"
    message: str
    line: int = field(default=0, repr=False, compare=False)  # in the file; what comes from elsewhere is past the end

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class StudyError(Exception):
    """Everything that is wrong with a study, one line each."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = in_order(problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass
class Source:
    """A study as plain values after every ``--set``, and where each value came from."""

    file: str  # as the user named it
    folder: Path  # relative paths of the file are relative to this
    text: str
    data: dict[str, Any]
    origins: "dict[KeyPath, int | str]"  # the line of a key, or the ``--set`` that gave it
    problems: list[Problem] = field(default_factory=list)  # mistakes that left the rest readable
    pinned: list[str] = field(default_factory=list)  # knobs that a ``--set`` took out of the search

    def problem(self, keys: "KeyPath", message: str) -> Problem:
        """``message`` with the place of ``keys``, or of the nearest key above that is written down."""
        known = next(keys[:end] for end in range(len(keys), -1, -1) if keys[:end] in self.origins)
        origin, name = self.origins[known], dotted(keys)
        if isinstance(origin, str):
            return Problem(
                f"--set {without_secrets(origin)}" + (f": {name}" if known != keys else ""), message, ELSEWHERE
            )
        return Problem(f"{self.file}:{origin}" + (f": {name}" if name else ""), message, origin)

    def report(self, keys: "KeyPath", message: str) -> None:
        """Keep a problem for whoever lists them all."""
        self.problems.append(self.problem(keys, message))

    def at(self, *keys: str | int) -> Any:
        """The value at ``keys``; None where there is none."""
        value: Any = self.data
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Each problem once, by line."""
    return tuple(sorted(dict.fromkeys(problems), key=lambda problem: problem.line))


def dotted(keys: "KeyPath") -> str:
    """``recipe.attack.steps``"""
    return ".".join(map(str, keys))


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """As ``errors.did_you_mean``, which guesses more freely: a study's keys are short and many."""
    return errors.did_you_mean(name, known, 0.6)


def shipped_studies() -> list[str]:
    """The bare names of the studies that come with the package."""
    names = (entry.name for entry in files("sweeps").joinpath("studies").iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def read_source(study: str, settings: Sequence[str] = ()) -> Source:
    """The study at a path, or a shipped one by its bare name, with ``PATH=VALUE`` settings applied in order.

    Raises StudyError where there is nothing to go on with; smaller mistakes are in ``Source.problems``.
    """
    from sweeps.source.marked import UnreadableError, read_yaml
    from sweeps.source.settings import apply_setting

    path = _find(study)
    text = _text(path, study)
    try:
        marked = read_yaml(text)
    except UnreadableError as error:
        raise _broken(study, error.line, str(error)) from None
    if not isinstance(marked.value, dict):
        given = "nothing" if marked.value is None else f"a {'list' if isinstance(marked.value, list) else 'value'}"
        raise _broken(study, 1, f"expected a mapping with the keys of a study, got {given}")
    source = Source(study, path.parent.absolute(), text, marked.value, {(): 1, **marked.lines})
    for keys, line, message in marked.faults:
        place = f"{study}:{line}" + (f": {dotted(keys)}" if keys else "")
        source.problems.append(Problem(place, message, line))
    for setting in settings:
        apply_setting(source, setting)
    return source


def named(study: str) -> tuple[str, str]:
    """The name and the storage of a study, with no look at the rest: enough to find its results.

    A name that no file has is taken for that of a study launched elsewhere, in the default storage. Raises StudyError
    where there is a file and it cannot be read.
    """
    try:
        data = read_source(study).data
    except StudyError:
        if Path(study).exists() or not re.fullmatch(NAME, study):
            raise
        return default_name(study), absolute_storage(STORAGE)
    name, storage = data.get("name"), data.get("storage")
    return (
        name if isinstance(name, str) and re.fullmatch(NAME, name) else default_name(study),
        absolute_storage(storage if isinstance(storage, str) else STORAGE),
    )


def default_name(file: str) -> str:
    """A study that does not name itself has the name of its file."""
    stem = Path(file).name.removesuffix(".yaml").removesuffix(".yml")
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).lstrip(".-") or "study"


def absolute_storage(storage: str) -> str:
    """Results belong to where one works, not to where the study file lies. URIs stay as they are."""
    return storage if "://" in storage else os.path.abspath(Path(storage).expanduser())


def _broken(study: str, line: int, message: str) -> StudyError:
    return StudyError([Problem(f"{study}:{line}", message, line)])


def _find(study: str) -> Path:
    path = Path(study)
    shipped = {f"{name}{suffix}": name for name in shipped_studies() for suffix in ("", ".yaml")}
    try:
        # A folder of results may well carry the name of its study.
        if study in shipped and not path.is_file():
            return Path(str(files("sweeps").joinpath("studies", f"{shipped[study]}.yaml")))
        if path.is_dir():
            raise StudyError([Problem(study, "expected a study file, got a folder")])
        if path.exists():
            return path
    except (OSError, ValueError) as error:  # too long a name, a NUL in it, a folder that may not be entered
        raise StudyError(
            [Problem(repr(study)[:100], f"expected a study file ({getattr(error, 'strerror', error)})")]
        ) from None
    near = did_you_mean(study, [*shipped, *_neighbours(path)])
    known = f"a path or one of the shipped studies: {', '.join(shipped_studies())}"
    raise StudyError([Problem(study, f"no such file; expected {known}{near}")])


def _neighbours(path: Path) -> list[str]:
    try:
        return [str(path.parent / entry.name) for entry in path.parent.glob("*.y*ml")]
    except OSError:
        return []


def _text(path: Path, study: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise StudyError([Problem(study, f"cannot be read ({error.strerror})")]) from None
    if b"\0" in content:
        raise StudyError([Problem(study, "expected a study in YAML, got a binary file")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _broken(study, line, "expected text in UTF-8, got a binary file or another encoding") from None
    if len(content) > MAX_BYTES:
        raise StudyError([Problem(study, f"expected a study, got a file of more than {MAX_BYTES >> 20} MiB")])
    return text
