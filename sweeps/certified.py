"""What a certificate changes: how far each trial falls, and who is on the front no more. Pure functions of records."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sweeps import wording
from sweeps.pareto import Feasible, Objectives, always, front
from sweeps.results.records import Evaluation, TrialRecord
from sweeps.seeds import seeds_of

DROP = 0.02  # of the accuracy: what PGD and a stronger attack may differ by before it is worth a word


@dataclass(frozen=True)
class Judgement:
    """The objective that falls the furthest, and by how much: a share in [-1, 1], above 0 where it was overstated."""

    objective: str
    drop: float

    @property
    def flagged(self) -> bool:
        """Whether the searched number says too much."""
        return self.drop > DROP + 1e-12


def judged(record: TrialRecord, objectives: Objectives) -> Judgement | None:
    """Of a trial with a certificate; None without, or where no objective is in it.

    Like is compared with like: of a trial that stands for several seeds, the run that was certified.
    """
    if record.certificate is None:
        return None
    searched, found = seeds_of(record)[0].metrics, record.certificate.metrics
    signs = {name: 1 if direction == "max" else -1 for name, direction in objectives.items()}
    drops = {n: sign * (searched[n] - found[n]) for n, sign in signs.items() if n in found and n in searched}
    if not drops:
        return None
    worst = max(drops, key=lambda name: drops[name])
    return Judgement(worst, drops[worst])


def flags_of(record: TrialRecord, objectives: Objectives) -> dict[str, str]:
    """Everything that warns of the trial's numbers, a sentence by name: of its search, then of its certificate."""
    judgement, held = judged(record, objectives), record.certificate
    flags = record.flags | (held.flags if held is not None else {})
    if judgement is None or held is None or not judgement.flagged or "certified_drop" in flags:
        return flags
    name, searched = judgement.objective, seeds_of(record)[0].metrics
    numbers = [wording.metric(name, metrics[name]) for metrics in (searched, held.metrics)]
    return flags | {"certified_drop": f"{name} falls from {numbers[0]} to {numbers[1]} when attacked again."}


def certified_front(
    records: Iterable[TrialRecord], objectives: Objectives, feasible: Feasible = always
) -> list[TrialRecord]:
    """The front of the trials that have a certificate, by what it says; copies whose metrics are the certified ones."""
    certified = [as_certified(record) for record in records if record.certificate and not record.repeat_of]
    return front(certified, objectives, feasible)


def as_certified(record: TrialRecord) -> TrialRecord:
    """A copy with the certified metrics in the place of the searched ones; what was not attacked again stays."""
    first = seeds_of(record)[0]
    assert first.certificate is not None, "only a trial with a certificate has certified metrics"
    evaluation = Evaluation(first.step, first.metrics | first.certificate.metrics, first.seconds)
    return replace(first, evaluations=[evaluation], samples=first.samples | first.certificate.samples)


def fallen(records: Iterable[TrialRecord], objectives: Objectives, feasible: Feasible = always) -> dict[str, str]:
    """Of the searched front's trials with a certificate, those that it takes off the front, and why in a sentence."""
    records = list(records)
    kept = certified_front(records, objectives, feasible)
    names = {record.trial for record in kept}
    gone = [
        record for record in front(records, objectives, feasible) if record.certificate and record.trial not in names
    ]
    return {record.trial: _why(as_certified(record), kept, objectives, feasible) for record in gone}


def _why(record: TrialRecord, kept: list[TrialRecord], objectives: Objectives, feasible: Feasible) -> str:
    found = _shown(record, objectives)
    if not feasible(record.metrics):
        return f"certified at {found}, it does not meet the constraints"
    better = next(other for other in kept if front([record, other], objectives) == [other])
    return f"certified at {found}, it is beaten by trial {better.trial} with {_shown(better, objectives)}"


def _shown(record: TrialRecord, objectives: Objectives) -> str:
    return ", ".join(f"{name} {wording.metric(name, record.metrics[name])}" for name in objectives)


def heading(metric: str, attacks: Mapping[str, Any]) -> str:
    """Of a certified column: ``pgd under autoattack (standard)``, or ``clean again`` where nothing attacks.

    ``attacks`` are a certificate's. The worst of all attacks is under all of them.
    """
    name = metric.partition("/")[0]
    if name in attacks:
        return f"{metric} under {_named(attacks[name])}"
    if name == "worst" and attacks:
        return f"{metric} of {', '.join(dict.fromkeys(map(_named, attacks.values())))}"
    return f"{metric} again"


def _named(attack: Mapping[str, Any]) -> str:
    """``apgd (100 steps)``, ``autoattack (standard)``"""
    kind, version, steps = attack["kind"], attack.get("version"), attack.get("steps")
    detail = version if version else f"{steps} steps" if steps else ""
    return f"{kind} ({detail})" if detail else str(kind)
