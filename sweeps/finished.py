"""A finished trial and the model it ended with, for whoever does something more with it."""

from robustcore.errors import did_you_mean
from robustcore.process import Process
from robustcore.recipe import Recipe, recipe_from
from robustcore.storage import Folder
from robustcore.trained import Trained, load_trained
from sweeps.results import TrialRecord
from sweeps.stored import RequestError, stored_results
from trainables.checkpoints import load_checkpoint


def known_trial(folder: Folder, trial: str) -> TrialRecord:
    """The study's trial, named ``0007`` or ``7``. Raises RequestError where it is unknown."""
    records = stored_results(folder).records
    name = f"{int(trial):04d}" if trial.isdecimal() else trial
    if name not in records:
        hint = did_you_mean(name, records)
        there = f"{min(records)} to {max(records)}" if records else "none"
        raise RequestError(f"no trial '{trial}' in the study, expected one of its trials: {there}{hint}")
    return records[name]


def finished_trial(folder: Folder, trial: str) -> TrialRecord:
    """The same, where it is finished; else RequestError."""
    record = known_trial(folder, trial)
    if record.state != "finished":
        why = f" ({record.reason})" if record.reason else ""
        raise RequestError(f"trial {record.trial} is {record.state}{why}, expected a finished one")
    return record


def trained_model(folder: Folder, record: TrialRecord, process: Process) -> tuple[Recipe, Trained]:
    """Its recipe, and the model of its last checkpoint. Raises RequestError where that is not whole."""
    recipe = recipe_from(record.recipe)
    checkpoints = folder.at(f"trials/{record.copy_of or record.trial}/checkpoints")
    saved = load_checkpoint(checkpoints, recipe.fingerprint())
    if saved is None or not saved.is_final:
        what = "no checkpoint" if saved is None else f"no checkpoint after step {saved.state.step}"
        raise RequestError(f"{what} of trial {record.trial} is whole in {checkpoints.uri}, expected its last one")
    return recipe, load_trained(recipe, saved.state.weights, process)
