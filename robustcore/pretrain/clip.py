"""Train a small CLIP on labelled images and prompts.

Contrast is between images and classes: in every batch, each image must find the prompt of its class among those of all
classes, and each prompt its images (CLIP's symmetric loss with the labels as ground truth, Yang et al. 2022).
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustcore.attacks import PGD, Linf
from robustcore.data import Data, Digits, Pixels
from robustcore.evaluation import Evaluation, Suite
from robustcore.models import Clip, LoadedClip
from robustcore.models.architectures import ARCHITECTURES
from robustcore.models.clip import PLAIN_MEAN, PLAIN_STD
from robustcore.models.weights import Description, save_model
from robustcore.original import zero_shot_by
from robustcore.pretrain.loop import descend
from robustcore.process import Process
from robustcore.types import Images, Labels

PROMPTS = (
    "a photo of a {}.",
    "This is a photo of a {}",
    "a blurry photo of a {}.",
    "a photo of the {}.",
    "a picture of a {}.",
    "an image of a {}.",
)
MAX_CLASSES = 256  # in one batch; more are sampled
MAX_SCALE = 100.0


@dataclass(frozen=True)
class Pretraining:
    """One training from random weights."""

    architecture: str
    train: Data
    test: Data
    epochs: int = 40
    batch_size: int = 128
    lr: float = 1e-3
    shift: int = 4  # pixels, at most, in each direction
    mirror: bool = True
    noise: float = 0.0  # standard deviation of pixel noise, in pixels of [0, 1]: a smoother encoder
    seed: int = 0


DIGITS = Pretraining(
    "tiny-clip-16", Digits("train"), Digits("test"), epochs=60, lr=2e-3, shift=0, mirror=False, noise=0.1
)


def pretrain(plan: Pretraining, device: torch.device) -> LoadedClip:
    """The trained model on ``device``. Raises DataError where the images are not as described."""
    clip = Clip(architecture=plan.architecture).load()
    clip.model.to(device).train()
    pixels = Pixels(plan.train.open(), clip.preprocessing)
    generator = torch.Generator().manual_seed(plan.seed)
    optimizer = torch.optim.AdamW(clip.model.parameters(), lr=plan.lr, betas=(0.9, 0.98), weight_decay=0.05)

    def loss_of(images: Images, labels: Labels) -> Tensor:
        return _contrast(clip, _augmented(images, plan, generator), labels, pixels.images.classes, generator)

    descend(optimizer, loss_of, pixels, plan.epochs, plan.batch_size, plan.seed, device)
    clip.model.eval()
    return replace(clip, scale=_scale(clip.model).item())


def _contrast(
    clip: LoadedClip, images: Tensor, labels: Tensor, classes: tuple[str, ...], generator: torch.Generator
) -> Tensor:
    present = torch.arange(len(classes)) if len(classes) <= MAX_CLASSES else labels.unique()
    target = torch.searchsorted(present, labels).to(images.device)
    chosen = torch.randint(len(PROMPTS), (len(present),), generator=generator)
    texts = [PROMPTS[prompt].replace("{}", classes[label]) for prompt, label in zip(chosen, present, strict=True)]
    rows = F.normalize(clip.model.encode_text(clip.tokenize(texts).to(images.device)), dim=-1)  # type: ignore[operator]  # open_clip's method
    logits = _scale(clip.model) * F.normalize(clip.encoder(images), dim=-1) @ rows.T
    # From the prompts' side: all images of a class share its probability mass.
    share = F.one_hot(target, len(present)).float()
    seen = share.sum(dim=0) > 0
    by_prompt = -(logits.T.log_softmax(dim=1) * share.T / share.sum(dim=0).clamp_min(1)[:, None]).sum(dim=1)
    return (F.cross_entropy(logits, target) + by_prompt[seen].mean()) / 2


def _scale(model: nn.Module) -> Tensor:
    scale = model.logit_scale
    assert isinstance(scale, Tensor)
    return scale.exp().clamp_max(MAX_SCALE)


def _augmented(images: Tensor, plan: Pretraining, generator: torch.Generator) -> Tensor:
    if plan.shift:
        images = _shifted(images, plan.shift, generator)
    if plan.mirror:
        mirrored = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    if plan.noise:
        noise = torch.randn(images.shape, generator=generator).to(images.device)
        images = (images + plan.noise * noise).clamp(0, 1)
    return images


def _shifted(images: Tensor, reach: int, generator: torch.Generator) -> Tensor:
    """Each image moved by up to ``reach`` pixels; what comes into view mirrors its border."""
    side = images.shape[-1]
    padded = F.pad(images, [reach] * 4, mode="reflect")
    offsets = torch.randint(2 * reach + 1, (2, len(images)), generator=generator).to(images.device)
    rows = (offsets[0][:, None] + torch.arange(side, device=images.device))[:, None, :, None]
    columns = (offsets[1][:, None] + torch.arange(side, device=images.device))[:, None, None, :]
    channels = torch.arange(3, device=images.device)[None, :, None, None]
    return padded[torch.arange(len(images), device=images.device)[:, None, None, None], channels, rows, columns]


def save(path: Path, clip: LoadedClip, architecture: str) -> None:
    """Weights that describe themselves: ``model.weights`` of a study may name the file, and nothing else is needed."""
    with torch.no_grad():
        clip.model.logit_scale.fill_(math.log(clip.scale))  # type: ignore[operator]  # a parameter
    save_model(
        path,
        clip.model,
        Description(architecture, ARCHITECTURES[architecture], tuple(PLAIN_MEAN), tuple(PLAIN_STD)),
    )


def measured(clip: LoadedClip, test: Data, eps: float, device: torch.device) -> dict[str, float]:
    """Zero-shot accuracy on the held-out images, clean and under PGD-20 at ``eps``."""
    evaluation = Evaluation(datasets={"test": test}, attacks={"pgd": PGD(Linf(eps), steps=20)}, prompts=PROMPTS[:1])
    suite = Suite(evaluation, zero_shot_by(clip.text), clip.preprocessing, 0, torch.float32)
    return suite(clip.encoder, Process(device=device)).metrics
