"""Train a small encoder from nothing: ``python -m robustcore.pretrain --objective clip --data FILE --out FILE``.

Without arguments it reproduces the shipped digit model of the objective.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch

from robustcore.data import Parquet
from robustcore.errors import InputError
from robustcore.models.architectures import ARCHITECTURES
from robustcore.models.resnets import SMALL, Architecture, Stem
from robustcore.models.simclr import SIZES
from robustcore.models.weights import shipped
from robustcore.pretrain.clip import DIGITS, Pretraining, measured, pretrain, save
from robustcore.pretrain.loop import say
from robustcore.pretrain.simclr import (
    DIGITS_SIMCLR,
    SimClrPretraining,
    measured_by_probe,
    pretrain_simclr,
    save_simclr,
)
from robustcore.pretrain.views import Views
from robustcore.process import best_device
from robustcore.types import parse_number

_SHIPPED = {"clip": "digits", "simclr": "digits-simclr"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 2 where the request is wrong."""
    options = _parser().parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    out = options.out or shipped(_SHIPPED[options.objective])
    try:
        plan = _clip_plan(options) if options.objective == "clip" else _simclr_plan(options)
        test = plan.test.open()  # what is wrong with it, and with the place to write to, shows before the training
        out.parent.mkdir(parents=True, exist_ok=True)
        shares = _trained(plan, out, options.eps)
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    say(f"clean {shares['clean']:.1%}, PGD-20 at eps {options.eps * 255:g}/255 {shares['pgd']:.1%} on {test.name}")
    say(f"wrote {out} ({out.stat().st_size / 2**20:.2f} MiB)")
    return 0


def _trained(plan: Pretraining | SimClrPretraining, out: Path, eps: float) -> dict[str, float]:
    device = best_device()
    if isinstance(plan, Pretraining):
        clip = pretrain(plan, device)
        save(out, clip, plan.architecture)
        return measured(clip, plan.test, eps, device)
    simclr = pretrain_simclr(plan, device)
    save_simclr(out, simclr, plan)
    return measured_by_probe(simclr, plan.train, plan.test, eps, device)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m robustcore.pretrain", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--objective", choices=sorted(_SHIPPED), default="clip")
    parser.add_argument("--data", help="labelled images: a Parquet file or folder (default: the embedded digits)")
    parser.add_argument("--out", type=Path, help="where the safetensors go (default: the shipped file)")
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--test-split", default="test")
    parser.add_argument("--label", default="label", help="the column of labels; of simclr, only its probe reads them")
    parser.add_argument("--architecture", choices=[*sorted(ARCHITECTURES), *get_args(Architecture)])
    parser.add_argument("--stem", choices=get_args(Stem), help="of simclr (default: cifar)")
    parser.add_argument(
        "--image-size", type=_count, help="pixels, of simclr (default: 32, or 224 with --stem imagenet)"
    )
    parser.add_argument("--epochs", type=_count)
    parser.add_argument("--batch-size", type=_count)
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


def _clip_plan(options: argparse.Namespace) -> Pretraining:
    for field in ("stem", "image_size"):
        if getattr(options, field) is not None:
            raise InputError(f"--{field.replace('_', '-')} is of --objective simclr; a clip's is in its architecture")
    if options.data is None:
        return replace(DIGITS, **_of_digits(options))
    architecture = options.architecture or "tiny-clip-32"
    _must_be_one_of(architecture, ARCHITECTURES, "clip")
    return Pretraining(
        architecture,
        *_splits(options),
        **{"epochs": 40, "batch_size": 128, **_given(options, "epochs", "batch_size")},
        mirror=not options.no_mirror,
        noise=options.noise,
        seed=options.seed,
    )


def _simclr_plan(options: argparse.Namespace) -> SimClrPretraining:
    if options.data is None:
        return replace(DIGITS_SIMCLR, **_of_digits(options))
    architecture: Architecture = options.architecture or "resnet18"
    _must_be_one_of(architecture, get_args(Architecture), "simclr")
    stem: Stem = options.stem or "cifar"
    if architecture in SMALL and stem != "cifar":
        raise InputError(f"{architecture} has the stem 'cifar' alone, got '{stem}'")
    return SimClrPretraining(
        architecture,
        stem,
        options.image_size or SIZES[stem],
        *_splits(options),
        views=Views(mirror=not options.no_mirror, noise=options.noise),
        seed=options.seed,
        **_given(options, "epochs", "batch_size"),
    )


def _of_digits(options: argparse.Namespace) -> dict[str, Any]:
    for field in ("architecture", "stem", "image_size", "noise", "no_mirror"):
        if getattr(options, field):
            raise InputError(f"--{field.replace('_', '-')} is for images of your own (--data); the digits' is fixed")
    return {"seed": options.seed, **_given(options, "epochs", "batch_size")}


def _splits(options: argparse.Namespace) -> tuple[Parquet, Parquet]:
    train, test = (
        Parquet(options.data, split=split, label=options.label) for split in (options.train_split, options.test_split)
    )
    return train, test


def _given(options: argparse.Namespace, *fields: str) -> dict[str, Any]:
    return {name: getattr(options, name) for name in fields if getattr(options, name) is not None}


def _must_be_one_of(architecture: str, known: Sequence[str] | dict[str, Any], objective: str) -> None:
    if architecture not in known:
        raise InputError(
            f"--architecture {architecture} is not of --objective {objective}, expected one of: {', '.join(known)}"
        )
