"""Gaussian processes over a few hundred points: what they say depends on the points alone, not on who asked before.

Kernels are chosen by marginal likelihood among draws that are always the same: it takes milliseconds, and a short
history is not overfitted.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, ParamSpec, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from sweeps.cube import Array

_LEAST, _MOST, _GROWTH = 6, 64, 1.15  # values that say the kernel, and by how much more of them it is chosen anew
_DRAWS, _NEAR, _ROUNDS = 32, 12, 2
_AMPLITUDES = 0.2, 4.0
_THREADS = ThreadpoolController()
_P = ParamSpec("_P")
_R = TypeVar("_R")


def one_core(call: Callable[_P, _R]) -> Callable[_P, _R]:
    """Small matrices are no faster on several cores, and thirty times slower where trials keep those busy."""
    wrapped: Callable[_P, _R] = _THREADS.wrap(limits=1, user_api="blas")(call)
    return wrapped


class Seen(NamedTuple):
    """What is known: at ``places`` (n, coordinates), of the order of 1, ``values`` (n, outputs).

    ``doubts`` (n, outputs) are deviations of the values beyond the noise that all of them have.
    """

    places: Array
    values: Array
    doubts: Array


class Process:
    """Independent outputs, each with a Matern 5/2 kernel of its own."""

    def __init__(self, seen: Seen, waiting: Array | None = None, typical: bool = False) -> None:
        """At ``waiting`` (m, coordinates) what is expected there counts as seen, so that others look elsewhere."""
        kernels = _kernels(seen, typical)
        values = _without_the_worst(seen.values)
        self._offset, self._scale = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-9)
        values, doubts = (values - self._offset) / self._scale, seen.doubts / self._scale
        alike: dict[tuple[int, bytes], list[int]] = {}
        for output, kernel in enumerate(kernels):
            alike.setdefault((id(kernel), doubts[:, output].tobytes()), []).append(output)
        self._groups = [
            (some, _Outputs(seen.places, values[:, some], doubts[:, some[0]], kernels[some[0]], waiting))
            for some in alike.values()
        ]

    def at(self, places: Array) -> tuple[Array, Array]:
        """Means and deviations (n, outputs) of what would be seen at ``places`` (n, coordinates), without noise."""
        means, deviations = (np.empty((len(places), len(self._scale))) for _ in range(2))
        for some, outputs in self._groups:
            means[:, some], deviations[:, some] = outputs.at(places)
        return means * self._scale + self._offset, deviations * self._scale

    def noise(self) -> Array:
        """(outputs,) the deviation of a value from what is at its place."""
        return np.asarray(self._scale * self._of_each(lambda outputs: outputs.noise()))

    def caution(self) -> Array:
        """(outputs,) at least 1: how far off, in its own deviations, each value was for who knew all others alone."""
        return self._of_each(lambda outputs: outputs.caution())

    def _of_each(self, number: "Callable[[_Outputs], Array]") -> Array:
        found = np.empty(len(self._scale))
        for some, outputs in self._groups:
            found[some] = number(outputs)
        return found


class _Outputs:
    """Of zero mean and unit variance, with one kernel: lengths (coordinates,) and the variance of the noise."""

    def __init__(
        self, places: Array, values: Array, doubts: Array, kernel: tuple[Array, float], waiting: Array | None
    ) -> None:
        """Of ``values`` (n, outputs), whose ``doubts`` (n,) are the same."""
        self._lengths, self._nugget = kernel
        self._places = places / self._lengths
        gram = _matern(_squares(self._places, self._places))
        gram[np.diag_indices_from(gram)] += self._nugget + doubts**2
        self._inverse = np.linalg.inv(gram)
        self._weights = self._inverse @ values
        self._amplitudes = np.clip((values * self._weights).mean(axis=0), *_AMPLITUDES)
        self._waiting = self._awaited(waiting) if waiting is not None and len(waiting) else None

    def _awaited(self, waiting: Array) -> tuple[Array, Array, Array]:
        """What waiting places take from the deviations elsewhere. Means stay: what is expected there is on them."""
        places = waiting / self._lengths
        across = _matern(_squares(places, self._places))
        told = across @ self._inverse
        left = _matern(_squares(places, places)) - told @ across.T
        left[np.diag_indices_from(left)] += self._nugget
        return places, told, np.asarray(np.linalg.inv(left), np.float64)

    def at(self, places: Array) -> tuple[Array, Array]:
        places = places / self._lengths
        across = _matern(_squares(places, self._places))
        left = 1 - np.einsum("ij,ij->i", across @ self._inverse, across)
        if self._waiting is not None:
            waiting, told, inverse = self._waiting
            near = _matern(_squares(places, waiting)) - across @ told.T
            left -= np.einsum("ij,ij->i", near @ inverse, near)
        return across @ self._weights, np.sqrt(np.multiply.outer(np.maximum(left, 1e-9), self._amplitudes))

    def noise(self) -> Array:
        return np.asarray(np.sqrt(self._amplitudes * self._nugget))

    def caution(self) -> Array:
        variances = 1 / np.diag(self._inverse)  # of each value, given the others
        off = np.sqrt((self._weights**2 * variances[:, None]).mean(axis=0) / self._amplitudes)
        return np.asarray(np.maximum(1.0, off))


def _without_the_worst(values: Array) -> Array:
    """How bad the bad are is of no interest: trainings that broke down would hide what tells the good ones apart."""
    middle, top = np.median(values, axis=0), values.max(axis=0)
    return np.asarray(np.maximum(values, middle - 3 * (top - middle)))


def _matern(squares: Array) -> Array:
    far = np.sqrt(5 * squares)
    return np.asarray((1 + far + far**2 / 3) * np.exp(-far))


def _squares(left: Array, right: Array) -> Array:
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * left @ right.T
    return np.asarray(np.maximum(squares, 0))


def _kernels(seen: Seen, typical: bool) -> list[tuple[Array, float]]:
    """One for each output, from values without doubt; a growing history changes them now and then only."""
    certain = np.flatnonzero((seen.doubts == 0).all(axis=1))
    count, dimensions = _LEAST, seen.places.shape[1]
    if len(certain) < count or typical:
        usual = np.exp(_typical(dimensions))
        return [(usual[:-1], float(usual[-1]))] * seen.values.shape[1]
    while int(count * _GROWTH) + 1 <= len(certain):
        count = int(count * _GROWTH) + 1
    some = certain[np.unique(np.linspace(0, count - 1, _MOST).astype(int))]
    places, values = seen.places[some].tobytes(), np.ascontiguousarray(seen.values[some].T)
    return [_likeliest(places, each.tobytes(), dimensions) for each in values]


@lru_cache(maxsize=256)
def _likeliest(places_: bytes, values_: bytes, dimensions: int) -> tuple[Array, float]:
    """From random kernels to those near the likeliest."""
    values = _without_the_worst(np.frombuffer(values_))
    values = (values - values.mean()) / max(float(values.std()), 1e-9)
    places = np.frombuffer(places_).reshape(len(values), dimensions)
    squares = (places[:, None] - places) ** 2
    generator = np.random.default_rng(0)
    found = _typical(dimensions) + _spread(dimensions) * generator.normal(0, 1, (_DRAWS, dimensions + 1))
    found[0] = _typical(dimensions)
    worth = _likelihoods(squares, values, found)
    for width in 0.35 * 0.5 ** np.arange(_ROUNDS):
        near = found[worth.argmax()] + generator.normal(0, width, (_NEAR, dimensions + 1))
        found, worth = np.vstack([found, near]), np.append(worth, _likelihoods(squares, values, near))
    best = np.exp(found[worth.argmax()])
    return best[:-1], float(best[-1])


def _typical(dimensions: int) -> Array:
    """The logarithms of lengths and noise to expect: the more knobs there are, the less each one tells."""
    return np.append(np.full(dimensions, np.log(0.25 * np.sqrt(dimensions))), np.log(0.01))


def _spread(dimensions: int) -> Array:
    return np.append(np.full(dimensions, 0.75), 1.5)


def _likelihoods(squares: Array, values: Array, kernels: Array) -> Array:
    """(k,) log marginal likelihoods of ``kernels`` (k, dimensions + 1), in logarithms, with what is typical."""
    diagonal, dimensions = np.arange(len(values)), squares.shape[-1]
    gram = _matern(np.tensordot(np.exp(-2 * kernels[:, :-1]), squares, axes=(1, 2)))
    gram[:, diagonal, diagonal] += np.maximum(np.exp(kernels[:, -1:]), 1e-5)
    roots = np.linalg.cholesky(gram)
    halves = np.linalg.solve(roots, np.broadcast_to(values[:, None], (len(gram), len(values), 1)))[..., 0]
    amplitudes = np.clip((halves**2).mean(axis=1), *_AMPLITUDES)
    fits = -0.5 * ((halves**2).sum(axis=1) / amplitudes + len(values) * np.log(amplitudes))
    volumes = np.log(roots[:, diagonal, diagonal]).sum(axis=1)
    priors = -0.5 * (((kernels - _typical(dimensions)) / _spread(dimensions)) ** 2).sum(axis=1)
    return np.asarray(fits - volumes + priors)
