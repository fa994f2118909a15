"""A surface: which learning curve every recipe of a study has, known without training.

A curve is only ever seen through ``reports``, one evaluation after the other: who decides cannot look ahead.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sweeps.cube import Array, Knobs
from sweeps.results.records import Evaluation
from sweeps.study import Study


@dataclass(frozen=True)
class Surface:
    """``curves`` maps the knobs of n recipes to their metrics (n, steps, metrics), in the order of ``metrics``.

    ``steps`` are those of the evaluations, ascending, the last one the end of a training. To every evaluation a
    Gaussian of the deviation ``noise`` is added, another one for each trial. Every step costs the same.
    """

    study: Study
    steps: tuple[int, ...]
    curves: Callable[[Sequence[Knobs]], Array]
    noise: float = 0.0
    sentence: str = ""

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The objectives of the study, then what its constraints ask for."""
        return tuple(dict.fromkeys([*self.study.objectives, *self.study.constraints]))

    def reports(self, knobs: Knobs, seed: tuple[int, int]) -> Iterator[Evaluation]:
        """What the trial of these knobs reports, in order; ``seconds`` count full trainings."""
        (curve,) = self.curves([knobs])
        if self.noise:
            curve = curve + np.random.default_rng(seed).normal(0, self.noise, curve.shape)
        for step, values in zip(self.steps, curve.tolist(), strict=True):
            yield Evaluation(step, dict(zip(self.metrics, values, strict=True)), step / self.steps[-1])

    def ends(self, recipes: Sequence[Knobs]) -> list[dict[str, float]]:
        """What the recipes are worth: the metrics at the end of a training, without noise."""
        last = self.curves(recipes)[:, -1].tolist()
        return [dict(zip(self.metrics, values, strict=True)) for values in last]
