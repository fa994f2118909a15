"""Train a small SimCLR (Chen et al. 2020): of all the views in a batch, two of one image must find one another.

The projection head is dropped at the end. Labels are read by ``measured`` alone, for its probe.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustcore.attacks import PGD, Linf
from robustcore.data import Data, Digits, Pixels
from robustcore.data.images import as_pixels
from robustcore.evaluation import Evaluation, Suite
from robustcore.evaluation.probe import fit_probe
from robustcore.models.resnets import Architecture, Stem
from robustcore.models.simclr import NORMALISERS, LoadedSimClr, SimClr, batch_statistics
from robustcore.models.weights import Description, save_model
from robustcore.pretrain.loop import descend
from robustcore.pretrain.views import Views
from robustcore.process import Process
from robustcore.types import Embeddings, Images, Labels

_BATCH = 256  # of images embedded at a time


@dataclass(frozen=True)
class SimClrPretraining:
    """One training from random weights."""

    architecture: Architecture
    stem: Stem
    image_size: int
    train: Data
    test: Data
    epochs: int = 200
    batch_size: int = 256
    lr: float = 1e-3
    temperature: float = 0.2
    projection: int = 128  # dimensions of the head's output
    views: Views = field(default_factory=Views)
    seed: int = 0


DIGITS_SIMCLR = SimClrPretraining(
    "resnet8",
    "cifar",
    16,
    Digits("train"),
    Digits("test"),
    epochs=50,
    batch_size=128,
    lr=2e-3,
    projection=32,
    views=Views(crop=0.4, rotate=0.2, mirror=False, grey=0, noise=0.05),
)


def pretrain_simclr(plan: SimClrPretraining, device: torch.device) -> LoadedSimClr:
    """The trained encoder on ``device``. Raises DataError where the images are not as described."""
    loaded = SimClr(plan.architecture, plan.stem, image_size=plan.image_size).load()
    head = _head(loaded.encoder, plan).to(device)
    loaded.to(device)
    pixels = Pixels(plan.train.open(), loaded.preprocessing)
    generator = torch.Generator().manual_seed(plan.seed)
    optimizer = torch.optim.AdamW([*loaded.encoder.parameters(), *head.parameters()], lr=plan.lr, weight_decay=1e-4)

    def loss_of(images: Images, _: Labels) -> Tensor:
        both = torch.cat([plan.views(images, generator), plan.views(images, generator)])
        one, other = head(loaded.encoder(both)).chunk(2)
        return nt_xent(one, other, plan.temperature)

    with batch_statistics(loaded.encoder, update=True):
        descend(optimizer, loss_of, pixels, plan.epochs, plan.batch_size, plan.seed, device)
    return loaded


def nt_xent(one: Embeddings, other: Embeddings, temperature: float) -> Tensor:
    """SimCLR's loss of N pairs of views (N, D) each, a mean over all 2N views.

    For each view, cross-entropy over the cosines with the 2N - 1 others, divided by ``temperature``; the right answer
    is the other view of its image.
    """
    views = F.normalize(torch.cat([one, other]).float(), dim=-1)
    itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
    similarity = (views @ views.T / temperature).masked_fill(itself, -torch.inf)
    partner = torch.arange(len(views), device=views.device).roll(len(one))
    return F.cross_entropy(similarity, partner)


def _head(encoder: nn.Module, plan: SimClrPretraining) -> nn.Module:
    with torch.no_grad():
        width = encoder(torch.zeros(1, 3, plan.image_size, plan.image_size)).shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        hidden = [nn.Linear(width, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
        return nn.Sequential(*hidden, nn.Linear(width, plan.projection))


def save_simclr(path: Path, loaded: LoadedSimClr, plan: SimClrPretraining) -> None:
    """Weights that describe themselves: ``model: {kind: simclr, weights: FILE}`` needs nothing else."""
    mean, std = NORMALISERS["none"]
    config = {"stem": plan.stem, "image_size": plan.image_size}
    save_model(path, loaded.encoder.visual, Description(plan.architecture, config, mean, std, kind="simclr"))


def measured_by_probe(
    loaded: LoadedSimClr, train: Data, test: Data, eps: float, device: torch.device
) -> dict[str, float]:
    """Accuracy on the held-out images through a probe fitted on the training images, clean and under PGD-20."""
    loaded.to(device)
    pixels = Pixels(train.open(), loaded.preprocessing)
    probe = fit_probe(_embeddings(loaded, pixels, device), pixels.images.labels, len(pixels.images.classes), device)
    evaluation = Evaluation(datasets={"test": test}, attacks={"pgd": PGD(Linf(eps), steps=20)})
    suite = Suite(evaluation, lambda *_: probe, loaded.preprocessing, 0, torch.float32)
    return suite(loaded.encoder, Process(device=device)).metrics


@torch.no_grad()
def _embeddings(loaded: LoadedSimClr, pixels: Pixels, device: torch.device) -> np.ndarray:
    """(N, D)."""
    chunks = np.split(np.arange(len(pixels)), range(_BATCH, len(pixels), _BATCH))
    return np.concatenate([loaded.encoder(as_pixels(pixels.at(chunk), device)).cpu().numpy() for chunk in chunks])
