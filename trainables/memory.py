"""Trials that share a GPU: each keeps to its share of the memory, and one that runs out of it fails alone.

Torch counts its own memory; what CUDA takes for each process comes on top, and is in a trial's share too.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from robustcore.errors import InputError

CONTEXT = 600 * 2**20
"""Bytes that CUDA takes of a GPU for a process, kernels of torch included; 0.3 to 0.6 GiB from T4 to H100."""
_KNOBS = (
    "try a smaller data.batch_size or evaluation.batch_size, a larger optim.accumulate, precision: bf16, or a larger "
    "resources.gpus"
)
_SIGNS = ("out of memory", "can't allocate memory", "ALLOC_FAILED")


def keep_to_share(gpus: float, device: torch.device) -> None:
    """Let this process take the share ``gpus`` of the device's memory; to be called before it takes any.

    Nothing to do for whole GPUs and on a CPU. Raises InputError where the share is less than CUDA's own.
    """
    if device.type != "cuda" or gpus >= 1:
        return
    torch.cuda.set_per_process_memory_fraction(share_of_torch(gpus, memory_of(device)), device)


def memory_of(device: torch.device) -> int:
    """All bytes of a GPU, whoever has them."""
    return int(torch.cuda.get_device_properties(device).total_memory)


def share_of_torch(gpus: float, total: int) -> float:
    """Of a GPU of ``total`` bytes, what torch may take so that a share ``gpus`` holds everything."""
    if gpus * total <= CONTEXT:
        sizes = f"{gpus * total / 2**30:.2g} of {total / 2**30:.3g} GiB"
        raise InputError(f"a share of {gpus:g} of this GPU is {sizes}, less than CUDA itself takes", "resources.gpus")
    return gpus - CONTEXT / total


def trials_a_gpu(memory: int, total: int) -> int:
    """How many trials, of which torch takes ``memory`` bytes each, fit on a GPU of ``total``; 0 where none does."""
    return total // (memory + CONTEXT)


def is_out_of_memory(error: BaseException) -> bool:
    """Of a GPU or of the machine; torch has no type of its own for some of them."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def out_of_memory(error: BaseException) -> str:
    """One sentence that names the knobs, with the first words of the error."""
    place = "GPU memory" if isinstance(error, torch.OutOfMemoryError) or "CU" in str(error) else "memory"
    words = ". ".join(" ".join(str(error).split()).split(". ")[:3]).rstrip(".")
    return f"out of {place}: {_KNOBS}" + (f" ({words})" if words else "")


@contextmanager
def enough_memory() -> Iterator[None]:
    """Outside a sweep: raises InputError, in one sentence, where there is not."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(out_of_memory(error), "resources.gpus") from None


def free_memory() -> None:
    """After a trial that ran out of it: the next one in this process finds what the first one found."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
