"""Values, metrics and times as people read them; tables, pictures and progress all take their words here."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping

from robustcore.intervals import Interval
from sweeps.results.records import State, TrialRecord, Value

# Metrics that are no share of images even where they happen to lie in [0, 1].
NOT_A_SHARE = re.compile(r"loss|^drift|(^|[._/])(lr|seconds|norm)($|[._/])")
STATES: tuple[State, ...] = ("finished", "stopped", "failed", "running", "pending")


def value(knob: Value) -> str:
    """A knob's value: floats at four significant digits, text on one line."""
    return f"{knob:.4g}" if isinstance(knob, float) else one_line(str(knob))


def knobs(record: TrialRecord) -> str:
    """``loss.alpha=0.3, attack.ball.eps=0.01569``"""
    knobs = record.knobs | ({"seed": record.seed} if record.repeat_of else {})
    return ", ".join(f"{path}={value(knob)}" for path, knob in knobs.items())


def metric(name: str, number: float) -> str:
    """A share of images as ``96.2 %``, anything else at four significant digits."""
    if name == "catastrophic_overfitting":
        return "yes" if number else "no"
    return f"{100 * number:.1f} %" if is_share(name, [number]) else f"{number:.4g}"


def measured(name: str, metrics: Mapping[str, float], interval: Interval | None) -> str:
    """``96.2 % [94.0, 97.7]``; empty where there is no such metric."""
    if name not in metrics:
        return ""
    shown = metric(name, metrics[name])
    if interval is None:
        return shown
    is_percent = is_share(name, [metrics[name]])
    ends = (f"{100 * end:.1f}" if is_percent else f"{end:.4g}" for end in (interval.low, interval.high))
    return f"{shown} [{', '.join(ends)}]"


def metrics(record: TrialRecord) -> str:
    """``clean 96.2 %, pgd 71.5 %`` of the last evaluation, headline metrics only."""
    return ", ".join(f"{name} {metric(name, record.metrics[name])}" for name in headlines([record]))


def difference(name: str, before: float, after: float) -> str:
    """``+3.2 points`` of a share of images, anything else at four significant digits; ``=`` where there is none."""
    change = after - before
    if not change:
        return "="
    return f"{100 * change:+.1f} points" if is_share(name, [before, after]) else f"{change:+.4g}"


def is_share(name: str, numbers: Iterable[float]) -> bool:
    """Whether a metric is a share of images, in [0, 1] wherever it is finite, and reads best in percent."""
    finite = [number for number in numbers if math.isfinite(number)]
    return not NOT_A_SHARE.search(name) and bool(finite) and all(0 <= number <= 1 for number in finite)


def headlines(records: Iterable[TrialRecord], first: Iterable[str] = ()) -> list[str]:
    """The metrics for people: ``first``, then every mean over data sets (a name without a slash)."""
    names = dict.fromkeys(first)
    names |= dict.fromkeys(name for record in records for name in record.metrics if "/" not in name)
    return list(names)


def duration(seconds: float) -> str:
    """``8 s``, ``2 min 10 s``, ``3 h 5 min``, ``2 d 4 h``"""
    whole = max(0, round(seconds))
    units = [("d", whole // 86400), ("h", whole // 3600 % 24), ("min", whole // 60 % 60), ("s", whole % 60)]
    first = next((i for i, (_, count) in enumerate(units) if count), len(units) - 1)
    return " ".join(f"{count} {unit}" for unit, count in units[first : first + 2] if count) or "0 s"


def size(count: float) -> str:
    """``96.2 MB``, ``1.5 GB``: bytes in powers of a thousand."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def states(records: Iterable[TrialRecord]) -> str:
    """``16 trials: 12 finished, 3 stopped, 1 failed``"""
    counts = Counter(record.state for record in records)
    total = sum(counts.values())
    parts = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    return f"{total} {'trial' if total == 1 else 'trials'}" + (f": {parts}" if parts else "")


def one_line(text: str) -> str:
    """Without line breaks or control characters, which could draw over a terminal."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
