"""AdamW or SGD under linear warm-up and a cosine; the learning rate is a function of the step alone."""

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import torch
from annotated_types import Lt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from robustcore.types import STRICT, Count, NonNegative, Positive, PositiveCount

Beta = Annotated[NonNegative, Lt(1)]


@dataclass(frozen=True, config=STRICT)
class Optim:
    """``steps`` optimiser steps; ``warmup`` of them raise the rate from 0 to ``lr``, the rest lower it to 0."""

    lr: Positive
    steps: Count
    warmup: Count = 0
    weight_decay: NonNegative = 1e-4
    betas: tuple[Beta, Beta] = (0.9, 0.95)  # of adamw
    momentum: Beta = 0.9  # of sgd
    schedule: Literal["cosine", "constant"] = "cosine"
    accumulate: PositiveCount = 1  # each batch in this many parts: the same numbers in less memory
    kind: Literal["adamw", "sgd"] = "adamw"

    def rate(self, step: int) -> float:
        """The learning rate of step 0, 1, ... steps - 1."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        if self.schedule == "constant":
            return self.lr
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - self.warmup) / max(1, self.steps - self.warmup)))

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Over ``parameters``, at the rate ``lr``; the loop sets the rate of each step."""
        if self.kind == "sgd":
            return torch.optim.SGD(parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)
        return torch.optim.AdamW(parameters, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay)


def optimizer_tensors(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The optimizer's state by ``parameter name/entry``."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in parameters.items()}
    return {
        f"{names[parameter]}/{entry}": value
        for parameter, state in optimizer.state.items()
        for entry, value in state.items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], tensors: dict[str, Tensor]
) -> None:
    """The inverse of ``optimizer_tensors``."""
    for key, value in tensors.items():
        name, entry = key.rsplit("/", 1)
        parameter = parameters[name]
        device = torch.device("cpu") if entry == "step" else parameter.device  # AdamW counts its steps on the CPU
        optimizer.state[parameter][entry] = value.to(device)
