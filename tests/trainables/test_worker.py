"""What a training process reports, and how it fails: with a sentence alone, with a note where others wait for it."""

from dataclasses import replace

import pytest
import torch
from torch.distributed import DistBackendError

from robustcore.errors import InputError
from robustcore.process import Process
from robustcore.recipe import recipe_from
from robustcore.storage import Folder
from tests.support import recipe_plain, write_digits
from trainables import worker
from trainables.checkpoints import load_checkpoint
from trainables.worker import Assignment, results


@pytest.fixture
def assignment(tmp_path):
    plain = recipe_plain(write_digits(tmp_path / "digits.parquet", train=32, test=16))
    return Assignment("0000", plain, str(tmp_path / "trial"), str(tmp_path / "cache"))


def test_a_trial_reports_each_evaluation_and_says_which_is_the_last(assignment):
    found = list(results(assignment, Process()))
    assert [result["final"] for result in found] == [False] * (len(found) - 1) + [True]
    assert all(result["failure"] == "" for result in found)


def test_a_finished_trial_reports_its_past_again_and_trains_no_more(assignment, monkeypatch):
    first = list(results(assignment, Process()))
    monkeypatch.setattr(worker, "finetune", None)
    assert list(results(assignment, Process())) == first


def test_a_recipe_that_another_study_trained_is_not_paid_for_again(assignment, tmp_path, monkeypatch):
    first = list(results(assignment, Process()))
    again = replace(assignment, folder=str(tmp_path / "other"), earlier=assignment.folder)
    with monkeypatch.context() as patch:
        patch.setattr(worker, "finetune", None)
        found = list(results(again, Process()))
    assert [{**result, "notes": []} for result in found] == first
    assert found[0]["notes"] == [f"its recipe was trained before, in {assignment.folder}: it takes the result"]
    fingerprint = recipe_from(assignment.recipe).fingerprint()
    mine, its = (load_checkpoint(Folder(each.folder).at("checkpoints"), fingerprint) for each in (again, assignment))
    assert mine.reports == its.reports
    assert all(torch.equal(mine.state.weights[name], weights) for name, weights in its.state.weights.items())


@pytest.mark.parametrize("spoilt", ["absent", "unfinished", "of another recipe"])
def test_what_another_study_left_half_done_is_trained_here(spoilt, assignment, tmp_path):
    earlier = replace(assignment, folder=str(tmp_path / "earlier"))
    if spoilt == "of another recipe":
        list(results(replace(earlier, recipe={**earlier.recipe, "seed": 1}), Process()))
    elif spoilt == "unfinished":
        next(results(earlier, Process()))
    found = list(results(replace(assignment, earlier=earlier.folder), Process()))
    expected = list(results(replace(assignment, folder=str(tmp_path / "alone")), Process()))
    for result in [*found, *expected]:
        del result["seconds"]
    assert found == expected


def test_missing_data_are_a_sentence_without_a_traceback(assignment):
    missing = {"kind": "parquet", "path": "nowhere.parquet"}
    lost = replace(assignment, recipe={**assignment.recipe, "data": {**assignment.recipe["data"], "train": missing}})
    (result,) = results(lost, Process())
    assert "nowhere.parquet" in result["failure"]
    assert result["traceback"] == ""
    assert result["final"]


def test_a_bug_shows_its_traceback(assignment, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("a bug")

    monkeypatch.setattr(worker, "finetune", broken)
    (result,) = results(assignment, Process())
    assert result["failure"] == "RuntimeError: a bug"
    assert "in broken" in result["traceback"]


def test_one_of_several_workers_crashes_and_leaves_a_note_that_all_of_them_report(assignment, monkeypatch):
    def corrupt(*arguments):
        raise InputError("images.parquet, row 7: cannot decode the image")

    with monkeypatch.context() as patch:
        patch.setattr(worker, "finetune", corrupt)
        with pytest.raises(InputError):
            list(results(assignment, Process(rank=1, world_size=2)))
    for rank in (0, 1):
        (result,) = results(assignment, Process(rank=rank, world_size=2))
        assert result["failure"] == "images.parquet, row 7: cannot decode the image"
        assert result["final"]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.2]"),
        DistBackendError("NCCL communicator was aborted on rank 1"),
        ValueError("Default process group has not been initialized, please make sure to call init_process_group."),
    ],
)
def test_a_worker_that_fails_because_another_is_gone_leaves_no_note(assignment, monkeypatch, error):
    def alone(*arguments):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(worker, "finetune", alone)
        with pytest.raises(type(error)):
            list(results(assignment, Process(rank=0, world_size=2)))
    assert list(results(assignment, Process()))[-1]["failure"] == ""
