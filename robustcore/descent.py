"""One adversarial step after another: attack the batch, then descend on what was found."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from robustcore.attacks import Universal
from robustcore.data.images import as_pixels
from robustcore.data.loaders import Batch, steps_per_epoch, training_batches
from robustcore.errors import InputError, NonFiniteLoss
from robustcore.losses import CLIMBS, Reference, ZeroShot, worst_targets
from robustcore.losses.reference import zero_shot
from robustcore.models import batch_statistics
from robustcore.models.lora import dropped
from robustcore.noise import Noise
from robustcore.optim import optimizer_tensors, restore_optimizer
from robustcore.precision import PRECISIONS, autocast, built_once, without_weight_gradients
from robustcore.prepared import Prepared
from robustcore.process import Process
from robustcore.recipe import Recipe
from robustcore.stalls import ZeroGradients
from robustcore.types import Embeddings, Images, LossAt, PerImage

_UNIVERSAL, _STALLS = "universal/delta", "stalls/counted"


class Descent:
    """The moving parts of one fine-tuning run on one process."""

    def __init__(self, recipe: Recipe, process: Process, known: Prepared) -> None:
        self._recipe, self._process, self._known = recipe, process, known
        self._check_workers()
        self._precision = PRECISIONS[recipe.precision]
        self._trainee, self._encoder = known.trainee, known.trainee.encoder
        self._batch_norm = recipe.model.kind == "simclr" and recipe.model.batch_norm == "batch"
        self._parameters = self._trainee.parameters()
        self._text_parameters = self._trainee.text_parameters()
        self._distributed = process.wrap(self._encoder)
        self._optimizer = recipe.optim.optimizer(self._parameters.values())
        self._watch = ZeroGradients()
        self._delta: Tensor | None = None  # the universal perturbation
        self._classifier = known.classifier

    def _check_workers(self) -> None:
        workers, batch_size = self._process.world_size, self._recipe.data.batch_size
        if batch_size < workers:
            message = f"expected at least one image for each of {workers} workers, got a batch of {batch_size}"
            raise InputError(message, "data.batch_size")
        if workers > 1 and self._recipe.model.kind == "simclr" and self._recipe.model.batch_norm == "batch":
            message = f"statistics of the batch are not those of its shares: expected one worker, got {workers}"
            raise InputError(message, "model.batch_norm")

    def steps(self, steps: range) -> Iterator[tuple[int, float]]:
        """Each step and its loss, the mean over the global batch."""
        recipe, process = self._recipe, self._process
        batches = training_batches(
            self._known.pixels, recipe.data.batch_size, recipe.seed, steps, process.rank, process.world_size
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
        parts = self._parts(batch)
        total = torch.zeros((), device=self._process.device)
        with self._dropped(batch.step):
            rows = self._read_text()
            if isinstance(self._recipe.attack, Universal):
                self._raise_universal(self._recipe.attack, parts)
            for number, part in enumerate(parts):
                with self._synchronised(last=number == len(parts) - 1):
                    total += self._descend(part)
            if rows is not None:
                rows.backward(zero_shot(self._classifier).rows.grad)
        self._process.average_gradients(self._text_parameters.values())
        loss = self._process.total(total).item() / self._recipe.data.batch_size
        if math.isfinite(loss):
            self._optimizer.step()
        return loss

    def _parts(self, batch: Batch) -> list[Batch]:
        count = len(batch.indices)
        parts = np.array_split(np.arange(count), min(count, self._recipe.optim.accumulate))
        return [Batch(batch.step, batch.indices[part], batch.pixels[part]) for part in parts]

    def _descend(self, batch: Batch) -> Tensor:
        """Attack, then one backward pass over perturbed and, where the loss asks for it, clean images together."""
        loss, alpha = self._recipe.loss, self._recipe.loss.alpha
        images = as_pixels(batch.pixels, self._process.device)
        reference = self._reference(batch)
        perturbed = self._attacked(images, reference, batch)
        with_clean = alpha > 0 or "clean" in loss.needs
        with built_once(), self._statistics(update=True):
            embeddings, clean = self._embedded(perturbed, images if with_clean else None)
            reference = replace(reference, clean=clean)
            per_image: PerImage = loss.robust(embeddings, self._with_original(reference, perturbed))
            if alpha > 0:
                assert clean is not None, "the clean term has been asked for"
                per_image = per_image + alpha * loss.clean(clean, reference)
            # Summed here and divided by the global batch, so that uneven shares weigh as they should; DDP then
            # averages over the processes, hence the factor.
            (per_image.sum() * (self._process.world_size / self._recipe.data.batch_size)).backward()
        return per_image.detach().sum()

    def _embedded(self, perturbed: Images, clean: Images | None) -> tuple[Embeddings, Embeddings | None]:
        with autocast(perturbed.device, self._precision):
            if clean is None:
                return self._distributed(perturbed), None
            if self._batch_norm:  # each kind of image has statistics of its own
                return self._distributed(perturbed), self._distributed(clean)
            both = self._distributed(torch.cat([perturbed, clean]))
        return both[: len(perturbed)], both[len(perturbed) :]

    def _attacked(self, images: Images, reference: Reference, batch: Batch) -> Images:
        if isinstance(self._recipe.attack, Universal):
            assert self._delta is not None, "it was raised before the descent"
            return self._recipe.attack.apply(images, self._delta)
        noise = Noise.of(self._recipe.seed, batch.step, torch.from_numpy(batch.indices).to(images.device))
        with without_weight_gradients(self._encoder):
            return self._recipe.attack(self._loss_at(images, reference), images, noise)

    def _loss_at(self, images: Images, reference: Reference) -> LossAt:
        """What the attacker climbs at perturbed ``images``, as a function of the pixels alone."""
        # The bare encoder, not the DDP wrapper: DDP does not support autograd.grad.
        recipe, climb = self._recipe, self._recipe.climb
        reference = self._known_to_the_attacker(images, reference)

        def loss_at(pixels: Images) -> PerImage:
            with self._statistics(update=False), autocast(pixels.device, self._precision):
                embeddings = self._encoder(pixels)
            if climb == "robust":
                return recipe.loss.robust(embeddings, self._with_original(reference, pixels))
            return CLIMBS[climb](embeddings, reference)

        return self._watch.watch(loss_at)

    @torch.no_grad()
    def _known_to_the_attacker(self, images: Images, reference: Reference) -> Reference:
        """And what the climb reads of the clean images: phi(x), or the most likely mistake."""
        targeted = self._recipe.climb == "targeted_dlr"
        if not targeted and not (self._recipe.climb == "robust" and "clean" in self._recipe.loss.needs):
            return reference
        with self._statistics(update=False), autocast(images.device, self._precision):
            clean = self._encoder(images)
        reference = replace(reference, clean=clean)
        if targeted:
            assert reference.classifier is not None, "a targeted attack has classes"
            targets = worst_targets(reference.classifier(clean), reference.labels, 1)
            reference = replace(reference, targets=targets)
        return reference

    def _with_original(self, reference: Reference, pixels: Images) -> Reference:
        """And phi0(z), where the loss compares with it: with a gradient in z if the pixels have one."""
        if self._known.original_encoder is None:
            return reference
        with autocast(pixels.device, self._precision):
            return replace(reference, original_perturbed=self._known.original_encoder(pixels))

    def _read_text(self) -> Tensor | None:
        """Rows as the text tower has them now, where it is trained along: read once a step, with their graph.

        All parts of the batch see, and pull at, a leaf of the same values; its gradient then goes down the graph.
        """
        text = self._trainee.text
        if not self._recipe.trains_text or text is None:
            return None
        with built_once():
            rows = text.rows(self._known.pixels.images.classes, self._recipe.loss.prompts)
        self._classifier = ZeroShot(rows.detach().requires_grad_(), text.scale)
        return rows

    def _reference(self, batch: Batch) -> Reference:
        known, device = self._known, self._process.device
        labels = torch.from_numpy(known.pixels.images.labels[batch.indices]).to(device)
        original = None
        if known.original is not None:
            original = torch.from_numpy(known.original[batch.indices]).to(device)
        return Reference(labels, original, self._classifier, known.original_classifier)

    def _raise_universal(self, attack: Universal, parts: list[Batch]) -> None:
        """``steps`` ascents of the one perturbation, each on the mean loss of the whole batch of all workers."""
        device = self._process.device
        images = [as_pixels(part.pixels, device) for part in parts]
        epoch_steps = steps_per_epoch(self._known.pixels.images, self._recipe.data.batch_size)
        if self._delta is None or parts[0].step % epoch_steps == 0:
            self._delta = attack.start(images[0])
        with without_weight_gradients(self._encoder):
            climbs = [self._loss_at(some, self._reference(part)) for some, part in zip(images, parts, strict=True)]
            for _ in range(attack.steps):
                gradients = [
                    attack.gradient(loss_at, some, self._delta) for loss_at, some in zip(climbs, images, strict=True)
                ]
                gradient = self._process.summed(torch.stack(gradients).sum(dim=0))
                self._delta = attack.ascend(self._delta, gradient)

    def _dropped(self, step: int) -> AbstractContextManager[None]:
        """LoRA's dropout is one function for the attack and the descent of a step."""
        module = self._trainee.text.model if self._recipe.trains_text and self._trainee.text else self._encoder
        return dropped(module, self._recipe.seed, step)

    def _statistics(self, update: bool) -> AbstractContextManager[None]:
        return batch_statistics(self._encoder, update) if self._batch_norm else nullcontext()

    def _synchronised(self, last: bool) -> AbstractContextManager[None]:
        """Gradients travel between processes once a step, with the last part of the batch."""
        if last or self._process.world_size == 1:
            return nullcontext()
        return self._distributed.no_sync()  # type: ignore[operator, no-any-return]  # the wrapper's own method

    def stalls(self) -> dict[str, float]:
        """The share of pixels without a gradient in the attacks since the last time."""
        return {"zero_gradient/training": self._watch.take(self._process)} if self._recipe.attack.gradients else {}

    def check_weights(self, step: int) -> None:
        """A finite loss may have had an infinite gradient; what came of it must not be measured."""
        if not all(bool(parameter.isfinite().all()) for parameter in self._parameters.values()):
            raise NonFiniteLoss(f"the weights became infinite or NaN at step {step}; try a smaller optim.lr")

    def weights(self) -> dict[str, Tensor]:
        """See ``Trainee.tensors``."""
        return self._trainee.tensors()

    def optimizer(self) -> dict[str, Tensor]:
        """The optimizer's state by name, and the universal perturbation, which lives through an epoch."""
        delta = {} if self._delta is None else {_UNIVERSAL: self._delta}
        return optimizer_tensors(self._optimizer, self._parameters) | delta

    def counted(self) -> dict[str, Tensor]:
        """What ``stalls`` would tell, of all processes together; nothing right after it."""
        counted = self._watch.tensor(self._process)
        return {} if counted is None else {_STALLS: counted}

    def restore(self, weights: dict[str, Tensor], optimizer: dict[str, Tensor]) -> None:
        """Go on where ``weights``, and ``optimizer`` with what was ``counted``, were."""
        self._trainee.load(weights)
        rest = dict(optimizer)
        delta, counted = rest.pop(_UNIVERSAL, None), rest.pop(_STALLS, None)
        self._delta = None if delta is None else delta.to(self._process.device)
        if counted is not None and self._process.rank == 0:
            self._watch.back(counted.to(self._process.device))
        restore_optimizer(self._optimizer, self._parameters, rest)
