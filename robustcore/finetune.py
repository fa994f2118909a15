"""The training loop: attack the batch, descend on what was found. A generator: it does not log, save or report."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from robustcore.data import Pixels
from robustcore.data.images import as_pixels
from robustcore.data.loaders import Batch, training_batches
from robustcore.data.references import original_embeddings
from robustcore.errors import InputError, NonFiniteLoss
from robustcore.evaluation import Suite
from robustcore.losses import Reference
from robustcore.models import LoadedClip
from robustcore.noise import Noise
from robustcore.optim import optimizer_tensors, restore_optimizer
from robustcore.precision import PRECISIONS, autocast, without_weight_gradients
from robustcore.process import Process
from robustcore.recipe import Recipe
from robustcore.types import Images, PerImage


@dataclass(frozen=True)
class State:
    """What a run needs to go on at ``step`` as if it had never stopped. Nothing random is in it: see ``Noise``."""

    step: int
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """An evaluation, and the state at it. ``final`` says that there is nothing more to do."""

    step: int
    metrics: dict[str, float]
    final: bool
    seconds: float  # of work in this process since the loop began
    state: Callable[[], State]


def finetune(recipe: Recipe, process: Process | None = None, resume: State | None = None) -> Iterator[Progress]:
    """Fine-tune the recipe's encoder; yield at every ``evaluation.every`` steps and at the end.

    Every process of a distributed run iterates its own copy in step with the others and sees the same metrics.
    Raises InputError where model or data are not as described, NonFiniteLoss where training diverges.
    """
    process, started = process or Process(), time.perf_counter()
    clip = recipe.model.load()
    clip.model.to(process.device)
    run = _Run(recipe, process, clip)
    suite = Suite(recipe.evaluation, clip, recipe.seed, PRECISIONS[recipe.precision])
    first = run.restore(resume) if resume is not None else 0
    total, losses = recipe.optim.steps, _Mean()
    for step, loss in run.steps(range(first, total)):
        losses.add(loss)
        done = step + 1
        if done % recipe.evaluation.every == 0 or done == total:
            run.check_weights(done)
            metrics = suite(clip.encoder, process) | {"loss": losses.take()}
            yield Progress(done, metrics, done == total, time.perf_counter() - started, run.state_at(done))
    if total == 0:
        yield Progress(0, suite(clip.encoder, process), True, time.perf_counter() - started, run.state_at(0))


class _Run:
    """The moving parts of one fine-tuning run on one process."""

    def __init__(self, recipe: Recipe, process: Process, clip: LoadedClip) -> None:
        if recipe.data.batch_size < process.world_size:
            workers = f"expected at least one image for each of {process.world_size} workers"
            raise InputError(f"{workers}, got a batch of {recipe.data.batch_size}", "data.batch_size")
        self._recipe, self._process = recipe, process
        self._precision = PRECISIONS[recipe.precision]
        self._scale = clip.scale
        self._encoder = clip.encoder
        self._encoder.requires_grad_(True)
        self._pixels = Pixels(recipe.data.train.open(), clip.preprocessing)
        # What is known of the original encoder is computed before the first step changes it.
        self._original = self._original_embeddings(clip) if recipe.loss.needs_original else None
        prompts = recipe.loss.prompts
        self._rows = clip.classifier_rows(self._pixels.images.classes, prompts) if prompts else None
        self._distributed = process.wrap(self._encoder)
        self._optimizer = recipe.optim.optimizer(self._encoder)

    def _original_embeddings(self, clip: LoadedClip) -> np.ndarray:
        return original_embeddings(
            clip.encoder, clip.encoder.fingerprint(), self._pixels, self._process.cache, self._process.device
        )

    def steps(self, steps: range) -> Iterator[tuple[int, float]]:
        """Each step and its loss, the mean over the global batch."""
        recipe, process = self._recipe, self._process
        batches = training_batches(
            self._pixels, recipe.data.batch_size, recipe.seed, steps, process.rank, process.world_size
        )
        for batch in batches:
            loss = self._step(batch)
            if not math.isfinite(loss):
                raise NonFiniteLoss(
                    f"the training loss became {loss} at step {batch.step + 1} of {recipe.optim.steps}; "
                    f"try a smaller optim.lr (now {recipe.optim.lr:g}) or a longer optim.warmup"
                )
            yield batch.step, loss

    def _step(self, batch: Batch) -> float:
        for group in self._optimizer.param_groups:
            group["lr"] = self._recipe.optim.rate(batch.step)
        self._optimizer.zero_grad(set_to_none=True)
        count = len(batch.indices)
        parts = np.array_split(np.arange(count), min(count, self._recipe.optim.accumulate))
        total = torch.zeros((), device=self._process.device)
        for number, part in enumerate(parts):
            with self._synchronised(last=number == len(parts) - 1):
                total += self._descend(Batch(batch.step, batch.indices[part], batch.pixels[part]))
        loss = self._process.total(total).item() / self._recipe.data.batch_size
        if math.isfinite(loss):
            self._optimizer.step()
        return loss

    def _descend(self, batch: Batch) -> Tensor:
        """Attack, then one backward pass over perturbed and, where alpha asks for it, clean images together."""
        loss, alpha = self._recipe.loss, self._recipe.loss.alpha
        images = as_pixels(batch.pixels, self._process.device)
        reference = self._reference(batch)
        perturbed = self._attacked(images, reference, batch)
        with autocast(images.device, self._precision):
            embeddings = self._distributed(torch.cat([perturbed, images]) if alpha > 0 else perturbed)
        per_image: PerImage = loss.robust(embeddings[: len(images)], reference)
        if alpha > 0:
            per_image = per_image + alpha * loss.clean(embeddings[len(images) :], reference)
        # Summed here and divided by the global batch, so that uneven shares weigh as they should; DDP then averages
        # over the processes, hence the factor.
        (per_image.sum() * (self._process.world_size / self._recipe.data.batch_size)).backward()
        return per_image.detach().sum()

    def _attacked(self, images: Images, reference: Reference, batch: Batch) -> Images:
        # The bare encoder, not the DDP wrapper: DDP does not support autograd.grad.
        def loss_at(pixels: Images) -> PerImage:
            with autocast(pixels.device, self._precision):
                embeddings = self._encoder(pixels)
            return self._recipe.loss.robust(embeddings, reference)

        noise = Noise.of(self._recipe.seed, batch.step, torch.from_numpy(batch.indices).to(images.device))
        with without_weight_gradients(self._encoder):
            return self._recipe.attack(loss_at, images, noise)

    def _reference(self, batch: Batch) -> Reference:
        labels = torch.from_numpy(self._pixels.images.labels[batch.indices]).to(self._process.device)
        original = None
        if self._original is not None:
            original = torch.from_numpy(self._original[batch.indices]).to(self._process.device)
        return Reference(labels, original, self._rows, self._scale)

    def _synchronised(self, last: bool) -> "nullcontext[None]":
        """Gradients travel between processes once a step, with the last part of the batch."""
        if last or self._process.world_size == 1:
            return nullcontext()
        return self._distributed.no_sync()  # type: ignore[operator, no-any-return]  # the wrapper's own method

    def check_weights(self, step: int) -> None:
        """A finite loss may have had an infinite gradient; what came of it must not be measured."""
        if not all(bool(parameter.isfinite().all()) for parameter in self._encoder.parameters()):
            raise NonFiniteLoss(f"the weights became infinite or NaN at step {step}; try a smaller optim.lr")

    def restore(self, state: State) -> int:
        """Go on at ``state``; returns the next step."""
        self._encoder.load_state_dict(state.weights)
        restore_optimizer(self._optimizer, self._encoder, state.optimizer)
        return state.step

    def state_at(self, step: int) -> Callable[[], State]:
        """The state now, copied when asked for; the last one has no more use for the optimizer."""

        def state() -> State:
            final = step == self._recipe.optim.steps
            optimizer = {} if final else optimizer_tensors(self._optimizer, self._encoder)
            return State(
                step,
                _copied(self._encoder),
                {name: value.detach().to("cpu", copy=True) for name, value in optimizer.items()},
            )

        return state


class _Mean:
    """The mean since it was last taken."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def add(self, value: float) -> None:
        self._sum, self._count = self._sum + value, self._count + 1

    def take(self) -> float:
        mean = self._sum / self._count
        self._sum, self._count = 0.0, 0
        return mean


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in module.state_dict().items()}
