"""AutoAttack stage by stage beside its authors' implementation, on a digits model that was trained to resist.

`make benchmarks` runs it, and `python -m tests.benchmark_autoattack` alone. The other side is `pip install
pyautoattack`, which is no dependency; without it, ours are printed alone. Seconds are of the processor, not of the
clock, so that other work on the machine disturbs less.
"""

import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from rich.console import Console
from rich.table import Table
from torch import Tensor

from robustcore.attacks import AutoAttack, Linf
from robustcore.attacks.autoattack import Stage
from robustcore.data import Digits, Pixels
from robustcore.data.images import as_pixels
from robustcore.evaluation.autoattack import Victim, withstand
from robustcore.finetune import finetune
from robustcore.losses import ZeroShot
from robustcore.models import Clip
from robustcore.noise import Noise
from robustcore.recipe import recipe_from

STUDY = Path(__file__).parents[1] / "sweeps" / "studies" / "alpha_study.yaml"
ALPHA, EPS, IMAGES, BATCH = 0.2, 16 / 255, 60, 128
STAGES: dict[Stage, str] = {"apgd_ce": "apgd-ce", "apgd_t": "apgd-t", "fab_t": "fab-t", "square": "square"}
Fooled = Callable[[Stage, Tensor], Tensor]


def autoattack_table() -> Table:
    """Each stage on what the stages before have left, on either side by itself: images/s, seconds, and who is left."""
    torch.set_num_threads(1)
    victim, images = _victim()
    theirs = _theirs(victim, images) if find_spec("pyautoattack") else None
    beside = "the authors'" if theirs is not None else "not installed: pip install pyautoattack"
    table = Table("stage", "images/s", beside, "seconds", beside, "left", beside, title=f"AutoAttack, {IMAGES} digits")
    sides = [_measured(_ours(victim)), _measured(theirs) if theirs is not None else [("", "", "")] * len(STAGES)]
    for stage, *cells in zip(STAGES, *sides, strict=True):
        table.add_row(stage, *(cell for pair in zip(*cells, strict=True) for cell in pair))
    return table


def _victim() -> tuple[Victim, Tensor]:
    """A trial of the shipped study, and the first images that it gets right."""
    plain = yaml.safe_load(STUDY.read_text())["recipe"]
    plain["loss"]["alpha"], plain["evaluation"] = ALPHA, plain["evaluation"] | {"attacks": {}}
    *_, last = finetune(recipe_from(plain))
    loaded, digits = Clip(weights="digits").load(), Digits("test").open()
    loaded.encoder.load_state_dict(last.state().weights)
    classifier = ZeroShot(loaded.classifier_rows(digits.classes, ("a photo of a {}.",)), loaded.scale)
    images = as_pixels(Pixels(digits, loaded.preprocessing).at(np.arange(400)), torch.device("cpu"))
    labels = torch.from_numpy(digits.labels)
    encoder = loaded.encoder.requires_grad_(False)
    with torch.no_grad():
        right = (classifier(encoder(images)).argmax(dim=1) == labels).nonzero().squeeze(1)[:IMAGES]
    images = images[right]
    return Victim(encoder, classifier, labels[right], lambda places: images[places], Noise.of(0, 0, right)), images


def _ours(victim: Victim) -> Fooled:
    def fooled(stage: Stage, left: Tensor) -> Tensor:
        keys = Noise(victim.noise.keys[left])
        some = Victim(
            victim.encoder, victim.classifier, victim.labels[left], lambda places: victim.images(left[places]), keys
        )
        return ~withstand(AutoAttack(Linf(EPS), "custom", (stage,)), some, BATCH).survived

    return fooled


def _theirs(victim: Victim, images: Tensor) -> Fooled:
    theirs = import_module("pyautoattack").AutoAttack  # no dependency

    def logits(pixels: Tensor) -> Tensor:
        return victim.classifier(victim.encoder(pixels))

    def fooled(stage: Stage, left: Tensor) -> Tensor:
        attack: Any = theirs(logits, attacks=[STAGES[stage]], eps=EPS, norm="Linf", seed=0, version="custom")
        # As its standard version has it.
        attack.apgd.n_restarts = attack.fab.n_restarts = 1
        attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = 9
        found, _ = attack.run_standard_evaluation(images[left], victim.labels[left], batch_size=BATCH)
        with torch.no_grad():
            wrong: Tensor = logits(found).argmax(dim=1) != victim.labels[left]
        return wrong

    return fooled


def _measured(fooled: Fooled) -> list[tuple[str, str, str]]:
    """By stage: images/s, seconds, and how many are left."""
    left, rows = torch.arange(IMAGES), []
    for stage in STAGES:
        started, count = time.process_time(), len(left)
        left = left[~fooled(stage, left)]
        seconds = time.process_time() - started
        rows.append((f"{count / seconds:.2f}", f"{seconds:.1f}", str(len(left))))
    return rows


if __name__ == "__main__":
    Console(width=130).print(autoattack_table())
