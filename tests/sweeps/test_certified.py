"""What a certificate changes: drops, flags, and who falls off the front."""

from typing import Any

import pytest

from sweeps.certified import as_certified, certified_front, fallen, heading, judged
from sweeps.pareto import Objectives, front
from sweeps.results.records import Certificate, TrialRecord
from sweeps.seeds import averaged
from tests.sweeps.trials import trial

BOTH: Objectives = {"clean": "max", "pgd": "max"}
ATTACKS: dict[str, Any] = {"pgd": {"kind": "autoattack", "version": "standard", "ball": {"kind": "linf", "eps": 0.03}}}


def certified(number: int, clean: float, pgd: float, found: float | None, **fields: Any) -> TrialRecord:
    """Searched at (clean, pgd), certified at (clean, found)."""
    metrics = {"clean": clean, "clean/digits": clean, "pgd": pgd, "pgd/digits": pgd, "loss": 0.4}
    record = trial(number, metrics, samples={"digits": 400}, **fields)
    if found is not None:
        metrics = {"clean": clean, "clean/digits": clean, "pgd": found, "pgd/digits": found}
        record.certificate = Certificate(metrics, ATTACKS, {"digits": 400})
    return record


@pytest.mark.parametrize(
    ("found", "flagged"), [(0.60, False), (0.58, False), (0.5799, True), (0.30, True), (0.65, False)]
)
def test_more_than_two_points_below_the_searched_number_is_flagged(found: float, flagged: bool) -> None:
    judgement = judged(certified(0, 0.9, 0.6, found), BOTH)
    assert judgement is not None
    assert judgement.flagged is flagged
    assert judgement.drop == pytest.approx(max(0.0, 0.6 - found), abs=1e-12)  # clean stays as it is


def test_without_a_certificate_of_an_objective_nothing_is_judged() -> None:
    assert judged(certified(0, 0.9, 0.6, None), BOTH) is None
    assert judged(certified(0, 0.9, 0.6, 0.5), {"loss": "min"}) is None


def test_a_trial_with_repeats_is_judged_by_the_run_that_was_certified() -> None:
    (mean,) = averaged([certified(0, 0.9, 0.6, 0.59), certified(9, 0.9, 0.8, None, repeat_of="0000")])
    assert mean.metrics["pgd"] == pytest.approx(0.7)
    judgement = judged(mean, BOTH)
    assert judgement is not None
    assert judgement.drop == pytest.approx(0.01)
    assert as_certified(mean).metrics["pgd"] == 0.59


def test_who_is_beaten_by_certified_numbers_falls_off_and_the_sentence_names_who_beats_it() -> None:
    records = [
        certified(0, 0.90, 0.60, 0.40),  # looked best
        certified(1, 0.92, 0.58, 0.57),
        certified(2, 0.95, 0.30, 0.10),
        certified(3, 0.91, 0.575, 0.57),  # a runner-up
        certified(4, 0.10, 0.70, None),  # nobody attacked it again
    ]
    assert [record.trial for record in front(records, BOTH)] == ["0004", "0000", "0001", "0002"]
    assert [record.trial for record in certified_front(records, BOTH)] == ["0001", "0002"]
    assert fallen(records, BOTH) == {
        "0000": "certified at clean 90.0 %, pgd 40.0 %, it is beaten by trial 0001 with clean 92.0 %, pgd 57.0 %"
    }


def test_who_meets_the_constraints_no_more_falls_off() -> None:
    records = [certified(0, 0.90, 0.60, 0.40)]
    gone = fallen(records, BOTH, lambda metrics: metrics["pgd"] >= 0.5)
    assert gone == {"0000": "certified at clean 90.0 %, pgd 40.0 %, it does not meet the constraints"}


def test_what_is_minimised_and_not_attacked_keeps_its_value() -> None:
    records = [certified(0, 0.9, 0.6, 0.4), certified(1, 0.9, 0.5, 0.45)]
    assert list(fallen(records, {"pgd": "max", "loss": "min"})) == ["0000"]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("pgd", "pgd under autoattack (standard)"),
        ("pgd/digits", "pgd/digits under autoattack (standard)"),
        ("clean", "clean again"),
        ("worst", "worst of autoattack (standard)"),
    ],
)
def test_a_heading_names_the_attack_that_was_run(metric: str, expected: str) -> None:
    assert heading(metric, ATTACKS) == expected
