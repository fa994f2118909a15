"""Every kind of tower that LoRA adapts, small, with what a count by hand says of its matrices."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from open_clip.timm_model import TimmModel
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from robustcore.models.architectures import byte_tokens
from robustcore.models.lora import Lora, adapter, load_adapter
from tests.robustcore.towers import IMAGES, TINY, built

LARGER = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
TOKENS = byte_tokens(["a one", "the digit two", "3"], TINY["text_cfg"]["context_length"])
RESNET = {"layers": [1, 1, 1, 1], "width": 8, "head_width": 32, "image_size": 32}
WIDTHS, TWICE = (8, 16, 32, 64), (32, 64, 128)
POOLED = {**TINY["vision_cfg"], "attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 4}


def same(build: Callable[..., Any], *args: Any, **config: Any) -> Any:
    """Always the same module, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(*args, **config).eval()


def timm_trunk() -> nn.Module:
    tower = TimmModel("vit_tiny_patch16_224", embed_dim=32, pretrained=False)
    tower.set_input_size(32)
    tower.trunk.blocks = tower.trunk.blocks[:2]
    return tower


def transformer(layers: int, width: int) -> dict[str, int]:
    """The sum of rows and columns of all matrices of a target."""
    block = {"q": 2 * width, "k": 2 * width, "v": 2 * width, "out": 2 * width, "mlp": 2 * 5 * width}
    return {target: layers * size for target, size in block.items()}


@dataclass(frozen=True)
class Tower:
    build: Callable[[], Any]
    run: Callable[[Any], Tensor]
    sizes: dict[str, int]  # per target there is, the sum of rows and columns over its matrices
    leave_out: Callable[[Any], tuple[nn.Module, ...]] = lambda module: ()

    def adapted(self, seed: int = 0, **fields: Any) -> Any:
        module = self.build()
        lora = Lora(**{"targets": tuple(self.sizes)} | fields)
        lora.attach(module, seed, self.leave_out(module))
        return module


TOWERS = {
    "vit": Tower(
        lambda: same(built).visual, lambda module: module(IMAGES), transformer(2, 64) | {"conv": 64 + 3 * 4 * 4}
    ),
    "vit of custom blocks": Tower(
        lambda: same(built, vision_cfg={**TINY["vision_cfg"], "block_type": "custom"}).visual,
        lambda module: module(IMAGES),
        transformer(2, 64) | {"conv": 64 + 3 * 4 * 4},
    ),
    "vit pooled by attention of another width": Tower(
        lambda: same(built, embed_dim=32, vision_cfg=POOLED).visual,
        lambda module: module(IMAGES),
        {"q": 4 * 64 + 32 + 32, "k": 4 * 64 + 32 + 64, "v": 4 * 64 + 32 + 64, "out": 4 * 64 + 32 + 32},
    ),
    "text": Tower(
        lambda: same(built),
        lambda model: model.encode_text(TOKENS), transformer(1, 64), leave_out=lambda model: (model.visual,)
    ),
    "resnet of clip": Tower(
        lambda: same(built, vision_cfg=RESNET).visual,
        lambda module: module(LARGER),
        # The stem, then four bottlenecks of width w on inputs of i channels.
        {"q": 2 * 256, "k": 2 * 256, "v": 2 * 256, "out": 256 + 64, "conv": (4 + 27) + (4 + 36) + (8 + 36)
         + sum((w + i) + (w + 9 * w) + (4 * w + w) + (4 * w + i) for w, i in zip(WIDTHS, (8, *TWICE), strict=True))},
    ),
    "vit of timm": Tower(
        lambda: same(timm_trunk), lambda module: module(LARGER), transformer(2, 192) | {"conv": 192 + 3 * 16 * 16}
    ),
    "resnet of torchvision": Tower(
        lambda: same(ResNet, BasicBlock, [1, 1, 1, 1]),
        lambda module: module(LARGER),
        # The stem, a block of two convolutions, then three that halve the image and have a shortcut.
        {"conv": (64 + 3 * 49) + 2 * 10 * 64 + sum((w + 9 * w // 2) + 10 * w + (w + w // 2) for w in (128, 256, 512))},
    ),
}  # fmt: skip
VIT = TOWERS["vit"]
every_tower = pytest.mark.parametrize("tower", TOWERS.values(), ids=TOWERS.keys())


def stirred(module: Any, seed: int = 5) -> Any:
    """As if trained: every A and B is random."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: 0.1 * torch.randn(value.shape, generator=generator) for name, value in adapter(module).items()}
    load_adapter(module, tensors)
    return module


def adapted_weights(module: nn.Module) -> dict[str, Tensor]:
    """What the tower's own code reads."""
    names = {name.rpartition(".")[0].rpartition(".") for name in adapter(module)}
    return {".".join((*filter(None, (at,)), name)): getattr(module.get_submodule(at), name) for at, _, name in names}


def trained(module: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in module.named_parameters() if value.requires_grad}
