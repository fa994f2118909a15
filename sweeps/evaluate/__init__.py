"""Any encoder measured as a trial is, without a sweep: published ones beside one's own, in one table.

The next hop is ``trainables.measure``.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from robustcore.data import Data, Digits
from robustcore.errors import InputError
from robustcore.evaluation import Outcome
from robustcore.evaluation.tables import together
from robustcore.models import SimClr
from robustcore.models.named import model_named
from robustcore.process import Process
from robustcore.recipe import recipe_from
from robustcore.suites.stored import stored_at
from robustcore.trained import Trained, load_untrained
from sweeps.evaluate.request import Request, evaluations, missing
from sweeps.finished import finished_trial, trained_model
from sweeps.options import folder_of
from sweeps.results import TrialRecord
from sweeps.stored import RequestError
from trainables.measure import anchors, measured, process_on

_TRIAL = re.compile(r"(?P<study>.+):(?P<trial>\d+(\.\d+)?)")


def evaluate_models(
    models: Sequence[str],
    request: Request,
    *,
    device: str = "cpu",
    storage: str | None = None,
    drift_from: str | None = None,
    probe: str | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> dict[str, Outcome]:
    """Each model's outcome by what it was called, on the same seeded images; ``say`` is told what is done.

    Raises RequestError or InputError, as far as can be before anything is attacked.
    """
    if lacking := missing(request):
        raise RequestError("\n".join(lacking))
    parts = list(evaluations(request if request.names_sets else _on_own_sets(request, models, storage)))
    process = process_on(device, Path.home() / ".cache" / "robust-sweeps")
    original = anchors(model_named(drift_from), process) if drift_from is not None else None
    found: dict[str, Outcome] = {}
    for model in dict.fromkeys(models):
        trained = _trained(model, storage, probe, process)
        if trained.loaded.text is None and request.retrieval:
            raise RequestError(f"{model}: retrieval compares images with texts, which it has none of")
        outcomes: dict[str, Outcome] = {}
        try:
            for name, outcome in measured(trained, original, parts, process):
                outcomes[name] = outcome
                say(f"{model}: {name} done, {len(outcomes)} of {len(parts)}")
        except InputError as error:
            raise RequestError(f"{model}: {error}") from None
        found[model] = together(outcomes)
    return found


def _on_own_sets(request: Request, models: Sequence[str], storage: str | None) -> Request:
    """On what the study of the first trial among the models measures."""
    for model in models:
        trial = _TRIAL.fullmatch(model)
        if trial is not None:
            return replace(request, own=recipe_from(_finished(trial, storage).recipe).evaluation)
    return request


def _finished(trial: re.Match[str], storage: str | None) -> TrialRecord:
    try:
        return finished_trial(folder_of(trial["study"], storage), trial["trial"])
    except RequestError as error:
        raise RequestError(f"{trial[0]}: {error}") from None


def _trained(text: str, storage: str | None, probe: str | None, process: Process) -> Trained:
    trial = _TRIAL.fullmatch(text)
    record = _finished(trial, storage) if trial is not None else None
    try:
        if trial is not None and record is not None:
            return trained_model(folder_of(trial["study"], storage), record, process)[1]
        model = model_named(text)
        return load_untrained(model, process, _probed_on(model, probe))
    except RequestError as error:
        raise RequestError(f"{text}: {error}") from None
    except InputError as error:
        hint = "; --probe says which" if error.key == "probe" else ""
        raise RequestError(f"{text}: {error}{hint}") from None


def _probed_on(model: object, probe: str | None) -> Data | None:
    if probe is not None:
        return stored_at(probe)
    # The shipped one was trained on the digits, whose classes are the ones it is asked for.
    return Digits("train") if model == SimClr(weights="digits-simclr") else None
