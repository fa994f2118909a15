"""How sure an accuracy is, against closed forms and against what happens when one samples."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from robustcore.intervals import Interval, mean_interval, metric_interval, repeated_interval, student, wilson


@pytest.mark.parametrize(("share", "count"), [(0.0, 1), (0.0, 400), (0.3, 10), (0.685, 400), (1.0, 400), (1.0, 3)])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_its_ends_are_the_shares_whose_score_test_just_rejects(share: float, count: int, confidence: float) -> None:
    """The definition of Wilson's interval: |share - p| = z sqrt(p (1 - p) / n) at both ends."""
    interval, z = wilson(share, count, confidence), NormalDist().inv_cdf((1 + confidence) / 2)
    assert 0 <= interval.low <= share <= interval.high <= 1
    for end in (interval.low, interval.high):
        assert abs(share - end) == pytest.approx(z * math.sqrt(end * (1 - end) / count), abs=1e-12)


def test_it_covers_the_truth_about_as_often_as_it_says() -> None:
    truth, count = 0.7, 400
    found = np.random.default_rng(0).binomial(count, truth, size=4000) / count
    covered = np.mean([wilson(share, count).low <= truth <= wilson(share, count).high for share in found])
    assert covered == pytest.approx(0.95, abs=0.012)


def test_the_mean_of_equally_sure_shares_is_surer_by_the_root_of_their_number() -> None:
    parts = [Interval(0.5, 0.4, 0.7), Interval(0.7, 0.6, 0.9), Interval(0.9, 0.8, 1.1), Interval(0.3, 0.2, 0.5)]
    mean = mean_interval(parts)
    assert (mean.value, mean.low, mean.high) == pytest.approx((0.6, 0.55, 0.7))


def test_a_metric_has_the_interval_of_its_own_data_sets() -> None:
    metrics = {"pgd/a": 0.5, "pgd/b": 0.7, "pgd": 0.6, "loss": 0.3, "zero_gradient/pgd": 0.1, "clean/a": 0.9}
    samples = {"a": 100, "b": 400}
    assert metric_interval("pgd/a", metrics, samples) == wilson(0.5, 100)
    assert metric_interval("pgd", metrics, samples) == mean_interval([wilson(0.5, 100), wilson(0.7, 400)])
    for no_accuracy in ("loss", "zero_gradient/pgd", "clean", "nothing"):
        assert metric_interval(no_accuracy, metrics, samples) is None
    assert metric_interval("pgd", metrics, {}) is None


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 10, 31])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_students_t_is_that_of_scipy(freedom: int, confidence: float) -> None:
    from scipy.stats import t

    assert student(freedom, confidence) == pytest.approx(t.ppf((1 + confidence) / 2, freedom))


def test_seeds_and_images_both_widen_the_interval_of_a_mean() -> None:
    values, images = [0.60, 0.64, 0.68], wilson(0.64, 400)
    alone = repeated_interval(values, None)
    assert (alone.low, alone.high) == pytest.approx((0.64 - 0.0993655, 0.64 + 0.0993655), abs=1e-6)  # t = 4.302653
    both = repeated_interval(values, images)
    assert both.value - both.low == pytest.approx(math.hypot(alone.value - alone.low, images.value - images.low))
    assert both.high - both.value == pytest.approx(math.hypot(alone.high - alone.value, images.high - images.value))
    same = repeated_interval([0.64, 0.64], images)
    assert (same.low, same.high) == pytest.approx((images.low, images.high))
    far = repeated_interval([0.2, 0.9], images)
    assert (far.low, far.high) == (0.0, 1.0)
