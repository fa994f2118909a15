"""Trials that share a GPU keep to their shares; one that runs out of memory fails alone and leaves nothing behind."""

import weakref
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from robustcore.errors import InputError
from robustcore.process import Process
from robustcore.recipe import recipe_from
from tests.support import recipe_plain, write_digits
from trainables import memory, worker
from trainables import trial as trial_module
from trainables.memory import CONTEXT, keep_to_share, share_of_torch, trials_a_gpu
from trainables.resources import Demand
from trainables.trial import InPlaceTrial, run_here
from trainables.worker import Assignment, results

GIB = 2**30


@pytest.mark.parametrize("total", [16 * GIB, 80 * GIB])
@pytest.mark.parametrize("trials", [1, 2, 3, 4, 7])
def test_what_torch_may_take_and_what_cuda_takes_is_the_share(trials: int, total: int) -> None:
    share = share_of_torch(1 / trials, total)
    assert trials * (share * total + CONTEXT) == pytest.approx(total)


def test_a_share_that_cuda_alone_would_fill_is_refused() -> None:
    with pytest.raises(InputError, match=r"a share of 0\.05 of this GPU is 0\.4 of 8 GiB") as error:
        share_of_torch(0.05, 8 * GIB)
    assert error.value.key == "resources.gpus"


@pytest.mark.parametrize("used", [0.1, 1, 7.3, 15.4, 15.5, 40])
def test_as_many_trials_are_put_on_a_gpu_as_there_is_room_for(used: float) -> None:
    taken, total = int(used * GIB), 16 * GIB
    trials = trials_a_gpu(taken, total)
    assert trials * (taken + CONTEXT) <= total < (trials + 1) * (taken + CONTEXT)
    if trials:
        assert share_of_torch(1 / trials, total) * total >= taken - 1


@pytest.mark.parametrize(
    ("gpus", "device", "limit"),
    [(0.25, "cuda:0", 0.25 - CONTEXT / (80 * GIB)), (1, "cuda:0", None), (2, "cuda:0", None), (0, "cpu", None)],
)
def test_the_share_is_enforced_on_gpus_that_are_shared_alone(
    gpus: float, device: str, limit: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two calls of torch that need a GPU are stood in for."""
    limits = []
    monkeypatch.setattr(memory, "memory_of", lambda device: 80 * GIB)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, device: limits.append((share, str(device)))
    )
    keep_to_share(gpus, torch.device(device))
    assert limits == ([] if limit is None else [(pytest.approx(limit), "cuda:0")])


@pytest.fixture
def assignment(tmp_path: Path) -> Assignment:
    plain = recipe_plain(write_digits(tmp_path / "digits.parquet", train=32, test=16))
    return Assignment("0000", plain, str(tmp_path / "trial"), str(tmp_path / "cache"))


def take_too_much() -> None:
    torch.empty(2**50, dtype=torch.uint8)  # a petabyte


def be_refused_by_the_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB.")


@pytest.mark.parametrize("fail", [take_too_much, be_refused_by_the_gpu])
def test_a_trial_that_runs_out_of_memory_names_the_knobs_and_the_next_in_its_actor_finds_all_of_it_free(
    fail: Any, assignment: Assignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []

    def greedy(*arguments: Any) -> None:
        tensor = torch.zeros(1000)
        itself = [tensor]
        itself.append(itself)  # type: ignore[arg-type]  # a circle, as graphs of gradients have them
        held.append(weakref.ref(tensor))
        fail()

    trial = InPlaceTrial.__new__(InPlaceTrial)
    with monkeypatch.context() as patch:
        patch.setattr(worker, "finetune", greedy)
        trial.setup({"assignment": asdict(assignment)})
        result = trial.step()
    assert result["done"]
    assert result["traceback"] == ""
    for word in ("out of", "memory", "data.batch_size", "optim.accumulate", "precision", "resources.gpus"):
        assert word in result["failure"]
    assert held[0]() is None
    assert trial.reset_config({"assignment": asdict(assignment)})
    while not (result := trial.step())["done"]:
        pass
    assert (result["failure"], result["step"]) == ("", 4)


def test_outside_a_sweep_it_is_an_error_of_the_request(assignment: Assignment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_module, "finetune", lambda *arguments: (take_too_much() for _ in "x"))
    with pytest.raises(InputError, match=r"out of memory: .*data\.batch_size.*resources\.gpus"):
        list(run_here(recipe_from(assignment.recipe), Demand(), Path(assignment.cache)))


def test_other_errors_are_not_taken_for_it(assignment: Assignment, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(worker, "finetune", broken)
    (result,) = results(assignment, Process())
    assert "data.batch_size" not in result["failure"]
    assert result["traceback"]
