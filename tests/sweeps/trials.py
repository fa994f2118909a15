"""Trial records for tests: one at a time, or a random sweep that exercises every field."""

import math
import random
from typing import Any

from sweeps.results.records import Evaluation, State, TrialRecord, Value


def trial(
    number: int,
    metrics: dict[str, float] | None = None,
    state: State = "finished",
    knobs: dict[str, Value] | None = None,
    **fields: Any,
) -> TrialRecord:
    """One with a single evaluation at step 200 if ``metrics`` are given."""
    evaluations = [Evaluation(200, metrics, 27.5)] if metrics is not None else []
    recipe = {"loss": {"kind": "fare"}, "optim": {"steps": 200}}
    defaults: dict[str, Any] = {"recipe": recipe, "recipe_hash": f"hash-{number}", "seed": 0}
    shown = {"loss.alpha": 0.1 * number} if knobs is None else knobs
    return TrialRecord(trial=f"{number:04d}", knobs=shown, state=state, evaluations=evaluations, **defaults | fields)


def study(number: int, seed: int = 0) -> list[TrialRecord]:
    """A trade-off between clean and pgd with noise; every sixth trial was stopped or failed."""
    random_ = random.Random(seed)  # noqa: S311 (no secret)
    records = []
    for i in range(number):
        alpha = 0.0 if i == 3 else 10 ** random_.uniform(-3, 1.5)
        clean = 0.955 + 0.006 * math.log10(alpha + 1e-3) + random_.gauss(0, 0.003)
        pgd = 0.60 - 0.08 * math.log10(alpha + 1e-3) + random_.gauss(0, 0.02)
        metrics = {"clean": clean, "pgd": pgd, "worst": pgd - 0.01, "pgd/digits": pgd, "loss": 0.4}
        state: State = "finished" if i % 6 != 5 else "stopped" if i % 12 == 5 else "failed"
        knobs: dict[str, Value] = {"loss.alpha": alpha, "attack.ball.eps": random_.choice([2 / 255, 4 / 255])}
        reason = "The loss is NaN at step 31." if state == "failed" else ""
        records.append(trial(i, None if state == "failed" else metrics, state, knobs, reason=reason))
    return records
