"""A launched study as its folder has it: what `status` and `front` need, without loading what trains."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from robustcore.addresses import without_secrets
from robustcore.storage import PATIENCE, Folder
from sweeps.constraint import Constraint
from sweeps.results import Results

if TYPE_CHECKING:
    from sweeps.study import Study

RESULTS, STUDY = "results.parquet", "study.json"


class RequestError(Exception):
    """The request cannot be met, in one sentence; nothing was started and nothing is lost."""


@dataclass(frozen=True)
class Stored:
    """What was asked of the trials."""

    name: str
    objectives: dict[str, Literal["max", "min"]]
    constraints: tuple[Constraint, ...]

    def feasible(self, metrics: Mapping[str, float]) -> bool:
        """Whether every constraint holds."""
        return all(constraint.holds(metrics) for constraint in self.constraints)


def stored_study(folder: Folder) -> Stored:
    """Raises RequestError where no study was launched."""
    try:
        study = json.loads(folder.read(STUDY))["study"]
    except FileNotFoundError:
        raise nothing_in(folder) from None
    constraints = []
    for metric, text in (study.get("constraints") or {}).items():
        sign, bound = text.split()
        constraints.append(Constraint(sign, float(bound), metric))
    return Stored(study["name"], study["objectives"], tuple(constraints))


def launched_study(folder: Folder) -> "Study":
    """All of it, as it was launched; raises RequestError where none was, StudyError where it is read no more.

    Its storage is where it was found: folders move, and other machines have other paths to them.
    """
    from sweeps.source import absolute_storage
    from sweeps.study import study_from

    try:
        study = study_from(json.loads(folder.read(STUDY)))
    except FileNotFoundError:
        raise nothing_in(folder) from None
    place, question, query = folder.uri.partition("?")
    storage, _, name = place.rpartition("/")
    return replace(study, storage=absolute_storage(storage + question + query)) if name == study.name else study


def patience() -> float:
    """Seconds for which a sweep waits for its storage: ``SWEEP_PATIENCE``. Raises RequestError where that is none."""
    given = os.environ.get("SWEEP_PATIENCE", str(PATIENCE))
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise RequestError(f"SWEEP_PATIENCE: expected a number of seconds, got {given!r}")
    return seconds


def embeddings_cache(storage: str) -> Path:
    """Where original embeddings are kept: beside the studies, or in the user's cache where storage is remote.

    That is each machine's own: there ``~`` is to be expanded.
    """
    local = Folder(storage).local
    return local / "original_embeddings" if local else Path("~/.cache/robust-sweeps")


def shared_embeddings(storage: str) -> str:
    """Where machines leave them for each other; empty where they are on the same disk."""
    return "" if Folder(storage).local else Folder(storage).at("original_embeddings").uri


def stored_results(folder: Folder) -> Results:
    """Raises RequestError where there are none, or where the file is damaged."""
    try:
        return folder.patiently(lambda: Results.read(folder.at(RESULTS).uri))
    except FileNotFoundError:
        raise nothing_in(folder) from None
    except ValueError as error:
        raise RequestError(str(error)) from None


def nothing_in(folder: Folder) -> RequestError:
    """The error where a study was never launched."""
    where = without_secrets(folder.uri)
    return RequestError(f"no results in {where}; `sweep launch` starts a study, --storage says where it was started")
