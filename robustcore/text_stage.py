"""TIMA's first stage, IAT (arXiv 2405.17678v1): the text tower is tuned so that class rows stand further apart.

It minimises ``mhe_weight`` MHE + ``distill_weight`` IAKD over the tower's weights, never over free class vectors, so
that classes it has not seen get rows too. The images stay as they are: nothing is attacked here. The authors published
neither code nor complete equations; this is the best-grounded formulation.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from annotated_types import MinLen
from pydantic import TypeAdapter, model_validator
from pydantic.dataclasses import dataclass
from safetensors.torch import load_file, save_file
from torch import Tensor

from robustcore.errors import InputError, NonFiniteLoss
from robustcore.losses import ZeroShot
from robustcore.losses.distill import distillation
from robustcore.losses.energy import EnergyKind, angles, energy
from robustcore.models import TextTower
from robustcore.models.lora import Lora
from robustcore.once import computed_once
from robustcore.optim import Optim
from robustcore.process import Process
from robustcore.types import STRICT, Flag, NonNegative, Positive, PositiveCount

ANGLES = ("text/mean_angle_before", "text/min_angle_before", "text/mean_angle", "text/min_angle")


@dataclass(frozen=True, config=STRICT)
class TextStage:
    """MHE over the rows of the training classes, and how much of the original text-image relations to keep.

    IAKD = tau^2 KL(softmax(s cos(phi0(x), T0) / tau) || softmax(s cos(phi0(x), T) / tau)), tau = ``temperature``; T
    are the rows as tuned, T0 the original ones. ``energy`` and ``half_space`` are explained in ``losses.energy``.
    """

    optim: Optim
    mhe_weight: NonNegative = 1.0
    distill_weight: NonNegative = 1.0
    temperature: Positive = 1.0
    energy: EnergyKind = "damped"
    half_space: Flag = False
    lora: Lora | None = None  # None tunes the whole tower
    prompts: Annotated[tuple[str, ...], MinLen(1)] = ("This is a photo of a {}",)
    batch_size: PositiveCount = 128  # original embeddings a step, for the distillation

    @model_validator(mode="after")
    def _takes_whole_steps(self) -> "TextStage":
        if self.optim.accumulate > 1:
            raise InputError("the text stage takes its steps whole; expected no accumulate", "optim.accumulate")
        return self


def tune_text(
    stage: TextStage,
    tower: TextTower,
    classes: Sequence[str],
    original: np.ndarray,
    fingerprint: str,
    seed: int,
    process: Process,
) -> None:
    """Tune ``tower`` in place, once for all trials that share ``stage``, weights, images and seed.

    ``original`` (N, D) are the embeddings phi0(x) of the training images, which ``fingerprint`` identifies. Raises
    NonFiniteLoss where it diverges.
    """
    if stage.lora is not None:
        tower.attach(stage.lora, seed)
    key = [_STAGE.dump_python(stage, mode="json"), tower.fingerprint(), tower.scale, fingerprint, list(classes), seed]

    def compute(place: Path) -> None:
        _descend(stage, tower, classes, original, seed, process.device)
        save_file({name: value.contiguous() for name, value in text_tensors(stage, tower).items()}, place)

    path = computed_once(process.cache, ["text stage", *key], ".safetensors", compute, process.shared)
    load_text(stage, tower, load_file(path))
    process.agree(text_tensors(stage, tower).values())


def text_tensors(stage: TextStage, tower: TextTower) -> dict[str, Tensor]:
    """What the stage has changed: the whole tower, or its LoRA alone."""
    return tower.tensors() if stage.lora is None else tower.adapter()


def load_text(stage: TextStage, tower: TextTower, tensors: dict[str, Tensor]) -> None:
    """The inverse of ``text_tensors``; the LoRA is attached already."""
    (tower.load if stage.lora is None else tower.load_adapter)(tensors)


def row_angles(before: Tensor, after: Tensor) -> dict[str, float]:
    """Mean and minimum angle between the rows of the training classes in degrees, as metrics."""
    return dict(zip(ANGLES, (*angles(before), *angles(after)), strict=True))


def _descend(
    stage: TextStage, tower: TextTower, classes: Sequence[str], original: np.ndarray, seed: int, device: torch.device
) -> None:
    with torch.no_grad():
        teacher = ZeroShot(tower.rows(classes, stage.prompts), tower.scale)
    trained = [parameter for parameter in tower.parameters().values() if parameter.requires_grad]
    optimizer = stage.optim.optimizer(trained)
    for step in range(stage.optim.steps):
        for group in optimizer.param_groups:
            group["lr"] = stage.optim.rate(step)
        rows = tower.rows(classes, stage.prompts, recompute=True)
        loss = stage.mhe_weight * energy(rows, stage.energy, stage.half_space)
        if stage.distill_weight:
            chosen = np.random.default_rng([seed, step]).integers(len(original), size=stage.batch_size)
            embeddings = torch.from_numpy(original[chosen]).to(device)
            kept = distillation(teacher(embeddings), ZeroShot(rows, tower.scale)(embeddings), stage.temperature)
            loss = loss + stage.distill_weight * kept.mean()
        if not math.isfinite(loss.item()):
            raise NonFiniteLoss(f"the text stage's loss became {loss.item()} at step {step + 1}; try a smaller lr")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        if not tower.rows(classes, stage.prompts).isfinite().all():
            raise NonFiniteLoss("the text stage's rows became infinite or NaN at its last step; try a smaller lr")


_STAGE: TypeAdapter[TextStage] = TypeAdapter(TextStage)
