"""AdamW under linear warm-up and a cosine, as FARE and the loss-function study have it; the rate follows the step."""

import math
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
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    schedule: Literal["cosine", "constant"] = "cosine"
    accumulate: PositiveCount = 1  # each batch in this many parts: the same numbers in less memory

    def rate(self, step: int) -> float:
        """The learning rate of step 0, 1, ... steps - 1."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        if self.schedule == "constant":
            return self.lr
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - self.warmup) / max(1, self.steps - self.warmup)))

    def optimizer(self, module: nn.Module) -> torch.optim.AdamW:
        """AdamW over every parameter of ``module`` that has gradients."""
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        return torch.optim.AdamW(trained, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay)


def optimizer_tensors(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """The optimizer's state by ``parameter name/entry``."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    return {
        f"{names[parameter]}/{entry}": value
        for parameter, state in optimizer.state.items()
        for entry, value in state.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """The inverse of ``optimizer_tensors``."""
    parameters = dict(module.named_parameters())
    for key, value in tensors.items():
        name, entry = key.rsplit("/", 1)
        parameter = parameters[name]
        device = torch.device("cpu") if entry == "step" else parameter.device  # AdamW counts its steps on the CPU
        optimizer.state[parameter][entry] = value.to(device)
