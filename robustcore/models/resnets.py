"""ResNets without their classifier: pooled features (B, D); torchvision's own, and He et al.'s small ones for CIFAR."""

import re
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models import resnet18, resnet50
from torchvision.models.resnet import BasicBlock

Architecture = Literal["resnet50", "resnet18", "resnet14", "resnet8"]
Stem = Literal["imagenet", "cifar"]

# He et al.'s family for CIFAR: 6n + 2 layers, by n. It knows one stem alone.
SMALL = {"resnet8": 1, "resnet14": 2}


def resnet(architecture: Architecture, stem: Stem, seed: int = 0) -> nn.Module:
    """Random weights, the same for the same seed; images (B, 3, H, W), already normalised, to (B, D).

    D is 2048, 512, 64, 64 in the order of ``Architecture``. The stem ``imagenet`` is a 7x7 convolution of stride 2 and
    a max-pool, ``cifar`` a 3x3 convolution of stride 1 and no pooling (SimCLR, Chen et al. 2020, B.9).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if architecture in SMALL:
            assert stem == "cifar", "the small ResNets have the cifar stem alone"
            return SmallResNet(SMALL[architecture])
        model: nn.Module = resnet50() if architecture == "resnet50" else resnet18()
        model.fc = nn.Identity()
        if stem == "cifar":
            model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
            model.maxpool = nn.Identity()
        return model


class SmallResNet(nn.Module):
    """Three stages of ``blocks`` basic blocks, 16, 32 and 64 wide (He et al. 2016, section 4.2; shortcuts project)."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """(B, 64)."""
        features: Tensor = self.layer3(self.layer2(self.layer1(self.bn1(self.conv1(images)).relu())))
        return features.mean(dim=(2, 3))


def _stage(width: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
    shortcut = None
    if width != planes:
        shortcut = nn.Sequential(nn.Conv2d(width, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))
    first = BasicBlock(width, planes, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(planes, planes) for _ in range(blocks - 1)))


def encoder_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The ResNet's own tensors out of a checkpoint, under torchvision's names; all of ``tensors`` where none is seen.

    Reads ``backbone.*``, ``encoder.*``, ``module.*`` in any nesting, and a backbone written as a sequence
    (``backbone.0`` for conv1 and so on). Raises KeyError with the roots where there are several and none is preferred,
    as with a momentum encoder under a name of its own.
    """
    roots = {match[1] for match in map(_FIRST_BLOCK.match, tensors) if match}
    preferred = {root for root in roots if set(root.split(".")) <= _WRAPPERS} or roots
    if len(preferred) > 1:
        raise KeyError(sorted(preferred))
    root = next(iter(preferred), "")
    inside = {name.removeprefix(root): value for name, value in tensors.items() if name.startswith(root)}
    return _named(inside)


_FIRST_BLOCK = re.compile(r"(|.*?\.)(?:layer1|\d+)\.0\.conv1\.weight$")
_WRAPPERS = {"", "module", "model", "backbone", "encoder", "visual", "_orig_mod"}
_STAGES = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")


def _named(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Stages that are numbered, with gaps where a stage has no weights, get their names."""
    if "0.weight" not in tensors:
        return tensors
    numbers = sorted({int(first) for first, _, _ in (name.partition(".") for name in tensors) if first.isdigit()})
    names = {str(number): name for number, name in zip(numbers, _STAGES, strict=False)}
    parts = ((name.partition("."), value) for name, value in tensors.items())
    return {f"{names[first]}.{rest}": value for (first, _, rest), value in parts if first in names}
