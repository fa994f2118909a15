"""The sweep between Ray's hooks and its results: trials are ended by hand, everything that outlives them is real."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from sweeps.study import Study, load_study
from sweeps.study.space import Choice, Knob, Uniform
from tests.sweeps.commands import write_study
from tests.sweeps.sessions import Session, result, session
from trainables.worker import Assignment


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Eight questions at random to only two recipes."""
    written = write_study(tmp_path)
    return load_study(str(written), ["search={sampler: random, trials: 8}", f"storage={tmp_path}/runs"])


@pytest.mark.parametrize("ends_as", ["finished", "stopped", "failed"])
def test_a_duplicate_of_a_trial_that_has_ended_takes_its_outcome_at_once(study: Study, ends_as: str) -> None:
    only = session(study)
    while (assignment := only.sweep.next_assignment()) is not None:
        only.run(assignment.trial, ends_as)
    paid = [record for record in only.records if not record.copy_of]
    assert len(only.records) == 8
    assert len(paid) == 2
    sources = {record.trial: record for record in paid}
    for record in only.records:
        source = sources[record.copy_of or record.trial]
        assert (record.knobs, record.recipe_hash) == (source.knobs, source.recipe_hash)
        assert (record.state, record.evaluations, record.device) == (ends_as, source.evaluations, "cpu")
        if record.copy_of:
            assert f"the same knobs as trial {source.trial}" in record.reason
            assert source.reason in record.reason


def test_duplicates_of_a_trial_under_way_settle_the_moment_it_ends(study: Study) -> None:
    only = session(study)
    first, second = only.assignments()
    copies = {trial: [r for r in only.records if r.copy_of == trial] for trial in (first, second)}
    assert sum(map(len, copies.values())) == 6
    only.run(first)
    assert {record.state for record in copies[first]} == {"finished"}
    assert {record.state for record in copies[second]} == {"pending"}
    assert {only.on_disk[record.trial].state for record in copies[first]} == {"finished"}
    only.run(second, "failed")
    assert {record.state for record in copies[second]} == {"failed"}
    assert not only.sweep.unfinished()


@pytest.mark.parametrize("total", [1, 2, 5, 8])
def test_copies_count_as_trials(study: Study, total: int) -> None:
    only = session(study, total)
    for trial in only.assignments():
        only.run(trial)
    assert len(only.records) == total
    assert only.sweep.next_assignment() is None


def test_mlflow_hears_of_every_trial_once_from_start_to_end(study: Study) -> None:
    only = session(study)
    for trial in only.assignments():
        only.run(trial)
    assert only.heard.by_trial == {f"{number:04d}": ["start", 2, 4, "finished"] for number in range(8)}


def test_a_copy_is_never_on_the_front(study: Study) -> None:
    only = session(study)
    for trial in only.assignments():
        only.run(trial)
    only.sweep.close()
    members, volume, finished = only.heard.fronts[-1]
    assert members == [record.trial for record in only.records if not record.copy_of]
    assert volume == pytest.approx(0.86 * 0.4)
    assert finished == 8


def test_what_started_or_ended_is_on_disk_at_once(study: Study) -> None:
    only = session(study)
    trial = only.begin()
    assert only.on_disk[trial].state == "running"
    assert only.on_disk[trial].started == only.sweep.results.records[trial].started
    only.sweep.evaluated(trial, result(4, final=True))
    only.sweep.ended(trial)
    assert only.on_disk == only.sweep.results.records
    assert only.on_disk[trial].state == "finished"


def test_after_a_restart_unfinished_trials_come_first_under_their_own_names(study: Study) -> None:
    killed = session(dataclasses.replace(study, knobs={"seed": Choice(tuple(range(100)))}))
    trials = [killed.begin() for _ in range(4)]
    killed.sweep.evaluated(trials[1], result(4, final=True))
    killed.sweep.ended(trials[1])
    assignments = {record.trial: record.recipe for record in killed.records}

    resumed = session(killed.sweep.study)
    assert [record.trial for record in resumed.sweep.unfinished()] == ["0000", "0002", "0003"]
    again = [resumed.sweep.next_assignment() for _ in range(3)]
    assert [assignment and assignment.trial for assignment in again] == ["0000", "0002", "0003"]
    assert all(assignment and assignment.recipe == assignments[assignment.trial] for assignment in again)
    assert resumed.assignments() == ["0004", "0005", "0006", "0007"]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_a_sweep_killed_in_every_trial_asks_what_an_undisturbed_one_asks(
    study: Study, sampler: Any, tmp_path: Path
) -> None:
    search = dataclasses.replace(study.search, sampler=sampler, trials=7)
    study = dataclasses.replace(study, search=search, knobs={"loss.alpha": Uniform((0, 1))})
    undisturbed = session(dataclasses.replace(study, storage=str(tmp_path / "undisturbed")))
    for _ in range(7):
        undisturbed.run(undisturbed.begin())
    for _ in range(7):
        killed = session(study)
        trial = killed.begin()
        resumed = session(study)
        assert resumed.begin() == trial
        resumed.run(trial)
    assert [record.knobs for record in resumed.records] == [record.knobs for record in undisturbed.records]


def test_duplicates_of_an_unfinished_trial_wait_for_it_across_a_restart(study: Study) -> None:
    killed = session(study)
    first, second = killed.assignments()
    killed.sweep.started(first)
    resumed = session(study)
    assert resumed.assignments() == [first, second]
    for trial in (first, second):
        resumed.run(trial)
    assert [record.state for record in resumed.records] == ["finished"] * 8
    assert sum(bool(record.copy_of) for record in resumed.records) == 6


def test_a_trial_that_reports_its_past_again_records_nothing_twice(study: Study) -> None:
    killed = session(study)
    trial = killed.begin()
    killed.sweep.evaluated(trial, result(2))
    killed.sweep.close()
    started = killed.on_disk[trial].started

    resumed = session(study)
    assert resumed.begin() == trial
    resumed.sweep.evaluated(trial, result(2))
    resumed.sweep.evaluated(trial, result(4, final=True))
    resumed.sweep.ended(trial)
    assert [evaluation.step for evaluation in resumed.on_disk[trial].evaluations] == [2, 4]
    assert resumed.on_disk[trial].started == started
    assert resumed.heard.by_trial[trial] == ["start", 4, "finished"]


def test_a_finished_trial_whose_end_was_not_seen_finishes_when_it_reports_again(study: Study) -> None:
    killed = session(study)
    trial = killed.begin()
    killed.sweep.evaluated(trial, result(4, final=True))
    killed.sweep.close()
    assert killed.on_disk[trial].state == "running"

    resumed = session(study)
    assert resumed.begin() == trial
    resumed.sweep.evaluated(trial, result(4, final=True))
    resumed.sweep.ended(trial)
    assert resumed.on_disk[trial].state == "finished"


def test_knobs_that_do_not_go_together_fail_with_a_sentence_and_the_sweep_goes_on(study: Study) -> None:
    """A check that was fed other ranges, or too many combinations, may let them pass."""
    knobs: dict[str, Knob] = {"optim.warmup": Choice((0, 9)), "loss.alpha": Choice((0, 1))}
    only = session(dataclasses.replace(study, knobs=knobs, search=dataclasses.replace(study.search, trials=12)))
    for trial in only.assignments():
        only.run(trial)
    only.sweep.close()
    assert len(only.on_disk) == 12
    impossible = [record for record in only.on_disk.values() if record.knobs["optim.warmup"] == 9]
    assert impossible
    for record in only.on_disk.values():
        assert record.state == ("failed" if record in impossible else "finished")
    for record in impossible:
        assert "these knobs do not go together" in record.reason
        assert "optim.warmup (9) exceeds optim.steps (4)" in record.reason
        assert "\n" not in record.reason
        assert only.heard.by_trial[record.trial] == ["start", "failed"]


def test_a_trial_that_reached_its_last_step_is_finished_and_any_other_was_stopped(study: Study) -> None:
    only = session(study)
    first, second = only.assignments()
    only.run(first, "stopped")
    only.run(second, "finished")
    stopped, finished = (only.sweep.results.records[trial] for trial in (first, second))
    assert (stopped.state, finished.state) == ("stopped", "finished")
    assert "step 2" in stopped.reason
    assert not finished.reason


def test_a_failed_trial_has_its_own_reason_and_a_bug_its_traceback_in_a_file(study: Study) -> None:
    only = session(study)
    first, second = only.assignments()
    only.run(first, "failed")
    only.sweep.started(second)
    failure = result(0, final=True, failure="KeyError: 'x'", traceback="Traceback\n  ...\nKeyError: 'x'")
    only.sweep.evaluated(second, failure)
    only.sweep.ended(second)
    records = only.on_disk
    assert records[first].reason == "the training loss became nan"
    assert [evaluation.step for evaluation in records[first].evaluations] == [2]
    assert records[second].reason.startswith("KeyError: 'x' (see ")
    file = Path(records[second].reason.partition("(see ")[2].removesuffix(")"))
    assert file.read_text().endswith("KeyError: 'x'")
    assert not records[second].evaluations


def test_a_trial_whose_process_was_lost_too_often_fails_and_says_so(study: Study) -> None:
    only = session(study)
    trial = only.begin()
    only.sweep.started(trial)  # on another machine
    only.sweep.evaluated(trial, result(2))
    only.sweep.ended(trial, error="given up after 3 tries: the node died")
    assert only.on_disk[trial].state == "failed"
    assert only.on_disk[trial].reason == "given up after 3 tries: the node died"


def test_an_assignment_carries_the_recipe_the_resources_and_where_the_files_are(study: Study) -> None:
    study = dataclasses.replace(study, resources=dataclasses.replace(study.resources, workers=2, cpus=3))
    assignment = session(study).sweep.next_assignment()
    assert assignment == Assignment(
        trial="0000",
        recipe=study.recipe_at(session(study).sweep._search.ask()[0]),
        folder=f"{study.storage}/tiny/trials/0000",
        cache=f"{study.storage}/original_embeddings",
        workers=2,
        cpus=3,
        gpus=0,
        study=f"{study.storage}/tiny",
        patience=120.0,
    )


def test_the_front_is_drawn_at_the_end_and_every_ending_is_shown(study: Study) -> None:
    only = session(study)
    for trial in only.assignments():
        only.run(trial)
    only.sweep.close()
    assert {"front.png", "front.html", "front.json"} <= set(only.sweep.folder.names())
    lines = only.shown.getvalue().splitlines()
    for record in only.records:
        assert sum(line.startswith(f"trial {record.trial} finished") for line in lines) == 1
    assert "8 of 8 trials done" in lines[-1]


def repeating(study: Study, seeds: int, storage: Path) -> Study:
    """Five trials on a line through clean and pgd, none of them better than another."""
    search = dataclasses.replace(study.search, sampler="random", trials=5, seeds=seeds)
    return dataclasses.replace(study, search=search, knobs={"loss.alpha": Uniform((0, 1))}, storage=str(storage))


def outcome(clean: float, pgd: float) -> dict[str, Any]:
    metrics = {"clean": clean, "clean/digits": clean, "pgd": pgd, "pgd/digits": pgd}
    return {**result(4, final=True), "metrics": metrics, "samples": {"digits": 400}}


# By trial: the two best of the search are one lucky and one steady; the third is as good and was unlucky.
RUNS = {
    "0000": (0.90, 0.60), "0000.1": (0.90, 0.40), "0000.2": (0.90, 0.41),
    "0001": (0.90, 0.57), "0001.1": (0.90, 0.56), "0001.2": (0.90, 0.55),
    "0002": (0.90, 0.45), "0002.1": (0.90, 0.70), "0002.2": (0.90, 0.71),
    "0003": (0.10, 0.10), "0004": (0.10, 0.10),
}  # fmt: skip


def run_all(only: Session, most: int = 99) -> list[str]:
    """End at most ``most`` trials as ``RUNS`` has it, one after the other."""
    ran = []
    while len(ran) < most and (assignment := only.sweep.next_assignment()) is not None:
        ran.append(assignment.trial)
        only.sweep.started(assignment.trial)
        only.sweep.evaluated(assignment.trial, outcome(*RUNS[assignment.trial]))
        only.sweep.ended(assignment.trial)
    return ran


def test_front_candidates_run_again_with_the_seeds_after_their_own(study: Study, tmp_path: Path) -> None:
    only = session(repeating(study, 3, tmp_path / "all"))
    # 0002 is clearly worse than 0000 by its first run, and 0001 is not; neither is the front of the means.
    assert run_all(only) == [*(f"000{n}" for n in range(5)), "0000.1", "0000.2", "0001.1", "0001.2"]
    (best,) = only.sweep.front()
    assert (best.trial, best.metrics["pgd"]) == ("0001", pytest.approx(0.56))
    repeat = only.on_disk["0001.2"]
    first = only.on_disk["0001"]
    assert (repeat.repeat_of, repeat.seed, repeat.knobs) == ("0001", 2, first.knobs)
    assert repeat.recipe == {**first.recipe, "seed": 2}
    assert repeat.recipe_hash not in (first.recipe_hash, only.on_disk["0001.1"].recipe_hash)
    assert "9 of 9 trials done" in only.shown.getvalue()
    assert not only.sweep.has_repeats()


def test_who_comes_out_on_the_front_of_the_means_is_repeated_too(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for trial in ("0000.1", "0000.2", "0001.1", "0001.2"):
        monkeypatch.setitem(RUNS, trial, (0.90, 0.10))
    only = session(repeating(study, 3, tmp_path / "all"))
    assert run_all(only)[9:] == ["0002.1", "0002.2"]
    assert [(r.trial, r.metrics["pgd"]) for r in only.sweep.front()] == [("0002", pytest.approx(0.62))]


def test_a_sweep_killed_among_its_repeats_repeats_what_an_undisturbed_one_does(study: Study, tmp_path: Path) -> None:
    undisturbed, killed = repeating(study, 3, tmp_path / "all"), repeating(study, 3, tmp_path / "killed")
    ran = run_all(session(undisturbed))
    assert run_all(session(killed), 6) == ran[:6]
    assert run_all(session(killed)) == ran[6:]


def test_a_sweep_with_repeats_goes_on_asking_where_it_stopped(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for trial in ("0005", "0006"):
        monkeypatch.setitem(RUNS, trial, (0.1, 0.1))
    extended, straight = repeating(study, 2, tmp_path / "extended"), repeating(study, 1, tmp_path / "straight")
    run_all(session(extended))
    resumed, asked = session(extended, total=7), session(straight, total=7)
    assert run_all(resumed) == ["0005", "0006"]
    run_all(asked)
    assert [r.knobs for r in resumed.records if not r.repeat_of] == [r.knobs for r in asked.records]


def test_repeats_wait_for_every_trial_of_the_search(study: Study, tmp_path: Path) -> None:
    only = session(repeating(study, 2, tmp_path / "all"))
    first, *others = [only.begin() for _ in range(5)]
    for trial in others:
        only.run(trial)
        assert only.sweep.next_assignment() is None
        assert only.sweep.has_repeats()
    only.run(first)
    assert not only.sweep.has_repeats()
    assert only.sweep.next_assignment() is not None
