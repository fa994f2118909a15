"""One finished trial -> a folder that another library loads, its model card, and a logged model in MLflow.

The next hop is ``robustcore.export``.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from robustcore.export import Format, check_free, export, plain_model, usage
from robustcore.export.probe import write_probe
from robustcore.losses import Probe
from robustcore.process import Process
from robustcore.recipe import Recipe, recipe_from
from robustcore.storage import Folder
from robustcore.trained import Trained, load_trained
from sweeps.card import card
from sweeps.results import TrialRecord
from sweeps.stored import RequestError, embeddings_cache, launched_study, stored_results
from sweeps.study import Study
from sweeps.tracking import set_environment
from sweeps.tracking.place import tracker_of
from trainables.checkpoints import load_checkpoint


@dataclass(frozen=True)
class Exported:
    """What there is to say of an export: how it is loaded, and where MLflow has it (or why it has not)."""

    usage: str
    mlflow: str
    warning: str


def export_trial(folder: Folder, trial: str, to: Format, out: Path, register: bool) -> Exported:
    """Write the trial's encoder to ``out``. Raises RequestError or InputError before anything is written."""
    study, records = launched_study(folder), stored_results(folder).records
    check_free(out)
    record = _finished(records, trial)
    recipe = recipe_from(record.recipe)
    trained = _trained(folder, study, record, recipe)
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


def _finished(records: dict[str, TrialRecord], trial: str) -> TrialRecord:
    name = f"{int(trial):04d}" if trial.isdecimal() else trial
    if name not in records:
        close = get_close_matches(name, records, 1, 0.5)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        there = f"{min(records)} to {max(records)}" if records else "none"
        raise RequestError(f"no trial '{trial}' in the study, expected one of its trials: {there}{hint}")
    record = records[name]
    if record.state != "finished":
        why = f" ({record.reason})" if record.reason else ""
        raise RequestError(f"trial {name} is {record.state}{why}, expected a finished one")
    return record


def _trained(folder: Folder, study: Study, record: TrialRecord, recipe: Recipe) -> Trained:
    checkpoints = folder.at(f"trials/{record.copy_of or record.trial}/checkpoints")
    saved = load_checkpoint(checkpoints, recipe.fingerprint())
    if saved is None or not saved.reports[-1].final:
        what = "no checkpoint" if saved is None else f"no checkpoint after step {saved.state.step}"
        raise RequestError(f"{what} of trial {record.trial} is whole in {checkpoints.uri}, expected its last one")
    return load_trained(recipe, saved.state.weights, Process(cache=embeddings_cache(study.storage)))


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
