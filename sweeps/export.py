"""One finished trial -> a folder that another library loads, its model card, and a logged model in MLflow.

The next hop is ``robustcore.export``.
"""

from dataclasses import dataclass
from pathlib import Path

from robustcore.export import Format, check_free, export, plain_model, usage
from robustcore.export.probe import write_probe
from robustcore.losses import Probe
from robustcore.process import Process
from robustcore.recipe import Recipe
from robustcore.storage import Folder
from robustcore.trained import Trained
from sweeps.card import card
from sweeps.finished import finished_trial, trained_model
from sweeps.results import TrialRecord
from sweeps.stored import RequestError, embeddings_cache, launched_study
from sweeps.study import Study
from sweeps.tracking import set_environment
from sweeps.tracking.place import tracker_of


@dataclass(frozen=True)
class Exported:
    """What there is to say of an export: how it is loaded, and where MLflow has it (or why it has not)."""

    usage: str
    mlflow: str
    warning: str


def export_trial(folder: Folder, trial: str, to: Format, out: Path, register: bool) -> Exported:
    """Write the trial's encoder to ``out``. Raises RequestError or InputError before anything is written."""
    study = launched_study(folder)
    check_free(out)
    record = finished_trial(folder, trial)
    recipe, trained = trained_model(folder, record, Process(cache=embeddings_cache(study.storage)))
    loaded = plain_model(recipe.model, trained.loaded)
    how = usage(loaded, to, str(out))

    def complete(place: Path) -> None:
        _write_probe(place, recipe, trained)
        (place / "README.md").write_text(card(study.name, record, recipe.as_json(), loaded, to), encoding="utf-8")

    try:
        export(loaded, to, out, complete)
    except OSError as error:
        raise RequestError(f"cannot write {out} ({error.strerror or error})") from None
    return Exported(how, *_logged(study, record, to, out, register))


def _write_probe(place: Path, recipe: Recipe, trained: Trained) -> None:
    if trained.loaded.text is None:
        images = recipe.data.train.open()
        probe = trained.classifier_of(images, ())
        assert isinstance(probe, Probe), "what has no text is classified by a probe"
        write_probe(place, probe, images.classes)


def _logged(study: Study, record: TrialRecord, to: Format, out: Path, register: bool) -> tuple[str, str]:
    """Where MLflow has it, and a warning; one of them is empty."""
    tracker = tracker_of(study)
    set_environment()
    from sweeps.tracking.models import log_model  # takes four seconds

    try:
        return log_model(tracker, record, to, out, register), ""
    except RequestError as error:
        return "", f"not in MLflow: {error}; the export in {out} stands."
    except Exception as error:  # whatever it is, the export stands
        return "", f"{tracker.problem(error)}; the export in {out} stands."
