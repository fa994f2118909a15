"""Trial records for tests: one at a time, or a random sweep that exercises every field."""

import math
import random
from typing import Any

from sweeps.results.records import Certificate, Evaluation, State, TrialRecord, Value


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


def counted(records: list[TrialRecord], images: int = 400) -> list[TrialRecord]:
    """The same, measured on so many digits."""
    for record in records:
        for evaluation in record.evaluations:
            shares = {n: v for n, v in evaluation.metrics.items() if n in ("clean", "pgd", "worst")}
            evaluation.metrics.update({f"{name}/digits": value for name, value in shares.items()})
        record.samples = {"digits": images}
    return records


def certify(record: TrialRecord, pgd: float) -> TrialRecord:
    """What AutoAttack found where PGD had searched."""
    clean = record.metrics["clean"]
    found = {"clean": clean, "clean/digits": clean, "pgd": pgd, "pgd/digits": pgd, "worst": pgd, "worst/digits": pgd}
    attacks = {"pgd": {"kind": "autoattack", "version": "standard", "ball": {"kind": "linf", "eps": 4 / 255}}}
    record.certificate = Certificate(found, attacks, dict(record.samples))
    return record


def repeat(record: TrialRecord, number: int, metrics: dict[str, float]) -> TrialRecord:
    """The same knobs with another seed."""
    again = trial(0, metrics, knobs=record.knobs, seed=number, repeat_of=record.trial, samples=dict(record.samples))
    again.trial = f"{record.trial}.{number}"
    return again


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
