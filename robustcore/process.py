"""One training process among several: its rank, its device, and the sums it shares with the others."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Process:
    """Handed in by whoever starts the loop; the defaults are one process on the CPU."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    cache: Path = field(default_factory=lambda: Path(gettempdir()) / "robustcore")  # original embeddings live here
    shared: str = ""  # path or URI of the place where machines leave them for each other

    def __post_init__(self) -> None:
        object.__setattr__(self, "cache", self.cache.expanduser())

    def wrap(self, module: nn.Module) -> nn.Module:
        """``module`` with gradients averaged over all processes."""
        return module if self.world_size == 1 else DistributedDataParallel(module)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """For parameters outside ``wrap``: the mean over all processes, in place."""
        if self.world_size > 1:
            for parameter in parameters:
                assert parameter.grad is not None, "every process trains the same parameters"
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad /= self.world_size

    def summed(self, tensor: Tensor) -> Tensor:
        """``tensor`` summed over all processes, in place, on its device: nobody waits for the host."""
        if self.world_size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def agree(self, tensors: Iterable[Tensor]) -> None:
        """Everyone takes over, in place, what the first process has: machines may differ in the last bits."""
        if self.world_size > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor.detach(), 0)

    def total(self, values: Tensor) -> Tensor:
        """The sum of ``values`` over all processes, in float64, on the CPU."""
        values = values.to(self.device, torch.float64)
        if self.world_size > 1:
            torch.distributed.all_reduce(values)
        return values.cpu()


def best_device() -> torch.device:
    """The GPU of this process if it has one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
