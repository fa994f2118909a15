"""Trials that differ in their seed alone, as one: means over the seeds, and intervals that admit seeds and images."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from robustcore.intervals import CONFIDENCE, Interval, metric_interval, repeated_interval
from sweeps.results.records import Evaluation, TrialRecord


@dataclass
class Averaged(TrialRecord):
    """A trial in whose place stand the means over its ``seeds``: itself and its finished repeats.

    All else is the first trial's own, the certificate too. It is a copy: what is to last goes into the results.
    """

    seeds: list[TrialRecord] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The public form, with the metrics of each seed by the trial that ran it."""
        return super().as_json() | {"seeds": {record.trial: record.as_json()["metrics"] for record in self.seeds}}


def averaged(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Every trial but the repeats, in their order; a finished one with finished repeats as ``Averaged``."""
    records = list(records)
    repeats: dict[str, list[TrialRecord]] = defaultdict(list)
    for record in records:
        if record.repeat_of and record.state == "finished":
            repeats[record.repeat_of].append(record)
    return [
        _mean([record, *repeats[record.trial]]) if record.state == "finished" and record.trial in repeats else record
        for record in records
        if not record.repeat_of
    ]


def seeds_of(record: TrialRecord) -> list[TrialRecord]:
    """The trials behind it: itself alone, if it was never repeated."""
    return record.seeds if isinstance(record, Averaged) else [record]


def _mean(seeds: list[TrialRecord]) -> Averaged:
    first, count = seeds[0], len(seeds)
    shared = [name for name in first.metrics if all(name in record.metrics for record in seeds)]
    means = {name: sum(record.metrics[name] for record in seeds) / count for name in shared}
    evaluation = Evaluation(first.step, means, sum(record.seconds for record in seeds) / count)
    flags = {name: sentence for record in reversed(seeds) for name, sentence in record.flags.items()}
    return Averaged(**vars(first) | {"evaluations": [evaluation], "flags": flags}, seeds=seeds)


def interval(record: TrialRecord, name: str, confidence: float = CONFIDENCE) -> Interval | None:
    """Of one metric: of the finite images if it is an accuracy, of the seeds if there are several, or of both."""
    images = metric_interval(name, record.metrics, record.samples, confidence)
    values = [seed.metrics[name] for seed in seeds_of(record) if name in seed.metrics]
    return images if len(values) < 2 else repeated_interval(values, images, confidence)
