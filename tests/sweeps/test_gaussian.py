"""Gaussian processes against their textbook formulas, and kernels that find out which coordinate matters."""

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from sweeps.cube import Array
from sweeps.gaussian import Process, Seen, one_core


def wave(places: Array) -> Array:
    """(n, 2) of places (n, 3): the second coordinate matters to the first output alone, the third to nobody."""
    return np.stack([np.sin(5 * places[:, 0]) + np.cos(4 * places[:, 1]), 3 * places[:, 0] ** 2], axis=1)


def seen(count: int = 40, noise: float = 0.0, doubt: float = 0.0) -> Seen:
    generator = np.random.default_rng(1)
    places = generator.random((count, 3))
    values = wave(places) + generator.normal(0, 1, (count, 2)) * np.hypot(noise, doubt)
    return Seen(places, values, np.full((count, 2), doubt))


def textbook(known: Seen, asked: Array) -> tuple[Array, Array]:
    """Rasmussen & Williams (2006), algorithm 2.1, of the second output under the typical kernel."""
    length, nugget = 0.25 * np.sqrt(3), 0.01

    def kernel(a: Array, b: Array) -> Array:
        far = np.sqrt(5) * np.linalg.norm(a[:, None] - b, axis=-1) / length
        return np.asarray((1 + far + far**2 / 3) * np.exp(-far))

    values = known.values[:, 1]
    unit = (values - values.mean()) / values.std()
    root = np.linalg.cholesky(kernel(known.places, known.places) + nugget * np.eye(len(unit)))
    weights = np.linalg.solve(root.T, np.linalg.solve(root, unit))
    across = kernel(known.places, asked)
    left = 1 - (np.linalg.solve(root, across) ** 2).sum(axis=0)
    amplitude = np.clip(unit @ weights / len(unit), 0.2, 4)
    return across.T @ weights * values.std() + values.mean(), np.sqrt(amplitude * left) * values.std()


def test_means_and_deviations_are_those_of_the_textbook() -> None:
    known, asked = seen(12), np.random.default_rng(2).random((20, 3))
    means, deviations = Process(known, typical=True).at(asked)
    told = textbook(known, asked)
    assert means[:, 1] == pytest.approx(told[0], abs=1e-8)
    assert deviations[:, 1] == pytest.approx(told[1], abs=1e-8)


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_a_fitted_process_tells_what_it_has_not_seen_within_its_deviations(noise: float) -> None:
    asked = np.random.default_rng(3).random((200, 3))
    process = Process(seen(60, noise))
    means, deviations = process.at(asked)
    misses = (means - wave(asked)) / np.maximum(deviations, 1e-3)
    assert np.abs(means - wave(asked)).mean() < (0.1 if noise == 0 else 0.16)
    assert 0.2 < np.sqrt((misses**2).mean()) < 2
    assert (np.abs(process.noise() - noise) < 0.12).all()


def test_values_in_doubt_count_less() -> None:
    sure, doubtful = seen(30), seen(30)
    moved = doubtful.values.copy()
    moved[3] += 2
    for doubt, least, most in ((0.0, 0.5, 2.1), (5.0, 0.0, 0.3)):
        doubts = np.zeros_like(moved)
        doubts[3] = doubt
        found, _ = Process(Seen(sure.places, moved, doubts), typical=True).at(sure.places[3:4])
        undisturbed, _ = Process(sure, typical=True).at(sure.places[3:4])
        assert (least <= found - undisturbed).all() or doubt
        assert (np.abs(found - undisturbed) <= most).all()


def test_what_is_waited_for_leaves_no_doubt_at_its_place_and_changes_no_expectation() -> None:
    known, waiting = seen(20), np.array([[0.9, 0.1, 0.5]])
    before, after = Process(known), Process(known, waiting)
    assert after.at(waiting)[0] == pytest.approx(before.at(waiting)[0], abs=1e-6)
    assert (after.at(waiting)[1] < 0.7 * before.at(waiting)[1]).all()


def test_how_bad_the_bad_are_hides_nothing() -> None:
    known = seen(80)
    broken = known.values.copy()
    broken[:5] = -1000
    asked = known.places[5:]
    means, _ = Process(Seen(known.places, broken, known.doubts)).at(asked)
    assert np.corrcoef(means[:, 1], known.values[5:, 1])[0, 1] > 0.6


def test_caution_is_what_leaving_one_out_finds() -> None:
    known = seen(15, noise=0.5)
    surprises = []
    process = Process(known, typical=True)
    for left in range(15):
        others = np.arange(15) != left
        rest = Process(Seen(known.places[others], known.values[others], known.doubts[others]), typical=True)
        mean, deviation = rest.at(known.places[left : left + 1])
        surprises.append((known.values[left] - mean[0]) / np.hypot(deviation[0], rest.noise()))
    expected = np.maximum(1, np.sqrt((np.array(surprises) ** 2).mean(axis=0)))
    assert process.caution() == pytest.approx(expected, rel=0.35)  # offset and scale are of all


def test_one_value_everywhere_is_no_obstacle() -> None:
    known = seen(10)
    means, deviations = Process(Seen(known.places, np.ones((10, 2)), known.doubts)).at(known.places)
    assert means == pytest.approx(1)
    assert np.isfinite(deviations).all()


def test_outputs_that_share_a_kernel_are_what_each_is_alone() -> None:
    generator = np.random.default_rng(0)
    places, values, new = generator.random((20, 2)), generator.random((20, 3)), generator.random((5, 2))
    together = Process(Seen(places, values, np.zeros_like(values)), typical=True)
    for output in range(3):
        column = values[:, [output]]
        alone = Process(Seen(places, column, np.zeros_like(column)), typical=True)
        for mine, its in zip(alone.at(new), together.at(new), strict=True):
            assert mine[:, 0] == pytest.approx(its[:, output])
        assert alone.noise()[0] == pytest.approx(together.noise()[output])
        assert alone.caution()[0] == pytest.approx(together.caution()[output])


def test_its_algebra_runs_on_one_core_and_leaves_the_others_as_they_were() -> None:
    def threads() -> list[int]:
        return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]

    before = threads()
    assert set(one_core(threads)()) == {1}
    assert threads() == before
