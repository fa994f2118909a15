"""SimCLR: a ResNet without text, whose embeddings are pooled features; what BatchNorm does is a choice, not a mode."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Annotated, Literal, cast, get_args

import torch
from annotated_types import MinLen
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from robustcore.data.images import Preprocessing
from robustcore.errors import ModelError, did_you_mean
from robustcore.models.encoder import Encoder
from robustcore.models.lora import Lora, Targets
from robustcore.models.resnets import SMALL, Architecture, Stem, encoder_tensors, resnet
from robustcore.models.weights import SHIPPED, Description, describe, fill, read_tensors, shipped
from robustcore.types import STRICT, PositiveCount, Weights

NORMALISERS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),  # SimCLR's own inputs are pixels in [0, 1]
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}
SIZES = {"imagenet": 224, "cifar": 32}
_KERNELS = {7: "imagenet", 3: "cifar"}  # sides of conv1 by stem


@plain_dataclass
class LoadedSimClr:
    """What the loops use of a SimCLR: there is no text, so a classifier is a probe fitted on the embeddings."""

    encoder: Encoder
    preprocessing: Preprocessing
    architecture: Architecture
    stem: Stem
    text: None = None

    def to(self, device: torch.device) -> None:
        """The encoder moves."""
        self.encoder.to(device)


@dataclass(frozen=True, config=STRICT)
class ConvLora(Lora):
    """LoRA on the convolutions; BatchNorm's scales and shifts are frozen with everything else."""

    targets: Annotated[Targets, MinLen(1)] = ("conv",)


@dataclass(frozen=True, config=STRICT)
class SimClr:
    """Which ResNet, and its weights: ``digits-simclr`` (shipped), a checkpoint, or None, which starts from random ones.

    Files of our own know architecture, stem, normaliser and size; otherwise an architecture must be named, and the
    defaults are the stem ``imagenet`` (``cifar`` for resnet14 and resnet8, which have no other), no normaliser, and
    images of 224 pixels (32 with the stem ``cifar``). Of a checkpoint, ``backbone.*``, ``encoder.*``, ``module.*`` and
    plain torchvision layouts are read and heads are ignored; the encoder's own tensors must all be there and fit.

    ``batch_norm: frozen`` uses the checkpoint's statistics always: in attack, training and evaluation. With ``batch``,
    attack and descent both use the statistics of the images they are given (see ``batch_statistics``), the running
    statistics follow the descent, never the attack, and evaluation uses the running ones; an image's loss then depends
    on the others of its batch. The original embeddings are computed before the first step with the checkpoint's
    statistics either way, so the reference never drifts.
    """

    architecture: Architecture | None = None
    stem: Stem | None = None
    weights: Weights | None = None
    normalise: Literal["none", "imagenet", "cifar10"] | None = None
    image_size: PositiveCount | None = None
    batch_norm: Literal["frozen", "batch"] = "frozen"
    lora: ConvLora | None = None  # None trains every weight
    kind: Literal["simclr"] = "simclr"

    def load(self) -> LoadedSimClr:
        """The encoder on the CPU in float32; raises ModelError for anything that is not there or does not fit."""
        source = self._file()
        description = describe(source, "simclr") if source is not None else None
        architecture, stem = self._architecture(description), self._stem(description)
        model = resnet(architecture, stem)
        if source is not None:
            fill(model, _encoder(source, model, stem), source)
        size = self.image_size or (description.config["image_size"] if description else SIZES[stem])
        return LoadedSimClr(Encoder(model, *self._normaliser(description)), Preprocessing(size), architecture, stem)

    def check(self) -> None:
        """Raises what ``load`` would, and where LoRA finds nothing to adapt."""
        loaded = self.load()
        if self.lora is not None:
            self.lora.attach(loaded.encoder.visual, 0)

    def needs_download(self) -> bool:
        """Never: SimCLR has no hub."""
        return False

    def _file(self) -> Path | None:
        if self.weights is None:
            return None
        if self.weights in SHIPPED:
            return shipped(self.weights)
        if not Path(self.weights).is_file():
            hint = did_you_mean(self.weights, SHIPPED)
            raise ModelError(f"no such weights: '{self.weights}'; expected a file{hint}", "weights")
        return Path(self.weights)

    def _architecture(self, description: Description | None) -> Architecture:
        known: Sequence[Architecture] = get_args(Architecture)
        name = self._agreed("architecture", self.architecture, description.architecture if description else None)
        if name is None:
            what = f"the weights '{self.weights}' do not say their architecture" if self.weights else "no architecture"
            raise ModelError(f"{what}; name one of: {', '.join(known)}", "architecture")
        if name not in known:
            raise ModelError(f"unknown architecture '{name}', expected one of: {', '.join(known)}", "architecture")
        return cast(Architecture, name)

    def _stem(self, description: Description | None) -> Stem:
        architecture = self._architecture(description)
        if architecture in SMALL and self.stem == "imagenet":
            raise ModelError(f"{architecture} has the stem 'cifar' alone, got 'imagenet'", "stem")
        default = "cifar" if architecture in SMALL else "imagenet"
        stem = self._agreed("stem", self.stem, description.config["stem"] if description else None)
        return cast(Stem, stem or default)

    def _normaliser(self, description: Description | None) -> tuple[Sequence[float], Sequence[float]]:
        if description is None:
            return NORMALISERS[self.normalise or "none"]
        own = description.mean, description.std
        names = [name for name, known in NORMALISERS.items() if known == tuple(map(tuple, own))]
        self._agreed("normalise", self.normalise, names[0] if names else "its own")
        return own

    def _agreed(self, field: str, asked: str | None, own: str | None) -> str | None:
        if asked is not None and own not in (None, asked):
            raise ModelError(f"the weights '{self.weights}' have the {field} '{own}', expected '{asked}'", field)
        return asked or own


def _encoder(source: Path, model: nn.Module, stem: Stem) -> dict[str, Tensor]:
    """The checkpoint's tensors as ``model`` names them; ModelError where they are of a CLIP or of another stem."""
    tensors = read_tensors(source)
    if any(name.endswith("logit_scale") for name in tensors):
        raise ModelError(f"{source} is a checkpoint of a CLIP, expected a ResNet; set model.kind: clip", "weights")
    try:
        found = encoder_tensors(tensors)
    except KeyError as error:
        raise ModelError(
            f"{source} has several encoders, expected one: {', '.join(error.args[0])}", "weights"
        ) from None
    first = found.get("conv1.weight", torch.empty(0))
    given = _KERNELS.get(first.shape[-1], stem)
    if given != stem:
        raise ModelError(
            f"{source} has the {given} stem (a first convolution of {first.shape[-1]}x{first.shape[-1]}), expected the "
            f"{stem} stem; set model.stem: {given}",
            "stem",
        )
    # Old checkpoints have no counters of batches, and nothing here reads them.
    counters = {name: value for name, value in model.state_dict().items() if name.endswith("num_batches_tracked")}
    return counters | found


@contextmanager
def batch_statistics(encoder: nn.Module, update: bool) -> Iterator[None]:
    """Inside, BatchNorm normalises with the statistics of the images of each forward, as ``batch_norm: batch`` asks.

    Around the attack with ``update=False``: neither running statistics nor counters change. Around the descent with
    ``update=True``: the same function, and the running statistics follow. Everything else stays in eval mode. For the
    function attacked to be the function trained, perturbed and clean images must not share a forward pass.
    """
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [(norm.training, norm.track_running_stats) for norm in norms]
    for norm in norms:
        norm.training, norm.track_running_stats = True, update  # untracked: the running statistics are not touched
    try:
        yield
    finally:
        for norm, (training, tracks) in zip(norms, before, strict=True):
            norm.training, norm.track_running_stats = training, tracks
