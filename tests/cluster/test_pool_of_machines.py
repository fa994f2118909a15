"""One sweep on a pool that grows and shrinks, watched from outside, while a machine is killed and one is taken back."""

import re

import pytest

from tests.cluster.machines import IDLE, Watch, machines
from tests.cluster.swept import EVERY, PATIENCE, study, swept, watched_path
from tests.sweeps import faults

MOST, TRIALS, STEPS = 2, 2, 40
LATE = 5.0  # seconds that a machine may stay longer than it must


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """A head without a CPU, and room for two machines of one CPU and one GPU."""
    steps = tmp_path_factory.mktemp("steps")
    with machines({"gpu": ({"CPU": 1, "GPU": 1}, MOST)}, environment=watched_path(steps)) as found:
        yield found, steps


@pytest.fixture(scope="module")
def done(pool, tmp_path_factory):
    """The sweep, and what was seen of the pool: one of two machines is killed, later one is given notice."""
    there, steps = pool
    folder = tmp_path_factory.mktemp("swept")
    with Watch(there) as watch, swept(there, folder, study(TRIALS, STEPS), steps) as found:
        found.wait_for_steps(EVERY + 5)
        there.kill(found.busy())
        found.wait_for_steps(3 * EVERY)
        there.drain(found.busy(), 30)
        assert found.end() == 0, found.log.read_text()
        faults.wait_until(lambda: watch.now == 0, PATIENCE, "an empty pool")
        yield found, watch


@pytest.fixture(scope="module")
def trials(done):
    return done[0].trials()


def test_every_trial_ends_although_machines_are_lost(trials):
    assert [(trial["state"], trial["step"]) for trial in trials] == [("finished", STEPS)] * TRIALS


def test_the_pool_grows_from_nothing_to_its_most_and_is_empty_soon_after_the_last_trial(done):
    found, watch = done
    assert watch.seen[0][1] == 0
    assert watch.most == MOST
    ended = found.last_checkpoint()
    assert watch.first(0, after=ended) - ended < IDLE + LATE


def test_a_lost_machine_costs_the_steps_since_the_last_checkpoint_and_one_that_gives_notice_none(done):
    found, _ = done
    lost = found.total() - TRIALS * STEPS
    assert 0 <= lost <= EVERY  # of both together


def test_the_records_say_what_happened_and_no_try_is_counted(trials):
    notes = [note for trial in trials for note in trial.get("notes", [])]
    assert notes
    assert all(re.fullmatch(r"its machine was taken away after step \d+", note) for note in notes)


def test_who_waits_for_machines_is_not_warned(done):
    said = done[0].log.read_text()
    assert "WARNING" not in said
    assert "insufficient" not in said.lower()


def test_a_study_that_no_machine_of_the_pool_can_hold_is_refused(pool, tmp_path):
    there, steps = pool
    text = study(TRIALS, STEPS).replace("cpus: 1,", "cpus: 2,")
    with swept(there, tmp_path, text, steps) as found:
        assert found.end() == 2
        said = found.log.read_text()
    assert "a trial takes 1 x (2 CPUs, 0 GPUs), and no place has that" in said
    assert "the cluster grows by no more than 2 x gpu (1 CPUs, 1 GPUs)" in said
    assert not (found.storage / "tiny" / "results.parquet").exists()
