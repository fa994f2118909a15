"""What a trial must reach to be on the front; light, so that `sweep front` need not load what trains."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Constraint:
    """What a trial must reach to be on the front, written ``>= 0.6`` or ``<= 0.5``."""

    sign: Literal[">=", "<="]
    bound: float
    metric: str = ""

    def violation(self, metrics: Mapping[str, float]) -> float:
        """How far the metric misses the bound: at most 0 where it holds, infinite where it is no number."""
        value = metrics.get(self.metric, math.nan)
        excess = self.bound - value if self.sign == ">=" else value - self.bound
        return math.inf if math.isnan(excess) else excess

    def holds(self, metrics: Mapping[str, float]) -> bool:
        """Whether nothing is violated."""
        return self.violation(metrics) <= 0

    def __str__(self) -> str:
        return f"{self.sign} {self.bound!r}"
