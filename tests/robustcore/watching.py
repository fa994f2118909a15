"""Watches a run from outside: every forward pass of an encoder, and every operation that waits for the device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from robustcore.finetune import finetune
from robustcore.models import Encoder
from robustcore.process import Process
from tests.support import small_recipe

# What copies to the host, or has a result whose shape only the device knows.
_WAITING = {"_local_scalar_dense", "equal", "masked_select", "nonzero", "_unique2", "unique_consecutive", "bincount"}
# What does not become an operation where host and device are one.
_COPYING = {"__bool__", "__float__", "__int__", "as_tensor", "cpu", "item", "numpy", "tensor", "tolist"}


@dataclass(frozen=True)
class Look:
    """One forward pass of an encoder."""

    pixels: Tensor  # (B, 3, H, W)
    embeddings: Tensor  # (B, D)
    climbs: bool  # whether the pixels have a gradient
    trainable: bool  # whether a weight may get one
    descends: bool  # and does
    leaked: bool  # whether a weight has one already
    training: frozenset[str]  # the kinds of modules in training mode
    buffers: dict[str, Tensor]
    precision: torch.dtype
    threads: int


def _look(encoder: Encoder, pixels: Tensor, embeddings: Tensor) -> Look:
    trainable = any(parameter.requires_grad for parameter in encoder.parameters())
    return Look(
        pixels.detach().clone(),
        embeddings.detach().clone(),
        pixels.requires_grad,
        trainable,
        trainable and torch.is_grad_enabled(),
        any(parameter.grad is not None for parameter in encoder.parameters()),
        frozenset(type(module).__name__ for name, module in encoder.named_modules() if _trains(name, module)),
        {name: buffer.clone() for name, buffer in encoder.named_buffers()},
        torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32,
        torch.get_num_threads(),
    )


def _trains(name: str, module: nn.Module) -> bool:
    """LoRA's own modules have a mode that nothing reads."""
    return module.training and "parametrizations" not in name.split(".")


@contextmanager
def looking() -> Iterator[list[Look]]:
    """Inside, the list grows by every forward pass of every encoder."""
    looks: list[Look] = []

    def note(module: nn.Module, given: tuple[Any, ...], made: Any) -> None:
        if isinstance(module, Encoder):
            looks.append(_look(module, given[0], made))

    hook = register_module_forward_hook(note)
    try:
        yield looks
    finally:
        hook.remove()


def trained(digits: Path, cache: Path, **changes: Any) -> list[Look]:
    """Every look of a run: one step of FARE without a clean term and no attacks at the end, but for ``changes``."""
    short: dict[str, Any] = {"loss__alpha": 0, "optim": {"lr": 1e-2, "steps": 1}, "evaluation__attacks": {}}
    with looking() as looks:
        list(finetune(small_recipe(digits, **(short | changes)), Process(cache=cache)))
    return looks


def descents(looks: list[Look]) -> list[tuple[list[Look], Look]]:
    """Each look that weights learn from, with those of the attacker before it."""
    found, attack = [], []
    for look in looks:
        if look.descends and not look.climbs:
            found.append((attack, look))
            attack = []
        elif look.climbs or not look.trainable:
            attack.append(look)
    return found


def noted(function: Callable[..., Any], note: Callable[..., object]) -> Callable[..., Any]:
    """``function``, after ``note`` has been given the same."""

    def noting(*given: Any) -> Any:
        note(*given)
        return function(*given)

    return noting


class _Operations(TorchDispatchMode):
    def __init__(self, waits: list[str]) -> None:
        super().__init__()
        self._waits = waits

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = operation.name().removeprefix("aten::").partition(".")[0]
        indices = [index for some in args if isinstance(some, list | tuple) for index in some]
        by_mask = any(isinstance(index, Tensor) and index.dtype == torch.bool for index in indices)
        if name in _WAITING or (name.startswith("index") and by_mask):
            self._waits.append(name)
        return operation(*args, **(kwargs or {}))


class _Calls(TorchFunctionMode):
    def __init__(self, waits: list[str]) -> None:
        super().__init__()
        self._waits = waits

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        if name in _COPYING:
            self._waits.append(name)
        return function(*args, **(kwargs or {}))


def noting_waits(function: Callable[..., Any], waits: list[str]) -> Callable[..., Any]:
    """``function``, adding to ``waits`` what would wait for a GPU: ``.item()``, ``if tensor``, a boolean index, ..."""

    def noting(*args: Any, **kwargs: Any) -> Any:
        with _Calls(waits), _Operations(waits):
            return function(*args, **kwargs)

    return noting
