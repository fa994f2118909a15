"""How much each knob matters for each objective, by PED-ANOVA (Watanabe et al. 2023): no model of the trials is fitted.

It compares where the best trials lie with where all of them do: a knob matters whose value tells them apart.
"""

import math
import warnings
from collections.abc import Iterable
from typing import Any

import optuna
from rich.table import Table

from sweeps.earlier import own_knobs
from sweeps.results import TrialRecord, Value
from sweeps.seeds import averaged
from sweeps.stored import RequestError
from sweeps.study import Study

FEWEST = 10  # finished trials
_BEST, _BEST_SHARE = 5, 0.1  # the best tenth, and no fewer than make a density

Importances = dict[str, dict[str, float]]


def importances(study: Study, records: Iterable[TrialRecord]) -> tuple[Importances, int]:
    """Shares of 1 by objective and knob, and the number of finished trials that they come from.

    Copies and repeats count once, trials outside the knobs as they are now not at all. Raises RequestError.
    """
    if not study.knobs:
        raise RequestError(f"the study '{study.name}' has no knobs, so there is nothing to weigh")
    finished = [record for record in averaged(records) if record.state == "finished" and not record.copy_of]
    found = [(own_knobs(study, record), record) for record in finished]
    known = [(knobs, record) for knobs, record in found if knobs is not None]
    if len(known) < FEWEST:
        raise RequestError(
            f"the study '{study.name}' has {len(known)} different finished trials, expected at least {FEWEST}: "
            "what fewer say of the knobs is chance"
        )
    return {name: _importance(study, name, known) for name in study.objectives}, len(known)


def _importance(study: Study, objective: str, known: list[tuple[dict[str, Value], TrialRecord]]) -> dict[str, float]:
    distributions = {path: knob.distribution() for path, knob in study.knobs.items()}
    told = optuna.create_study(direction="maximize" if study.objectives[objective] == "max" else "minimize")
    for knobs, record in known:
        value = record.metrics.get(objective, math.nan)
        if math.isfinite(value):
            told.add_trial(optuna.create_trial(value=value, params=knobs, distributions=distributions))
    count = len(told.get_trials(deepcopy=False))
    share = max(_BEST_SHARE, _BEST / max(count, FEWEST))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of results that are all equal, which then weigh the same
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=share)
        found = optuna.importance.get_param_importances(told, evaluator=evaluator)
    return {path: float(found.get(path, 0.0)) for path in study.knobs}


def importance_table(found: Importances, trials: int) -> Table:
    """A line a knob, the weightiest first by the first objective."""
    table = Table(caption=f"PED-ANOVA of {trials} finished trials; each column adds up to 100 %.")
    table.add_column("knob")
    for objective in found:
        table.add_column(objective, justify="right")
    first = next(iter(found.values()))
    for path in sorted(first, key=lambda path: -first[path]):
        table.add_row(path, *(f"{100 * shares[path]:.0f} %" for shares in found.values()))
    return table


def importance_json(found: Importances, trials: int) -> dict[str, Any]:
    """For programs."""
    return {"trials": trials, "importance": found}
