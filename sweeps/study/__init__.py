"""Study: a question as a frozen value: a recipe, the knobs that vary in it, and what is asked of it."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sweeps.constraint import Constraint
from sweeps.places import local_path, moved
from sweeps.results.records import Value
from sweeps.source import Problem, Source, StudyError, default_name, in_order, named, read_source, shipped_studies
from sweeps.source.marked import KeyPath
from sweeps.source.settings import knob_path, put, recipe_keys
from sweeps.study.keys import Budget, Direction, Resources, Search, StopEarly, StudyFile
from sweeps.study.points import point_problems, read_points
from sweeps.study.rules import rule_problems, sound_knobs
from sweeps.study.schema import STUDY_FILE, json_schema
from sweeps.study.sentences import faults
from sweeps.study.space import Knob, Space, grid_size
from sweeps.study.variants import knob_problems, recipe_faults

__all__ = [
    "Budget",
    "Constraint",
    "Direction",
    "Knob",
    "Problem",
    "Resources",
    "Search",
    "StopEarly",
    "Study",
    "StudyError",
    "json_schema",
    "load_study",
    "named",
    "shipped_studies",
    "study_from",
]


@dataclass(frozen=True)
class Study(StudyFile):
    """What the file says (see ``StudyFile``), and how it was put."""

    path: str = ""  # the file, as the user named it
    text: str = ""  # the YAML as it stands there
    pinned: tuple[str, ...] = ()  # knobs that a ``--set`` took out of the search
    plain_recipe: dict[str, Any] = field(default_factory=dict)  # as written; numbers are numbers, paths absolute

    @property
    def plain(self) -> dict[str, Any]:
        """The whole study as JSON has it, after every ``--set``."""
        plain: dict[str, Any] = STUDY_FILE.dump_python(_file_of(self), mode="json")
        return {**plain, "recipe": self.plain_recipe}

    @property
    def written(self) -> dict[str, Any]:
        """The same without what is as by default: as one would write it."""
        file = _file_of(self)
        plain: dict[str, Any] = STUDY_FILE.dump_python(file, mode="json", exclude_defaults=True)
        return {**plain, "recipe": self.plain_recipe}

    def recipe_at(self, knobs: Mapping[str, Value]) -> dict[str, Any]:
        """The plain recipe with those values put in: what a trial runs. ``recipe_from`` validates it."""
        recipe: dict[str, Any] = self.plain_recipe
        for path, value in knobs.items():
            recipe = put(recipe, recipe_keys(recipe, path), value)
        return recipe

    def feasible(self, metrics: Mapping[str, float]) -> bool:
        """Whether every constraint holds."""
        return all(constraint.holds(metrics) for constraint in self.constraints.values())

    def num_trials(self) -> int:
        """How many there will be: a grid ends where it is covered, and without knobs there is one recipe."""
        if not self.knobs:
            return 1
        size = grid_size(self.knobs) if self.search.sampler == "grid" else None
        return self.search.trials if size is None else min(self.search.trials, size)

    def as_json(self) -> dict[str, Any]:
        """What ``study_from`` reads back."""
        return {"study": self.plain, "path": self.path, "text": self.text, "pinned": list(self.pinned)}


def study_from(saved: Mapping[str, Any]) -> Study:
    """The study that ``as_json`` wrote; raises StudyError where this version reads it no more."""
    plain = saved["study"]
    try:
        file = STUDY_FILE.validate_python(plain)
    except ValidationError as error:
        place = f"{saved['path']} as it was launched"
        found = [Problem(f"{place}: {'.'.join(map(str, keys))}", message) for keys, message in faults(error, plain)]
        raise StudyError(found) from None
    return _study(file, plain["recipe"], saved["path"], saved["text"], saved["pinned"])


def load_study(study: str, settings: Sequence[str] = ()) -> Study:
    """The study at a path, or a shipped one by its bare name, with ``PATH=VALUE`` settings.

    Raises StudyError with everything that is wrong with the text itself; nothing that it names is opened.
    """
    loaded, problems, _ = draft_study(read_source(study, settings))
    if loaded is None:
        raise StudyError(problems)
    return loaded


def draft_study(source: Source) -> tuple[Study | None, list[Problem], dict[str, Space]]:
    """The study if nothing is wrong with its text, everything that is, and the sound knobs by recipe path."""
    data = _with_defaults(source)
    source.data = data
    file, found = None, recipe_faults(source, data["recipe"]) if isinstance(data.get("recipe"), dict) else []
    try:
        file = STUDY_FILE.validate_python(data, context={"base": source.folder})
    except ValidationError as error:
        found += faults(error, data)
    # What could not even be read has been reported, and so is not missed again.
    spoilt = {problem.place for problem in source.problems}
    typed = [problem for problem in (source.problem(*fault) for fault in found) if problem.place not in spoilt]
    ranged, knobs = knob_problems(source, sound_knobs(source))
    ruled = (*rule_problems(source, knobs), *point_problems(source, knobs))
    problems = [*source.problems, *typed, *ranged, *ruled]
    if file is None or problems:
        return None, list(in_order(problems)), knobs
    recipe = _as_read(data["recipe"], file.recipe.as_json())
    return _study(file, recipe, source.file, source.text, source.pinned), [], knobs


def _with_defaults(source: Source) -> dict[str, Any]:
    """A section with nothing in it is as good as none; a study without a name has its file's.

    Paths that knobs choose between lie beside the study, as those of the recipe do.
    """
    needed = ("recipe", "objectives")
    data = {key: value for key, value in source.data.items() if value is not None or key in needed}
    searched = {key: value for key, value in data.items() if key in ("knobs", "search")}
    return {"name": default_name(source.file), **data, **moved(searched, partial(_beside, source.folder))}


def _beside(folder: Path, keys: KeyPath, text: str) -> str:
    is_study = keys[:2] == ("search", "warm_start")
    path = None if is_study else local_path(text, keys, folder)
    return text if path is None else str(path)


def _as_read(written: Any, read: Any) -> Any:
    """The keys that were written, with the values they were read as: ``4/255`` a number, a path absolute."""
    if isinstance(written, dict) and isinstance(read, dict):
        return {key: _as_read(value, read[key]) for key, value in written.items()}
    return read


def _study(file: StudyFile, recipe: dict[str, Any], path: str, text: str, pinned: Sequence[str]) -> Study:
    values = {entry.name: getattr(file, entry.name) for entry in dataclasses.fields(StudyFile)}
    values["knobs"] = {knob_path(name): knob for name, knob in file.knobs.items()}
    values["search"] = replace(file.search, points=read_points(file.search.points, values["knobs"]))
    return Study(**values, path=path, text=text, pinned=tuple(pinned), plain_recipe=recipe)


def _file_of(study: Study) -> StudyFile:
    return StudyFile(**{entry.name: getattr(study, entry.name) for entry in dataclasses.fields(StudyFile)})
