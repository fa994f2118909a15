"""LoRA inside a training step: its dropout, weights that an attack builds once, mixed precision, several processes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from robustcore.attacks import PGD, Linf
from robustcore.models.lora import Lora, adapter, dropped, merged
from robustcore.noise import Noise
from robustcore.precision import built_once, without_weight_gradients
from tests.robustcore.lora_towers import VIT, adapted_weights, stirred, trained
from tests.robustcore.towers import IMAGES


def masked(module: nn.Module, step: int, seed: int = 0) -> Tensor:
    with dropped(module, seed, step), torch.no_grad():
        assert torch.equal(VIT.run(module), VIT.run(module))
        return torch.cat([weight.flatten() for weight in adapted_weights(module).values()])


def test_a_mask_is_one_for_a_step_another_for_the_next_and_gone_outside() -> None:
    module = stirred(VIT.adapted(dropout=0.25))
    whole = merged(module)
    assert torch.equal(masked(module, 3), masked(module, 3))
    assert not torch.equal(masked(module, 3), masked(module, 4))
    assert not torch.equal(masked(module, 3), masked(module, 3, seed=1))
    assert all(torch.equal(value, whole[name]) for name, value in merged(module).items())
    with pytest.raises(ZeroDivisionError), dropped(module, 0, 0):
        raise ZeroDivisionError
    assert all(torch.equal(value, whole[name]) for name, value in merged(module).items())
    assert module.state_dict().keys() == VIT.adapted().state_dict().keys()


def test_a_mask_drops_whole_inputs_of_a_and_keeps_the_mean() -> None:
    module = stirred(VIT.adapted(dropout=0.25, targets=("q", "v")))
    name = "transformer.resblocks.1.attn.in_proj_weight"
    owner, plain = module.transformer.resblocks[1].attn, VIT.build().state_dict()[name]
    full = (owner.in_proj_weight - plain).detach().chunk(3)
    masks = []
    for step in range(400):
        with dropped(module, 7, step), torch.no_grad():
            query, key, value = (owner.in_proj_weight - plain).chunk(3)
        assert not key.any()
        kept = [part.any(dim=0) for part in (query, value)]
        torch.testing.assert_close(query, full[0] * kept[0] / 0.75, rtol=0, atol=1e-6)
        masks.append(torch.stack(kept))
    share = torch.stack(masks).float()
    assert share.mean().item() == pytest.approx(0.75, abs=0.01)
    assert (share.mean(dim=0) - 0.75).abs().max() < 0.1  # 4.6 standard deviations
    assert not torch.equal(share[:, 0], share[:, 1])


def test_without_dropout_the_steps_are_all_alike() -> None:
    module = stirred(VIT.adapted())
    assert torch.equal(masked(module, 0), masked(module, 1))


def counted(module: nn.Module) -> dict[nn.Module, int]:
    """How often each weight is built from now on."""
    times: dict[nn.Module, int] = {}

    def count(delta: nn.Module, *_: Any) -> None:
        times[delta] = times.get(delta, 0) + 1

    for child in module.modules():
        if {"a", "b"} <= dict(child.named_parameters(recurse=False)).keys():
            child.register_forward_hook(count)
    return times


def attacked(module: nn.Module) -> Tensor:
    attack = PGD(Linf(8 / 255), steps=5)
    with torch.no_grad():
        start = module(IMAGES)
    return attack(lambda at: (module(at) - start).square().sum(dim=1), IMAGES, Noise.of(0, 0, torch.arange(3)))


def test_in_an_attack_each_weight_is_built_once_and_the_images_are_the_same() -> None:
    module = stirred(VIT.adapted(dropout=0.25))
    times, weights = counted(module), len(adapter(module)) // 2
    with dropped(module, 0, 0):
        slow = attacked(module)
        assert min(times.values()) > 5
        times.clear()
        with without_weight_gradients(module):
            fast = attacked(module)
        assert list(times.values()) == [1] * weights
        times.clear()
        with built_once():
            module(fast).square().sum().backward()
        assert list(times.values()) == [1] * weights
    assert torch.equal(slow, fast)
    assert not torch.equal(fast, IMAGES)
    assert all(value.grad is not None and value.grad.any() for value in trained(module).values())


def test_gradients_reach_a_and_b_alike_inside_and_outside_a_block_that_builds_once() -> None:
    gradients: list[dict[str, Tensor]] = []
    for once in (False, True):
        module = stirred(VIT.adapted())
        if once:
            with built_once():
                VIT.run(module).square().sum().backward()
        else:
            VIT.run(module).square().sum().backward()
        gradients.append({name: value.grad for name, value in trained(module).items() if value.grad is not None})
    assert len(gradients[0]) == len(adapter(module))
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value)


def test_autocast_leaves_the_weights_in_float32_and_their_gradients_too() -> None:
    module = stirred(VIT.adapted())
    expected = merged(module)
    with torch.autocast("cpu", torch.bfloat16):
        for name, weight in adapted_weights(module).items():
            assert torch.equal(weight, expected[name])
        embeddings = VIT.run(module)
    embeddings.float().square().sum().backward()
    assert {value.grad.dtype for value in trained(module).values() if value.grad is not None} == {torch.float32}


def test_a_tower_in_float64_keeps_every_digit() -> None:
    module = VIT.build().double()
    before = {name: value.add_(1e-12).clone() for name, value in module.state_dict().items()}
    Lora(targets=("q", "mlp")).attach(module, 0)
    assert all(torch.equal(value, before[name]) for name, value in merged(module).items())


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_a_distributed_wrapper_trains_the_same_parameters_with_the_same_gradients() -> None:
    alone, module = stirred(VIT.adapted(dropout=0.5)), stirred(VIT.adapted(dropout=0.5))
    wrapped = DistributedDataParallel(module)
    for step in range(2):
        for model, run in ((alone, alone), (module, wrapped)):
            model.zero_grad()
            with dropped(model, 0, step), built_once():
                run(IMAGES).square().sum().backward()
    assert trained(wrapped).keys() == {f"module.{name}" for name in trained(alone)}
    for name, value in trained(alone).items():
        torch.testing.assert_close(trained(module)[name].grad, value.grad)
