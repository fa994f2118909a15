"""``resume --set``: a launched study with other knobs, search or resources; what its results rest on stays.

The changed study is read and judged as a file would be, and becomes the ``study.json`` of the sweep.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from sweeps.earlier import own_knobs
from sweeps.results import TrialRecord
from sweeps.source import ELSEWHERE, Problem, Source, StudyError, dotted
from sweeps.source.marked import KeyPath, read_yaml
from sweeps.source.settings import apply_setting, flat, knob_path, study_keys
from sweeps.stored import RequestError
from sweeps.study import Study, draft_study
from sweeps.study.sentences import shown

_FIXED = {
    "recipe": "the trials so far ran this recipe, and those of another one could not be compared with them",
    "objectives": "the trials so far were chosen by these objectives",
    "name": "the results are kept under this name",
    "storage": "the results are kept there",
}
_FREE = "knobs, constraints, search, stop_early, resources, budget or mlflow"


def grown(study: Study, settings: Sequence[str]) -> Study:
    """The study with ``PATH=VALUE`` settings. Raises StudyError with everything that is wrong with them."""
    if not settings:
        return study
    source = as_source(study)
    for setting in settings:
        apply_setting(source, setting)
    changed, problems, _ = draft_study(source)
    if changed is None:
        raise StudyError(problems)
    refused = [problem for setting in settings if (problem := _refusal(study, setting)) is not None]
    if refused:
        raise StudyError(refused)
    return changed


def as_source(study: Study) -> Source:
    """As if it had just been read: faults name lines of the file as it was at the launch."""
    data = study.written
    lines: dict[KeyPath, int | str] = {(): 1, **read_yaml(study.text).lines}
    return Source(study.path, Path.cwd(), study.text, data, lines, pinned=list(study.pinned))


def _refusal(study: Study, setting: str) -> Problem | None:
    """Why what is set must stay. No trial ran with what the recipe says of a knob: to pin it only narrows its range."""
    path = setting.partition("=")[0].strip()
    keys = study_keys(study.written, path)
    if keys[0] not in _FIXED or (keys[0] == "recipe" and dotted(keys[1:]) in map(knob_path, study.knobs)):
        return None
    message = f"'{keys[0]}' cannot change on resume: {_FIXED[str(keys[0])]}; expected a change of {_FREE}"
    return Problem(f"--set {setting}", message, ELSEWHERE)


def total_trials(study: Study, records: Iterable[TrialRecord], wanted: int | None) -> int:
    """How many trials the sweep is to have, those of ``records`` included; ``wanted`` is what --trials says.

    Raises RequestError where that is less than there are, or more than the study can have.
    """
    asked = [record for record in records if not record.repeat_of]
    total = study.num_trials()
    if study.search.sampler == "grid" and study.knobs:  # what lies outside the grid comes on top of it
        outside = sum(own_knobs(study, record) is None for record in asked)
        total = min(study.search.trials, study.num_trials() + outside)
    if wanted is not None and total < wanted:
        raise RequestError(f"the study '{study.name}' has only {total} different trials, got --trials {wanted}")
    if total < len(asked):
        raise RequestError(f"the study '{study.name}' already has {len(asked)} trials, expected more, got {total}")
    return total


def changes(before: Study, after: Study, records: Iterable[TrialRecord]) -> list[str]:
    """What is new, a line each; and how many trials say nothing about the changed study."""
    old, new = flat(before.plain), flat(after.plain)
    lines = [
        f"{path}: {shown(old.get(path))} -> {shown(new.get(path))}"
        for path in dict.fromkeys([*old, *new])
        if old.get(path) != new.get(path)
    ]
    asked = [record for record in records if not record.repeat_of]
    outside = sum(own_knobs(after, record) is None for record in asked)
    if outside and before.knobs != after.knobs:
        lines.append(f"{outside} of {len(asked)} trials lie outside the changed knobs and guide the sampler no more")
    return lines
