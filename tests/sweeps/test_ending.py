"""A sweep that ends before its last trial: what is kept, what is said, and what a later process finds."""

import dataclasses
import os
import signal
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from robustcore.storage import StorageLost
from sweeps.ending import Ending
from sweeps.options import Verbs
from sweeps.study import Study, load_study
from tests.sweeps.commands import write_study
from tests.sweeps.sessions import result, session


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return dataclasses.replace(load_study(str(write_study(tmp_path))), storage=str(tmp_path / "runs"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_once_and_ends_the_second_time(number: signal.Signals) -> None:
    before, ending = signal.getsignal(number), Ending()
    with ending.on_signals():
        os.kill(os.getpid(), number)
        assert ending.was_asked
        assert ending.reason
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(("handles_it", "code", "said"), [(True, 1, "kept, in its own words\n"), (False, 130, None)])
def test_a_verb_that_handles_ctrl_c_itself_has_the_last_word(handles_it: bool, code: int, said: str | None) -> None:
    @click.group(cls=Verbs)
    def verbs() -> None:
        """Of this test."""

    @verbs.command()
    def verb() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            if not handles_it:
                raise
            click.echo("kept, in its own words", err=True)
            sys.exit(1)

    result = CliRunner().invoke(verbs, ["verb"])
    assert result.exit_code == code
    assert result.stderr == (said or "interrupted; what was finished is kept\n")


def test_the_first_reason_counts() -> None:
    ending, other = Ending(), Ending()
    ending.taken_over = other.taken_over = lambda: "another one runs it"
    ending.ask("the disk is full")
    assert ending.reason == "the disk is full"
    assert other.reason == "another one runs it"


def test_an_error_of_ours_ends_the_sweep_and_is_kept_to_be_raised() -> None:
    ending = Ending()
    with ending.on_errors():
        raise KeyError("a bug")
    assert isinstance(ending.error, KeyError)
    storage = Ending()
    with storage.on_errors():
        raise StorageLost("the disk is full")
    assert (storage.error, storage.reason) == (None, "the disk is full")


def test_a_trial_that_lost_its_storage_is_neither_finished_nor_failed_and_ends_the_sweep(study: Study) -> None:
    only = session(study)
    trial = only.begin()
    only.sweep.evaluated(trial, result(2))
    only.sweep.evaluated(trial, {**result(2, final=True), "lost": "/x cannot be used: it is gone; tried for 120 s"})
    only.sweep.ended(trial)
    assert only.sweep.ending.reason == f"trial {trial} could not go on: /x cannot be used: it is gone; tried for 120 s"
    assert only.sweep.next_assignment() is None
    assert not only.sweep.has_repeats()
    only.sweep.close()
    assert not only.sweep.is_complete()
    assert only.on_disk[trial].state == "running"
    assert only.heard.by_trial[trial] == ["start", 2, "running"]  # MLflow says KILLED to this
    later = session(study)
    assert later.begin() == trial


def test_an_ended_sweep_asks_for_no_more_trials_and_is_not_complete(study: Study) -> None:
    only = session(study)
    only.run(only.begin())
    only.sweep.ending.ask("it was interrupted")
    assert only.sweep.next_assignment() is None
    only.sweep.close()
    assert not only.sweep.is_complete()
    later = session(study)
    for trial in later.assignments():
        later.run(trial)
    assert later.sweep.is_complete()


def test_results_that_cannot_be_saved_end_the_sweep_and_are_found_again(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_PATIENCE", "0.2")
    only = session(study)
    trial = only.begin()
    folder = Path(study.storage)
    folder.rename(folder.with_name("away"))
    with only.sweep.ending.on_errors():
        only.run(trial)
    assert "is gone; tried for 0.2 s" in only.sweep.ending.reason
    only.sweep.close()
    assert not folder.exists()
    folder.with_name("away").rename(folder)
    assert only.on_disk[trial].state == "running"
    assert session(study).begin() == trial


def test_a_picture_that_cannot_be_written_ends_nothing(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    only = session(study)
    (only.sweep.folder.local / "front.png").mkdir()  # type: ignore[operator]
    for trial in only.assignments():
        only.run(trial)
    only.sweep.close()
    assert only.sweep.ending.reason == ""
    assert only.sweep.is_complete()


def test_who_lost_the_study_to_another_process_writes_nothing_more(study: Study) -> None:
    only = session(study)
    only.run(only.begin())
    before = Path(only.sweep.results.uri).read_bytes()
    only.sweep.ending.taken_over = lambda: "another one runs it now"
    only.sweep.results.records["0000"].reason = "changed"
    only.sweep.close()
    assert Path(only.sweep.results.uri).read_bytes() == before
    assert only.sweep.next_assignment() is None


def test_what_happened_to_a_trial_is_said_once_and_kept(study: Study) -> None:
    only = session(study)
    trial = only.begin()
    note = "checkpoint step-00000004 is damaged (its checksum is wrong): it went on from step 2"
    only.sweep.evaluated(trial, {**result(2), "notes": [note]})
    only.sweep.evaluated(trial, {**result(4, final=True), "notes": [note]})
    only.sweep.ended(trial)
    assert only.on_disk[trial].notes == [note]
    assert only.on_disk[trial].as_json()["notes"] == [note]
    assert only.shown.getvalue().count(f"trial {trial}: {note}") == 1
