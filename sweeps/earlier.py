"""``search.warm_start``: finished trials of other studies, as advice to the sampler; they are no trials of the sweep.

A trial of the sweep that has the recipe of one of them is not paid for again: it begins where that one ended.

What was read of another study is kept in ``warm_start.json``: it may grow meanwhile, and a resumed sweep shall ask as
an undisturbed one.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from robustcore.storage import Folder
from sweeps.results import TrialRecord, Value
from sweeps.seeds import averaged
from sweeps.source import absolute_storage
from sweeps.source.settings import child, recipe_keys
from sweeps.stored import RequestError, stored_results
from sweeps.study import Study

KEPT = "warm_start.json"


@dataclass(frozen=True)
class Advice:
    """What a finished trial of another study was, and what it reached; over several seeds, the mean."""

    trial: str
    recipe: dict[str, Any]
    metrics: dict[str, float]
    recipe_hash: str = ""
    folder: str = ""  # path or URI of the trial's


def folder_of_earlier(study: str, storage: str) -> Folder:
    """Where the results of a study are that ``warm_start`` names: its folder, or its name in the same storage."""
    return Folder(absolute_storage(study)) if "/" in study else Folder(storage).at(study)


def advice_of(study: Study) -> dict[str, list[Advice]]:
    """By study, as it was when first read, which is now where nothing is kept. Raises RequestError."""
    names = study.search.warm_start
    kept = _kept(Folder(study.storage).at(study.name)) if names else {}
    return {name: kept[name] if name in kept else read_advice(name, study.storage) for name in names}


def kept_advice(study: Study) -> list[Advice]:
    """The same of all studies together, on disk from now on for whoever goes on with the sweep."""
    folder, advice = Folder(study.storage).at(study.name), advice_of(study)
    if advice and advice != _kept(folder):
        plain = {name: [asdict(each) for each in trials] for name, trials in advice.items()}
        folder.write(KEPT, json.dumps(plain).encode())
    return [each for trials in advice.values() for each in trials]


def _kept(folder: Folder) -> dict[str, list[Advice]]:
    try:
        plain = json.loads(folder.read(KEPT))
    except FileNotFoundError:
        return {}
    return {name: [Advice(**each) for each in trials] for name, trials in plain.items()}


def read_advice(study: str, storage: str) -> list[Advice]:
    """Of every finished trial that is there now. Raises RequestError where there are no results."""
    folder = folder_of_earlier(study, storage)
    try:
        records = stored_results(folder).records.values()
    except RequestError as error:
        raise RequestError(f"search.warm_start: '{study}': {error}") from None
    finished = (each for each in averaged(records) if each.state == "finished" and not each.copy_of)
    return [
        Advice(
            trial=record.trial,
            recipe=complete(record.recipe),
            metrics=record.metrics,
            recipe_hash=record.recipe_hash,
            folder=folder.at(f"trials/{record.trial}").uri,
        )
        for record in finished
    ]


def paid_for(advice: Sequence[Advice]) -> dict[str, str]:
    """The folders of trials by the recipes that they trained, the first of each."""
    return {each.recipe_hash: each.folder for each in reversed(advice) if each.folder}


def complete(recipe: dict[str, Any]) -> dict[str, Any]:
    """A plain recipe with every default written out; as it stands where this version reads it no more."""
    from pydantic import ValidationError

    from robustcore.recipe import recipe_from

    try:
        return recipe_from(recipe).as_json()
    except ValidationError:
        return recipe


def fitting(study: Study, advice: Iterable[Advice]) -> list[tuple[dict[str, Value], Advice]]:
    """Those that say something about the study, with their values of its knobs.

    That takes every knob's value, inside its range, and every objective and constrained metric.
    """
    needed = {*study.objectives, *study.constraints}
    found = ((knob_values(study, each.recipe), each) for each in advice if needed <= each.metrics.keys())
    return [(knobs, each) for knobs, each in found if knobs is not None]


def knob_values(study: Study, recipe: Mapping[str, Any]) -> dict[str, Value] | None:
    """What a complete recipe has at the study's knobs; None where one is missing or out of its range."""
    values: dict[str, Value] = {}
    for path, knob in study.knobs.items():
        value: Any = recipe
        for key in recipe_keys(recipe, path):
            value = child(value, key)
        try:
            values[path] = knob.admit(value)
        except ValueError:
            return None
    return values


def own_knobs(study: Study, record: TrialRecord) -> dict[str, Value] | None:
    """The knobs that would make the study ask for this trial of its own; None where it never would, as it is now.

    Only a resume that changed the knobs has such trials.
    """
    if record.knobs.keys() == study.knobs.keys():
        try:
            return {path: knob.admit(record.knobs[path]) for path, knob in study.knobs.items()}
        except ValueError:
            return None
    values = knob_values(study, complete(record.recipe))
    if values is None or complete(study.recipe_at(values)) != complete(record.recipe):
        return None
    return values
