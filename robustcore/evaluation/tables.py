"""An outcome as plain lines, one number each with its interval: what tables, CSV and JSON are made of."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from robustcore.evaluation.drift import drift_means
from robustcore.evaluation.outcome import Outcome, accuracies
from robustcore.intervals import Interval, mean_interval, wilson

MEAN = "mean"  # over data sets, in the place of one


@dataclass(frozen=True)
class Line:
    """One number. ``value`` is a share of ``count`` images (or captions) in [0, 1], a distance where it has no
    interval; ``low`` and ``high`` bound it at 95 %, after Wilson.
    """

    metric: str  # an attack's name, "clean", "worst", "drift", "recall_at_1/image_to_text/pgd"
    dataset: str
    classname: str  # empty: all of them
    count: int
    value: float
    low: float | None = None
    high: float | None = None


def together(outcomes: Mapping[str, Outcome]) -> Outcome:
    """One outcome from those of single sets, by name: means over the sets, and flags that say of which set they are.

    Shares of zero gradients are left out: they do not add up without their counts.
    """
    survivals = {name: survival for outcome in outcomes.values() for name, survival in outcome.survivals.items()}
    of_sets = {
        name: value
        for outcome in outcomes.values()
        for name, value in outcome.metrics.items()
        if name.startswith(("drift/", "recall_at_")) and name != "drift/attacked"
    }
    flags = {f"{flag}/{name}": text for name, outcome in outcomes.items() for flag, text in outcome.flags.items()}
    queries = {name: counts for outcome in outcomes.values() for name, counts in outcome.queries.items()}
    return Outcome(accuracies(survivals) | of_sets | drift_means(of_sets), survivals, flags, queries)


def lines(outcome: Outcome) -> Iterator[Line]:
    """Every number: accuracies over all sets, by set and by class, then drift and recalls."""
    shares = {name: survival.shares() for name, survival in outcome.survivals.items()}
    samples = outcome.samples
    for attack in next(iter(shares.values()), {}):
        parts = [wilson(shares[name][attack], count) for name, count in samples.items()]
        yield _line(attack, MEAN, "", sum(samples.values()), mean_interval(parts))
        for name, part in zip(samples, parts, strict=True):
            yield _line(attack, name, "", samples[name], part)
    for name, survival in outcome.survivals.items():
        counts = {each: int((survival.labels == label).sum()) for label, each in enumerate(survival.classes)}
        for classname, by_attack in survival.class_shares().items():
            for attack, share in by_attack.items():
                yield _line(attack, name, classname, counts[classname], wilson(share, counts[classname]))
    for metric, value in outcome.metrics.items():
        yield from _other(metric, value, outcome)


def _other(metric: str, value: float, outcome: Outcome) -> Iterator[Line]:
    first, *rest = metric.split("/")
    if first == "drift":
        attacked = rest[:1] == ["attacked"]
        dataset = "".join(rest[1:] if attacked else rest)
        count = outcome.samples[dataset] if dataset else sum(outcome.samples.values())
        yield Line("drift/attacked" if attacked else "drift", dataset or MEAN, "", count, value)
    elif metric.startswith("recall_at_"):
        kind, _, dataset = metric.rpartition("/")
        images, captions = outcome.queries[dataset]
        count = images if "/image_to_text/" in metric else captions
        yield _line(kind, dataset, "", count, wilson(value, count))


def _line(metric: str, dataset: str, classname: str, count: int, interval: Interval) -> Line:
    return Line(metric, dataset, classname, count, interval.value, interval.low, interval.high)
