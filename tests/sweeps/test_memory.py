"""A sampler's memory has an end, and what it holds depends on the results alone."""

import itertools
import random

import optuna
import pytest
from optuna.trial import TrialState

from sweeps import memory
from sweeps.memory import Memory

NEWEST = 12


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "NEWEST", NEWEST)


def is_worse(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(its <= mine for mine, its in zip(one, other, strict=True))


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_the_newest_that_are_over_and_the_best_of_all_are_shown(objectives: int) -> None:
    random_ = random.Random(objectives)  # noqa: S311  # no secret
    storage = Memory()
    study = optuna.create_study(directions=["minimize"] * objectives, storage=storage)
    values: dict[int, tuple[float, ...]] = {}
    open_: list[int] = []
    for _ in range(60):
        open_.append(study.ask().number)
        if len(open_) > 5:
            number = open_.pop(random_.randrange(len(open_)))
            if random_.random() < 0.3:
                study.tell(number, state=TrialState.PRUNED)
                values[number] = ()
                continue
            values[number] = tuple(float(random_.randrange(20)) for _ in range(objectives))
            study.tell(number, values[number])
            storage.note(number, values[number])
        over = sorted(values)
        first = over[-NEWEST] if len(over) >= NEWEST else 0
        shown = {trial.number for trial in study.get_trials(deepcopy=False)}
        newest = {number for number in [*over, *open_] if number >= first}
        assert shown >= newest
        best = [values[number] for number in shown - newest]
        assert all(values[number] for number in shown - newest), "what was stopped is not among the best"
        others = [each for each in values.values() if each]
        for one, other in itertools.product(best, others):
            assert one == other or any(mine < its for mine, its in zip(one, other, strict=True))
        front = {
            each
            for each in others
            if not any(o != each and all(a <= b for a, b in zip(o, each, strict=True)) for o in others)
        }
        assert front <= {values[number] for number in shown if number in values}


def test_a_question_that_waits_is_never_forgotten() -> None:
    study = optuna.create_study(storage=Memory())
    study.enqueue_trial({"x": 0.25})
    for _ in range(3 * NEWEST):
        study.add_trial(optuna.create_trial(value=0.0))
    assert study.ask().suggest_float("x", 0, 1) == 0.25
