"""What the sampler suggests -> a record of it -> what its trial is told."""

from functools import cache
from importlib.metadata import version
from typing import Any

from pydantic import ValidationError

from robustcore.recipe import recipe_from
from robustcore.storage import Folder
from sweeps.results import TrialRecord, Value
from sweeps.stored import embeddings_cache, shared_embeddings
from sweeps.study import Study
from trainables.worker import Assignment

_PACKAGES = ("robust-sweeps", "torch", "open_clip_torch", "ray", "optuna", "numpy")


def new_record(study: Study, number: int, knobs: dict[str, Value], sampler: dict[str, Any]) -> TrialRecord:
    """Pending, or failed where the knobs do not go together."""
    recipe = study.recipe_at(knobs)
    record = TrialRecord(
        trial=f"{number:04d}",
        knobs=knobs,
        recipe=recipe,
        recipe_hash="",
        seed=int(recipe.get("seed", 0)),
        versions=dict(_versions()),
        sampler=sampler,
    )
    try:
        record.recipe_hash = recipe_from(recipe).fingerprint()
    except ValidationError as error:
        record.state = "failed"
        record.reason = f"these knobs do not go together: {error.errors()[0]['msg']}"
    return record


def assignment_of(record: TrialRecord, study: Study, folder: Folder, earlier: str = "") -> Assignment:
    """Of a trial of the study, whose folder this is; ``earlier`` is the folder of a trial that ran the same recipe."""
    return Assignment(
        trial=record.trial,
        recipe=record.recipe,
        folder=folder.at(f"trials/{record.trial}").uri,
        cache=str(embeddings_cache(study.storage)),
        shared=shared_embeddings(study.storage),
        workers=study.resources.workers,
        cpus=study.resources.cpus,
        gpus=study.resources.gpus,
        study=folder.uri,
        patience=folder.patience,
        earlier=earlier,
    )


@cache
def _versions() -> dict[str, str]:
    return {package: version(package) for package in _PACKAGES}
