"""The learning rate of every step in closed form, and an optimiser that goes on as if it had never stopped."""

import math
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from robustcore.optim import Optim, optimizer_tensors, restore_optimizer

RATES: TypeAdapter[Optim] = TypeAdapter(Optim)


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (1, 1), (10, 0), (10, 4), (10, 9), (10, 10), (500, 35)])
def test_the_rate_rises_in_a_line_and_falls_in_a_cosine(steps: int, warmup: int) -> None:
    optim = Optim(lr=2.0, steps=steps, warmup=warmup)
    rates = [optim.rate(step) for step in range(steps)]
    assert rates[:warmup] == pytest.approx([2 * (step + 1) / warmup for step in range(warmup)])
    falling = steps - warmup
    assert rates[warmup:] == pytest.approx([1 + math.cos(math.pi * step / max(1, falling)) for step in range(falling)])
    assert all(0 < rate <= 2 for rate in rates)


def test_a_constant_rate_stays_after_the_warm_up() -> None:
    optim = Optim(lr=2.0, steps=8, warmup=4, schedule="constant")
    assert [optim.rate(step) for step in range(8)] == [0.5, 1, 1.5, 2, 2, 2, 2, 2]


@pytest.mark.parametrize(
    "wrong",
    [{"lr": 0}, {"lr": -1}, {"steps": -1}, {"steps": 1.5}, {"betas": (0.9, 1)}, {"accumulate": 0}, {"schedule": "x"}],
)
def test_values_that_make_no_schedule_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RATES.validate_python({"lr": 1, "steps": 1} | wrong)


def test_the_recipes_numbers_reach_adamw() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    optimizer = Optim(lr=0.1, steps=1, weight_decay=0.3, betas=(0.5, 0.6)).optimizer(module[0].parameters())
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"], group["betas"]) == (0.1, 0.3, (0.5, 0.6))
    assert {id(parameter) for parameter in group["params"]} == {id(parameter) for parameter in module[0].parameters()}


def trained(module: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> list[Tensor]:
    for step in steps:
        optimizer.zero_grad()
        module(torch.full((4, 3), 0.1 * step)).square().sum().backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in module.parameters()]


def test_the_recipes_numbers_reach_sgd() -> None:
    optimizer = Optim(kind="sgd", lr=0.1, steps=1, weight_decay=0.3, momentum=0.5).optimizer(
        nn.Linear(2, 3).parameters()
    )
    (group,) = optimizer.param_groups
    assert isinstance(optimizer, torch.optim.SGD)
    assert (group["lr"], group["weight_decay"], group["momentum"]) == (0.1, 0.3, 0.5)


@pytest.mark.parametrize(
    ("kind", "entries"), [("adamw", {"step", "exp_avg", "exp_avg_sq"}), ("sgd", {"momentum_buffer"})]
)
def test_a_restored_optimiser_goes_on_bit_for_bit(kind: Any, entries: set[str]) -> None:
    torch.manual_seed(0)
    module, optim = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), Optim(lr=0.01, steps=10, kind=kind)
    optimizer = optim.optimizer(module.parameters())
    trained(module, optimizer, range(5))
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    state = {
        name: value.clone() for name, value in optimizer_tensors(optimizer, dict(module.named_parameters())).items()
    }
    expected = trained(module, optimizer, range(5, 10))

    again = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    again.load_state_dict(weights)
    second = optim.optimizer(again.parameters())
    restore_optimizer(second, dict(again.named_parameters()), state)
    assert {name.rsplit("/", 1)[1] for name in state} == entries
    assert all(map(torch.equal, trained(again, second, range(5, 10)), expected))
