"""Made-up surfaces with learning curves in closed form: one kind to early stopping, one that punishes it.

The knobs a, e, r in [0, 1] are the clean term's weight, the radius and the learning rate on their scales; t in (0, 1]
is the share of a training. Both trade clean accuracy against robustness, and only a good r reaches the front.
"""

from collections.abc import Sequence

import numpy as np

from sweeps.cube import Array, Knobs, to_cube
from sweeps.simulate.surface import Surface
from sweeps.study import Study, load_study

_EVERY, _EVALUATIONS = 4, 27
_SHARES = np.arange(1, _EVALUATIONS + 1) / _EVALUATIONS
_STEPS = tuple(range(_EVERY, _EVERY * (_EVALUATIONS + 1), _EVERY))
_KNOBS = (
    "knobs={loss.alpha: {log_uniform: [0.01, 10]}, attack.ball.eps: {uniform: [4/255, 32/255]}, "
    "optim.lr: {log_uniform: [1e-4, 1e-1]}}"
)


def smooth() -> Surface:
    """A bad learning rate shows from the first evaluation on."""
    study = _study("smooth")

    def curves(recipes: Sequence[Knobs]) -> Array:
        return _smooth(to_cube(study.knobs, recipes))

    return Surface(study, _STEPS, curves, 0.01, "a bad learning rate shows early")


def crossing() -> Surface:
    """What ends best starts worst, and the quality has several peaks over the learning rate."""
    study = _study("crossing")

    def curves(recipes: Sequence[Knobs]) -> Array:
        return _crossing(to_cube(study.knobs, recipes))

    return Surface(study, _STEPS, curves, 0.01, "what ends best starts slowly; three peaks")


def breaking() -> Surface:
    """What learns fastest breaks down halfway; the best rate depends on the warm-up, and there are five knobs."""
    more = "knobs.optim.warmup={integer: [0, 40]}", "knobs.attack.steps={integer: [1, 8]}"
    study = _study("breaking", *more)

    def curves(recipes: Sequence[Knobs]) -> Array:
        return _breaking(to_cube(study.knobs, recipes))

    return Surface(study, _STEPS, curves, 0.01, "what learns fastest breaks down halfway; five knobs")


def _study(name: str, *more: str) -> Study:
    lengths = f"recipe.optim.steps={_STEPS[-1]}", f"recipe.evaluation.every={_EVERY}"
    return load_study("alpha_study", [f"name={name}", _KNOBS, *more, *lengths])


def _smooth(knobs: Array) -> Array:
    """``quality * (1 - exp(-6 t))`` of the way from the start (0.5, 0.05) to the recipe's end."""
    a, e, r = knobs.T[:, :, None]
    # Too slow a rate arrives late, too fast a one breaks the encoder.
    quality = np.exp(-8 * (r - 0.65 - 0.15 * (e - 0.5)) ** 2)
    return _between(quality * (1 - np.exp(-6 * _SHARES)), a, e)


def _crossing(knobs: Array) -> Array:
    """As ``smooth``, at a speed of 2 to 8 that is highest where the end is worst; the last of three peaks is best."""
    a, e, r = knobs.T[:, :, None]
    peaks = np.cos(3 * np.pi * (r - 5 / 6)) ** 2  # at 1/6, 1/2 and 5/6
    quality = (0.7 + 0.36 * r) * (0.6 + 0.4 * peaks)
    speed = 2 + 6 * (1 - r)
    return _between(quality * (1 - np.exp(-speed * _SHARES)) / (1 - np.exp(-speed)), a, e)


def _breaking(knobs: Array) -> Array:
    """At a rate beyond the best one, half of what was learnt is lost between the middle and the end."""
    a, e, r, warmup, attack_steps = knobs.T[:, :, None]
    beyond = r - (0.45 + 0.3 * warmup)
    quality = np.exp(-6 * np.minimum(beyond, 0) ** 2 - 2 * np.maximum(beyond, 0) ** 2)
    lost = 0.5 / (1 + np.exp(-40 * (beyond - 0.1))) / (1 + np.exp(-20 * (_SHARES - 0.7)))
    speed = 1 + 7 * r
    progress = quality * (1 - np.exp(-speed * _SHARES)) / (1 - np.exp(-speed)) * (1 - lost)
    return _between(progress * (0.85 + 0.15 * np.sqrt(attack_steps)), a, e)


def _between(progress: Array, a: Array, e: Array) -> Array:
    """(n, steps, 2): clean accuracy rises with a and falls with e, robustness the other way round, both with progress.

    The middle of the trade-off is its best part: the front bulges.
    """
    share = np.clip(0.5 + 0.5 * (e - a), 0, 1)  # of robustness in the trade-off
    waste = 1 - 0.3 * (a + e - 1) ** 2  # a strong clean term against a large radius, or neither, is for nothing
    clean = 0.5 + 0.45 * progress * waste * np.sqrt(1 - share**2)
    robust = 0.05 + 0.75 * progress * waste * np.sqrt(1 - (1 - share) ** 2)
    return np.stack([clean, robust], axis=-1)
