"""How a forward pass is computed: in which precision, and with or without gradients for the weights."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import nn
from torch.nn.utils import parametrize

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager[None]:
    """The forward in ``precision``; losses and attack steps stay outside, in float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision != torch.float32)


@contextmanager
def built_once() -> Iterator[None]:
    """Inside, a weight that is computed (LoRA's) is built when it is first read; attention alone reads one four times.

    For a descent or an evaluation: an attack has it from ``without_weight_gradients``. What weights are computed from
    must stay the same, and no block may be around both attack and descent: a weight that the attack built has no
    gradients.
    """
    with parametrize.cached():
        yield


@contextmanager
def without_weight_gradients(module: nn.Module) -> Iterator[None]:
    """While an attack runs, only pixels have gradients: it halves the matrix products of a backward pass.

    Weights that are computed are ``built_once``.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        with built_once():
            yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
