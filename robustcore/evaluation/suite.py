"""Clean and attacked zero-shot accuracy, always on the same images; clean is accuracy under the empty attack."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import torch
from annotated_types import MinLen
from pydantic.dataclasses import dataclass as component
from torch import Tensor

from robustcore.attacks import Attack, Clean
from robustcore.data import Data, Pixels
from robustcore.data.images import as_pixels
from robustcore.evaluation.survivors import survivors
from robustcore.losses import Reference
from robustcore.models import Encoder, LoadedClip
from robustcore.noise import Noise
from robustcore.process import Process
from robustcore.types import STRICT, PositiveCount

# Keeps the random starts of an evaluation apart from those of every training step.
_STREAM = -1


@component(frozen=True, config=STRICT)
class Evaluation:
    """What is measured, every ``every`` steps and at the end: each attack on each data set.

    The result has ``clean`` and every attack by its name, the share of images that survive it (a mean over data
    sets), ``<attack>/<data set>`` for each set, and ``worst``: the share that survives all of them.
    """

    datasets: Annotated[dict[str, Data], MinLen(1)]
    attacks: dict[str, Attack]
    every: PositiveCount = 500
    prompts: Annotated[tuple[str, ...], MinLen(1)] = ("a photo of a {}.",)
    batch_size: PositiveCount = 256

    def metrics(self) -> tuple[str, ...]:
        """The names of everything an evaluation reports."""
        names = ("clean", *self.attacks, "worst")
        return (*names, *(f"{name}/{dataset}" for name in names for dataset in self.datasets), "loss")

    def gradients(self) -> int:
        """Image gradients that attack one image of each set with every attack."""
        return sum(attack.gradients for attack in self.attacks.values())


@dataclass
class Suite:
    """An ``Evaluation`` with its images opened and its classifier rows computed once."""

    evaluation: Evaluation
    clip: LoadedClip
    seed: int
    precision: torch.dtype
    _sets: dict[str, tuple[Pixels, Tensor]] = field(init=False)

    def __post_init__(self) -> None:
        self._sets = {}
        for name, source in self.evaluation.datasets.items():
            images = source.open()
            rows = self.clip.classifier_rows(images.classes, self.evaluation.prompts)
            self._sets[name] = (Pixels(images, self.clip.preprocessing), rows)

    def __call__(self, encoder: Encoder, process: Process) -> dict[str, float]:
        """Shares in [0, 1] under the names of ``Evaluation.metrics``, the same on every process."""
        attacks = {"clean": Clean(), **self.evaluation.attacks}
        metrics: dict[str, float] = {}
        for dataset, (pixels, rows) in self._sets.items():
            counts = torch.zeros(len(attacks) + 1)
            for survived in self._survivals(encoder, list(attacks.values()), pixels, rows, process):
                counts += torch.stack([*survived, torch.stack(survived).all(dim=0)]).sum(dim=1)
            shares = (process.total(counts) / len(pixels)).tolist()
            metrics |= {f"{name}/{dataset}": share for name, share in zip([*attacks, "worst"], shares, strict=True)}
        means = {
            name: float(np.mean([metrics[f"{name}/{dataset}"] for dataset in self._sets]))
            for name in [*attacks, "worst"]
        }
        return means | metrics

    def _survivals(
        self, encoder: Encoder, attacks: list[Attack], pixels: Pixels, rows: Tensor, process: Process
    ) -> Iterator[list[Tensor]]:
        """Per batch of this process's images, which of them survive each attack: bool (B,) each."""
        labels = pixels.images.labels
        mine = np.arange(process.rank, len(labels), process.world_size)
        for start in range(0, len(mine), self.evaluation.batch_size):
            indices = mine[start : start + self.evaluation.batch_size]
            images = as_pixels(pixels.at(indices), process.device)
            target = torch.from_numpy(labels[indices]).to(process.device)
            reference = Reference(labels=target, rows=rows, scale=self.clip.scale)
            noise = Noise.of(self.seed, _STREAM, torch.from_numpy(indices).to(process.device))
            yield survivors(encoder, attacks, images, reference, noise, self.precision)
