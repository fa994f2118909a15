"""Train a small CLIP on labelled images and prompts: ``python -m robustcore.pretrain --data FILE --out FILE``.

Without arguments it reproduces the shipped digit model. Contrast is between images and classes: in every batch, each
image must find the prompt of its class among those of all classes, and each prompt its images (CLIP's symmetric loss
with the labels as ground truth, Yang et al. 2022).
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustcore.attacks import PGD, Linf
from robustcore.data import Data, Digits, Parquet, Pixels
from robustcore.data.images import as_pixels
from robustcore.data.loaders import training_batches
from robustcore.errors import InputError
from robustcore.evaluation import Evaluation, Suite
from robustcore.models import Clip, LoadedClip
from robustcore.models.architectures import ARCHITECTURES
from robustcore.models.clip import PLAIN_MEAN, PLAIN_STD
from robustcore.models.weights import Description, save_model, shipped
from robustcore.process import Process, best_device
from robustcore.types import parse_number

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
    batch_size = min(plan.batch_size, len(pixels))
    steps = plan.epochs * (len(pixels) // batch_size)
    optimizer = torch.optim.AdamW(clip.model.parameters(), lr=plan.lr, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    generator = torch.Generator().manual_seed(plan.seed)
    for batch in training_batches(pixels, batch_size, plan.seed, range(steps)):
        labels = torch.from_numpy(pixels.images.labels[batch.indices])
        images = _augmented(as_pixels(batch.pixels, device), plan, generator)
        loss = _contrast(clip, images, labels, pixels.images.classes, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if batch.step % max(1, steps // 20) == 0:
            _say(f"step {batch.step:6d} of {steps}, loss {loss.item():.3f}")
    clip.model.eval()
    return LoadedClip(clip.encoder, clip.model, clip.tokenize, _scale(clip.model).item(), clip.preprocessing)


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


def _rate(step: int, steps: int) -> float:
    warmup = max(1, steps // 20)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


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
    return Suite(evaluation, clip, 0, torch.float32)(clip.encoder, Process(device=device))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 2 where the request is wrong."""
    options = _parser().parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        plan = _plan(options)
        test = plan.test.open()  # what is wrong with it, and with the place to write to, shows before the training
        options.out.parent.mkdir(parents=True, exist_ok=True)
        device = best_device()
        clip = pretrain(plan, device)
        save(options.out, clip, plan.architecture)
        shares = measured(clip, plan.test, options.eps, device)
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    _say(f"clean {shares['clean']:.1%}, PGD-20 at eps {options.eps * 255:g}/255 {shares['pgd']:.1%} on {test.name}")
    _say(f"wrote {options.out} ({options.out.stat().st_size / 2**20:.2f} MiB)")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m robustcore.pretrain", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", help="labelled images: a Parquet file or folder (default: the embedded digits)")
    parser.add_argument("--out", type=Path, default=shipped("digits"), help="where the safetensors go")
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--test-split", default="test")
    parser.add_argument("--label", default="label", help="the column of labels")
    parser.add_argument("--architecture", choices=sorted(ARCHITECTURES), default="tiny-clip-32")
    parser.add_argument("--epochs", type=_count)
    parser.add_argument("--batch-size", type=_count, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-mirror", action="store_true", help="images whose mirror image means something else")
    parser.add_argument("--noise", type=float, default=0.0, help="pixel noise while training: a smoother encoder")
    parser.add_argument("--eps", type=parse_number, default=16 / 255, help="radius of the attack it is measured under")
    parser.add_argument("--threads", type=_count, help="CPU threads (default: all cores)")
    return parser


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {count}")
    return count


def _plan(options: argparse.Namespace) -> Pretraining:
    if options.data is None:
        return DIGITS if options.epochs is None else Pretraining(**{**vars(DIGITS), "epochs": options.epochs})
    train, test = (
        Parquet(options.data, split=split, label=options.label) for split in (options.train_split, options.test_split)
    )
    epochs = options.epochs or 40
    mirror = not options.no_mirror
    return Pretraining(
        options.architecture,
        train,
        test,
        epochs,
        options.batch_size,
        mirror=mirror,
        noise=options.noise,
        seed=options.seed,
    )


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
