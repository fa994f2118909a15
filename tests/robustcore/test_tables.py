"""An outcome as lines: every accuracy with its Wilson interval, by set and by class, counts and means."""

import numpy as np
import pytest

from robustcore.evaluation import Outcome, Survival
from robustcore.evaluation.outcome import accuracies
from robustcore.evaluation.tables import lines, together
from robustcore.intervals import mean_interval, wilson


def survival(clean: str, pgd: str, labels: str) -> Survival:
    bits = {name: np.array([bit == "1" for bit in text]) for name, text in (("clean", clean), ("pgd", pgd))}
    return Survival(("cat", "dog", "eel"), np.array([int(label) for label in labels]), bits)


PARTS = {"one": survival("1110", "1010", "0011"), "two": survival("11", "01", "10")}


def outcome(name: str) -> Outcome:
    survivals = {name: PARTS[name]}
    others = {f"drift/{name}": len(name) + 1.0, "drift": 9.0, f"drift/attacked/{name}": 7.0, "drift/attacked": 9.0}
    return Outcome(accuracies(survivals) | others, survivals, {"zero_gradient": f"{name} is flat"})


TOGETHER = together({name: outcome(name) for name in PARTS})


def test_parts_together_are_as_if_measured_at_once() -> None:
    assert accuracies(PARTS).items() <= TOGETHER.metrics.items()
    assert TOGETHER.samples == {"one": 4, "two": 2}
    assert (TOGETHER.metrics["drift"], TOGETHER.metrics["drift/attacked"]) == (4.0, 7.0)
    assert TOGETHER.flags == {f"zero_gradient/{name}": f"{name} is flat" for name in PARTS}


def test_every_accuracy_has_its_count_and_its_interval() -> None:
    found = {(line.metric, line.dataset, line.classname): line for line in lines(TOGETHER)}
    whole = found["pgd", "one", ""]
    expected = wilson(0.5, 4)
    assert (whole.count, whole.value, whole.low, whole.high) == (4, 0.5, expected.low, expected.high)
    of_class = found["clean", "one", "dog"]
    assert (of_class.count, of_class.value) == (2, 0.5)
    assert (of_class.low, of_class.high) == (wilson(0.5, 2).low, wilson(0.5, 2).high)
    mean, both = found["worst", "mean", ""], mean_interval([wilson(0.5, 4), wilson(0.5, 2)])
    assert (mean.count, mean.value) == (6, 0.5)
    assert (mean.low, mean.high) == pytest.approx((both.low, both.high))
    assert ("clean", "one", "eel") not in found  # no image, no share


def test_a_distance_has_no_interval() -> None:
    drifts = {(line.metric, line.dataset): line for line in lines(TOGETHER) if line.metric.startswith("drift")}
    assert {place: (line.value, line.count) for place, line in drifts.items()} == {
        ("drift", "one"): (4.0, 4),
        ("drift", "two"): (4.0, 2),
        ("drift", "mean"): (4.0, 6),
        ("drift/attacked", "one"): (7.0, 4),
        ("drift/attacked", "two"): (7.0, 2),
        ("drift/attacked", "mean"): (7.0, 6),
    }
    assert all(line.low is line.high is None for line in drifts.values())


def test_recalls_count_the_queries_of_their_direction() -> None:
    metrics = {"recall_at_1/image_to_text/pgd/said": 0.5, "recall_at_1/text_to_image/pgd/said": 0.25}
    found = {line.metric: line for line in lines(Outcome(metrics, queries={"said": (4, 12)}))}
    assert found["recall_at_1/image_to_text/pgd"].count == 4
    line = found["recall_at_1/text_to_image/pgd"]
    assert (line.dataset, line.count, line.low) == ("said", 12, wilson(0.25, 12).low)
