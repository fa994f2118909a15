"""Two processes over gloo, with shares that do not divide evenly, give the numbers of one."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from robustcore.errors import InputError
from robustcore.finetune import State, finetune
from robustcore.process import Process
from robustcore.recipe import recipe_from
from tests.support import drift, recipe_plain, small_recipe

WORLD_SIZE = 2


def questions(data: Path) -> dict[str, dict[str, Any]]:
    """Recipes by name. A batch of 11 is 5 and 6 images; of a set of one image, one process has none."""
    evaluation = {
        "every": 2,
        "datasets": {
            "digits": {"kind": "parquet", "path": str(data), "split": "test"},
            "one": {"kind": "parquet", "path": str(data), "split": "test", "limit": 1},
        },
        "attacks": {"pgd": {"kind": "pgd", "ball": {"kind": "linf", "eps": "16/255"}, "steps": 3}},
    }
    common = {"data__batch_size": 11, "evaluation": evaluation}
    variants: dict[str, dict[str, Any]] = {
        "fare": {},
        "tecoa": {"loss": {"kind": "tecoa", "alpha": 1}},
        "accumulated": {"optim__accumulate": 4, "attack__ball": {"kind": "l2", "eps": 0.5}},
        "batch of three": {"data__batch_size": 3},
        "tima": {"loss": {"kind": "tima", "alpha": 1}, "text": {"optim": {"lr": 1e-3, "steps": 2}}},
        "lora on both towers": {
            "model__lora": {"towers": "both", "dropout": 0.25},
            "loss": {"kind": "tecoa"},
            "optim__accumulate": 2,
            "attack": {"kind": "universal", "ball": {"kind": "linf", "eps": 0.1}, "steps": 2},
        },
        "simclr": {"model": {"kind": "simclr", "weights": "digits-simclr"}},
    }
    return {name: recipe_plain(data, **(common | changes)) for name, changes in variants.items()}


NAMES = tuple(questions(Path()))
BROKEN = "fare"  # the recipe that is also stopped between two evaluations


@dataclass(frozen=True)
class Answer:
    """What a run reported, and its last weights."""

    metrics: list[dict[str, float]]
    weights: dict[str, Tensor]


def answered(plain: dict[str, Any], process: Process, resume: State | None = None) -> Answer:
    progress = list(finetune(recipe_from(plain), process, resume))
    return Answer([one.metrics for one in progress], progress[-1].state().weights)


def run_rank(rank: int, data: Path, folder: Path) -> None:
    """Executed in each process: every recipe in turn; what comes out goes into files."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD_SIZE
    )
    process = Process(rank=rank, world_size=WORLD_SIZE, cache=folder)
    for name, plain in questions(data).items():
        answer = answered(plain, process)
        (folder / f"{name}-{rank}.json").write_text(json.dumps(answer.metrics))
        save_file(answer.weights, folder / f"{name}-{rank}.safetensors")
    again = answered(questions(data)[BROKEN], process, stopped_between(questions(data)[BROKEN], process, folder))
    (folder / f"again-{rank}.json").write_text(json.dumps(again.metrics))
    torch.distributed.destroy_process_group()


def stopped_between(plain: dict[str, Any], process: Process, folder: Path) -> State:
    """The state after one step, before the first evaluation, as the first process has it."""
    between = next(finetune(recipe_from(plain), process, is_wanted=lambda: True))
    assert (between.step, between.metrics) == (1, {})
    state = between.state()
    if process.rank == 0:
        save_file(state.weights, folder / "weights.safetensors")
        save_file(state.optimizer, folder / "optimizer.safetensors")
    torch.distributed.barrier()
    return State(1, load_file(folder / "weights.safetensors"), load_file(folder / "optimizer.safetensors"))


@pytest.fixture(scope="module")
def ranks(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which each process has left its answers."""
    folder = tmp_path_factory.mktemp("ranks")
    spawn(run_rank, (digits, folder), WORLD_SIZE)
    return folder


@pytest.fixture(scope="module")
def together(ranks: Path) -> dict[str, list[Answer]]:
    """Per recipe, the answer of each process."""
    return {
        name: [
            Answer(
                json.loads((ranks / f"{name}-{rank}.json").read_text()),
                load_file(ranks / f"{name}-{rank}.safetensors"),
            )
            for rank in range(WORLD_SIZE)
        ]
        for name in NAMES
    }


@pytest.mark.parametrize("name", NAMES)
def test_all_processes_report_the_same_metrics_and_hold_the_same_weights(
    name: str, together: dict[str, list[Answer]]
) -> None:
    first, *others = together[name]
    for other in others:
        assert other.metrics == first.metrics
        assert all(torch.equal(value, other.weights[key]) for key, value in first.weights.items())


@pytest.mark.parametrize("name", NAMES)
def test_several_processes_give_the_numbers_of_one(
    name: str, together: dict[str, list[Answer]], digits: Path, tmp_path: Path
) -> None:
    alone = answered(questions(digits)[name], Process(cache=tmp_path))
    shared = together[name][0]
    for one, other in zip(alone.metrics, shared.metrics, strict=True):
        assert one.keys() == other.keys()
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-3)
        for metric in one.keys() - {"loss"}:  # shares of 31 images, of 1, and their means
            assert other[metric] == pytest.approx(one[metric], abs=1 / 31 / 2)
    if name in ("lora on both towers", "simclr"):
        for key, value in alone.weights.items():
            change = (shared.weights[key] - value).double().norm()
            assert change <= 2e-2 * value.double().norm() + 1e-6, key
    else:
        assert drift(vision(alone.weights), vision(shared.weights)) < 2e-3


def test_stopped_between_two_evaluations_all_processes_go_on_as_if_nothing_had_happened(
    ranks: Path, together: dict[str, list[Answer]]
) -> None:
    for rank in range(WORLD_SIZE):
        assert json.loads((ranks / f"again-{rank}.json").read_text()) == together[BROKEN][rank].metrics
    assert all("zero_gradient/training" in metrics for metrics in together[BROKEN][0].metrics)


def vision(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if not name.startswith("text.")}


def test_a_batch_with_fewer_images_than_processes_is_refused(digits: Path) -> None:
    with pytest.raises(InputError, match="at least one image for each of 2 workers, got a batch of 1") as caught:
        next(finetune(small_recipe(digits, data__batch_size=1), Process(world_size=WORLD_SIZE)))
    assert caught.value.key == "data.batch_size"
