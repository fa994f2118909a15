"""The loop that every pretraining shares: AdamW's rate warms up, then falls as a cosine; a line every twentieth."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from robustcore.data import Pixels
from robustcore.data.images import as_pixels
from robustcore.data.loaders import training_batches
from robustcore.types import Images, Labels


def descend(
    optimizer: torch.optim.Optimizer,
    loss_of: Callable[[Images, Labels], Tensor],
    pixels: Pixels,
    epochs: int,
    batch_size: int,
    seed: int,
    device: torch.device,
) -> None:
    """Minimise ``loss_of(images on the device, labels on the CPU)``; a set of less than a batch is one batch."""
    batch_size = min(batch_size, len(pixels))
    steps = epochs * (len(pixels) // batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    for batch in training_batches(pixels, batch_size, seed, range(steps)):
        loss = loss_of(as_pixels(batch.pixels, device), torch.from_numpy(pixels.images.labels[batch.indices]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if batch.step % max(1, steps // 20) == 0:
            say(f"step {batch.step:6d} of {steps}, loss {loss.item():.3f}")


def _rate(step: int, steps: int) -> float:
    warmup = max(1, steps // 20)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def say(text: str) -> None:
    """A line of progress."""
    print(text, flush=True)  # noqa: T201
