"""How sure an accuracy is: Wilson's interval of a share of images, and what follows from it. Imports nothing heavy."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """From ``low`` to ``high``, around ``value``."""

    value: float
    low: float
    high: float


def wilson(share: float, count: int, confidence: float = CONFIDENCE) -> Interval:
    """Of a share in [0, 1] of ``count`` > 0 independent images (Wilson 1927); stays inside [0, 1]."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    spread = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    centre, scale = share + z**2 / (2 * count), 1 + z**2 / count
    low, high = (centre - spread) / scale, (centre + spread) / scale
    return Interval(share, min(share, max(0.0, low)), max(share, min(1.0, high)))


def mean_interval(parts: Sequence[Interval]) -> Interval:
    """Of the mean of independent shares: their half-widths add up in squares (Zou & Donner 2008)."""
    value, count = sum(part.value for part in parts) / len(parts), len(parts)
    below = math.sqrt(sum((part.value - part.low) ** 2 for part in parts)) / count
    above = math.sqrt(sum((part.high - part.value) ** 2 for part in parts)) / count
    return Interval(value, value - below, value + above)


def metric_interval(
    name: str, metrics: Mapping[str, float], samples: Mapping[str, int], confidence: float = CONFIDENCE
) -> Interval | None:
    """Of the accuracy ``name``, of one data set (``pgd/digits``) or the mean over all of them (``pgd``).

    ``samples`` are the images of each data set. None for a metric that is no accuracy, such as a loss.
    """
    attack, slash, dataset = name.partition("/")
    names = {dataset} if slash else samples.keys()
    parts = [f"{attack}/{each}" for each in names]
    if not parts or not names <= samples.keys() or any(part not in metrics for part in parts):
        return None
    return mean_interval([wilson(metrics[f"{attack}/{each}"], samples[each], confidence) for each in names])


def repeated_interval(values: Sequence[float], images: Interval | None, confidence: float = CONFIDENCE) -> Interval:
    """Of the mean of two or more seeds' ``values``: Student's t over them.

    ``images`` is the interval of that mean as a share, if it is one: every seed is measured on the same images,
    so that more seeds do not make it narrower. The half-widths add up in squares, and the ends stay in [0, 1].
    """
    value, count = sum(values) / len(values), len(values)
    variance = sum((each - value) ** 2 for each in values) / (count - 1)
    seeds = student(count - 1, confidence) * math.sqrt(variance / count)
    if images is None:
        return Interval(value, value - seeds, value + seeds)
    below, above = math.hypot(seeds, value - images.low), math.hypot(seeds, images.high - value)
    return Interval(value, max(0.0, value - below), min(1.0, value + above))


def student(freedom: int, confidence: float = CONFIDENCE) -> float:
    """How far Student's t with ``freedom`` >= 1 degrees stays from zero with that probability."""
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        angle = (low + high) / 2
        low, high = (angle, high) if _within(angle, freedom) < confidence else (low, angle)
    return math.sqrt(freedom) * math.tan(low)


def _within(angle: float, freedom: int) -> float:
    """P(|t| < sqrt(freedom) tan(angle)), a finite sum (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4)."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for factor in range(1 + odd, freedom, 2):
        total += term
        term *= factor / (factor + 1) * cosine**2
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
