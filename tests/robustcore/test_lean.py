"""The vision transformer with less work is the same function: embeddings, gradients in pixels and in weights."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustcore.models.lean import lean
from robustcore.models.openclip import open_clip

SIZE, WIDTH = 16, 32
TOWERS: dict[str, dict[str, Any]] = {
    "one block": {"layers": 1},
    "several blocks": {"layers": 3},
    "layer scale and QuickGELU": {"layers": 2, "ls_init_value": 0.5, "quick_gelu": True},
    "patches that leave a rim": {"layers": 2, "image_size": 18},
    "averaged tokens": {"layers": 2, "pool_type": "avg"},
    "normalised after pooling": {"layers": 2, "final_ln_after_pool": True},
    "pooled by attention": {"layers": 2, "attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 4},
    "blocks of another kind": {"layers": 2, "block_type": "custom"},
    "patches that are normalised": {"layers": 2, "no_ln_pre": True},
    "a ResNet": {"layers": [1, 1, 1, 1], "image_size": 32},
}


def towers(**changes: Any) -> tuple[nn.Module, nn.Module]:
    """As open_clip makes it, and the lean one with the same weights."""
    quick_gelu = changes.pop("quick_gelu", False)
    vision = {"image_size": SIZE, "patch_size": 4, "width": WIDTH, "head_width": 16} | changes
    text = {"context_length": 8, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}
    torch.manual_seed(0)
    model = open_clip.CLIP(embed_dim=24, vision_cfg=vision, text_cfg=text, quick_gelu=quick_gelu).eval()
    return model.visual, lean(copy.deepcopy(model.visual))


def seen(tower: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """What depends on it; gradients are of a sum that no entry leaves out."""
    pixels = images.clone().requires_grad_()
    embeddings = tower(pixels)
    loss = (embeddings * torch.linspace(-1, 1, embeddings.numel()).reshape(embeddings.shape)).sum()
    names = [name for name, _ in tower.named_parameters()]
    gradients = torch.autograd.grad(loss, [pixels, *tower.parameters()], allow_unused=True)
    with torch.no_grad():
        found = {"embeddings": embeddings.detach(), "without gradient": tower(images)}
    return found | {n: g for n, g in zip(["pixels", *names], gradients, strict=True) if g is not None}


@pytest.mark.parametrize("changes", TOWERS.values(), ids=TOWERS.keys())
def test_every_tower_keeps_its_function_and_the_names_of_its_weights(changes: dict[str, Any]) -> None:
    plain, light = towers(**changes)
    size = changes.get("image_size", SIZE)
    images = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(1))
    expected, found = seen(plain, images), seen(light, images)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
    assert list(plain.state_dict()) == list(light.state_dict())


def test_the_last_block_asks_for_the_class_token_alone() -> None:
    _, light = towers(layers=2)
    rows: list[int] = []

    def note(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        rows.append(made.shape[1])

    for name in ("transformer.resblocks.0.mlp", "transformer.resblocks.1.mlp"):
        light.get_submodule(name).register_forward_hook(note)
    light(torch.rand(20, 3, SIZE, SIZE))
    assert rows == [17, 1]


def test_embeddings_are_the_same_whether_weights_train_or_not() -> None:
    _, light = towers(layers=2, width=64, head_width=32)
    images = torch.rand(5, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert torch.equal(light(images), light.requires_grad_(False)(images))


@pytest.mark.parametrize("count", [2, 3, 9, 20])
def test_an_embedding_does_not_depend_on_who_is_beside_it(count: int) -> None:
    _, light = towers(layers=2, width=64, head_width=32)
    images = torch.rand(40, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    for kind in ("embeddings", "without gradient"):
        assert torch.equal(seen(light, images[:count])[kind], seen(light, images)[kind][:count])
