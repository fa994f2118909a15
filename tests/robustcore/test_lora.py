"""LoRA on every kind of tower: nothing at the start, A and B alone after it, and a merge that is the same function."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from robustcore.errors import ModelError
from robustcore.models.clip import Clip
from robustcore.models.lora import Lora, adapter, load_adapter, merged
from tests.robustcore.lora_towers import (
    TOKENS,
    TOWERS,
    VIT,
    Tower,
    adapted_weights,
    every_tower,
    same,
    stirred,
    trained,
)
from tests.robustcore.towers import IMAGES, built


@every_tower
@pytest.mark.parametrize("bfloat16", [False, True])
def test_at_the_start_a_tower_with_lora_is_bit_for_bit_the_one_without(tower: Tower, bfloat16: bool) -> None:
    plain = tower.build().requires_grad_(False)  # torch itself may take another kernel where a weight has gradients
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        assert torch.equal(tower.run(tower.adapted()), tower.run(plain))


@every_tower
def test_every_a_and_b_gets_a_gradient_and_nothing_else_does(tower: Tower) -> None:
    module = stirred(tower.adapted())
    left_out = {name for out in tower.leave_out(module) for name, _ in out.named_parameters("visual")}
    tower.run(module).square().sum().backward()
    with_gradients = {name for name, value in module.named_parameters() if value.grad is not None}
    assert with_gradients == trained(module).keys() - left_out
    assert len(with_gradients) == len(adapter(module)) > 0
    assert all(dict(module.named_parameters())[name].grad.any() for name in with_gradients)


@every_tower
@pytest.mark.parametrize("rank", [1, 3])
def test_a_target_trains_rank_times_the_rows_and_columns_of_its_matrices(tower: Tower, rank: int) -> None:
    for target, size in tower.sizes.items():
        module = tower.adapted(rank=rank, targets=(target,))
        assert sum(value.numel() for value in adapter(module).values()) == rank * size, target


@every_tower
def test_the_gradients_of_a_and_b_follow_from_that_of_the_merged_weight(tower: Tower) -> None:
    module, plain = stirred(tower.adapted(rank=3, scale=0.7)), tower.build()
    plain.load_state_dict(merged(module), strict=True)
    for model in (module, plain):
        tower.run(model).square().sum().backward()
    of_weight = {name: value.grad for name, value in plain.named_parameters()}
    of_factor = {value.data_ptr(): value.grad for value in module.parameters()}
    factors = adapter(module)
    for name in adapted_weights(module):
        a, b = factors[f"{name}.lora_a"], factors[f"{name}.lora_b"]
        slope = of_weight[name].reshape(len(b), b.shape[1], a.shape[2])
        torch.testing.assert_close(of_factor[a.data_ptr()], 0.7 * b.mT @ slope, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(of_factor[b.data_ptr()], 0.7 * slope @ a.mT, rtol=1e-3, atol=1e-4)


@every_tower
def test_the_merged_weights_are_those_in_use_and_load_into_the_plain_tower(tower: Tower) -> None:
    module, plain = stirred(tower.adapted()), tower.build()
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    state, used = merged(module), adapted_weights(module)
    plain.load_state_dict(state, strict=True)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, used.get(name, before[name])), name
        assert torch.equal(value, before[name]) == (name not in used), name
    with torch.no_grad():
        torch.testing.assert_close(tower.run(plain), tower.run(module), rtol=0, atol=1e-6)


@every_tower
def test_each_block_of_rows_changes_by_scale_b_a_and_by_no_more_than_the_rank(tower: Tower) -> None:
    module = stirred(tower.adapted(rank=3, scale=0.7))
    before, after, factors = tower.build().state_dict(), merged(module), adapter(module)
    for name in adapted_weights(module):
        a, b = factors[f"{name}.lora_a"].double(), factors[f"{name}.lora_b"].double()
        change = (after[name].double() - before[name].double()).reshape(len(b), b.shape[1], a.shape[2])
        torch.testing.assert_close(change, 0.7 * b @ a, rtol=0, atol=1e-6)
        if change.shape[1] <= 64:  # beyond, only slower
            assert (torch.linalg.matrix_rank(change, atol=1e-4) == min(3, change.shape[1])).all()


@pytest.mark.parametrize("target", ["q", "k", "v"])
def test_one_of_query_key_and_value_is_adapted_without_the_other_two(target: str) -> None:
    module = stirred(VIT.adapted(targets=(target,)))
    before, after = VIT.build().state_dict(), merged(module)
    packed = [name for name in before if name.endswith("in_proj_weight")]
    assert packed
    for name in packed:
        for part, was, became in zip("qkv", before[name].chunk(3), after[name].chunk(3), strict=True):
            assert torch.equal(was, became) == (part != target)


def test_without_a_scale_it_is_one_over_the_root_of_the_rank() -> None:
    one, other = (stirred(VIT.adapted(rank=4, scale=scale)) for scale in (None, 0.5))
    assert all(torch.equal(value, merged(other)[name]) for name, value in merged(one).items())


def test_a_is_uniform_as_kaiming_has_it_and_depends_on_seed_and_place_alone() -> None:
    wide, narrow = (adapter(VIT.adapted(rank=8, targets=targets)) for targets in (("q", "v", "mlp"), ("v",)))
    other = adapter(VIT.adapted(rank=8, targets=("v",), seed=1))
    name = "transformer.resblocks.1.attn.in_proj_weight.lora_a"
    assert torch.equal(wide[name][1], narrow[name][0])
    assert not torch.equal(other[name], narrow[name])
    assert len({float(value.flatten()[0]) for key, value in wide.items() if key.endswith("lora_a")}) == 6
    assert not torch.equal(wide[name][0], wide[name][1])
    for key, value in wide.items():
        bound = value.shape[2] ** -0.5
        if key.endswith("lora_a"):
            assert value.abs().max() <= bound
            assert value.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
        else:
            assert not value.any()


def test_both_towers_merge_into_a_plain_clip_with_the_same_embeddings() -> None:
    model, plain = same(built), same(built)
    Lora().attach(model.visual, 0)
    Lora(targets=("q", "mlp")).attach(model, 1, leave_out=[model.visual])
    stirred(model)
    plain.load_state_dict(merged(model), strict=True)
    with torch.no_grad():
        for embed in (lambda clip: clip.encode_image(IMAGES), lambda clip: clip.encode_text(TOKENS)):
            torch.testing.assert_close(embed(plain), embed(model), rtol=0, atol=1e-6)
            assert not torch.equal(embed(plain), embed(same(built)))


def test_adapting_one_tower_leaves_the_other_and_every_other_model_as_they_were() -> None:
    clip, other = Clip(weights="digits").load(), Clip(weights="digits").load()
    fingerprint, names = clip.encoder.fingerprint(), trained(other.model).keys()
    Lora().attach(clip.model, 0, leave_out=[clip.encoder.visual])
    stirred(clip.model)
    assert adapter(clip.model)
    assert not adapter(clip.encoder)
    assert not adapter(other.model)
    assert clip.encoder.fingerprint() == fingerprint == other.encoder.fingerprint()
    assert {name for name in trained(clip.model) if name.startswith("visual.")} == {
        name for name in names if name.startswith("visual.")
    }
    assert trained(other.model).keys() == names


def test_a_merged_encoder_has_the_names_of_a_plain_one_and_its_fingerprint_when_untrained() -> None:
    clip, plain = Clip(weights="digits").load(), Clip(weights="digits").load()
    Lora().attach(clip.encoder, 0)
    plain.encoder.load_state_dict(merged(clip.encoder), strict=True)
    assert plain.encoder.fingerprint() == Clip(weights="digits").load().encoder.fingerprint()


def test_two_adapted_models_and_a_copy_of_one_keep_apart() -> None:
    one, other = stirred(VIT.adapted(), 1), stirred(VIT.adapted(rank=4, targets=("out",)), 2)
    copy = deepcopy(one)
    before = [merged(module) for module in (one, other)]
    stirred(copy, 3)
    after = [merged(module) for module in (one, other)]
    for was, became in zip(before, after, strict=True):
        assert all(torch.equal(value, became[name]) for name, value in was.items())
    assert before[0].keys() == before[1].keys() == merged(copy).keys()
    name = "transformer.resblocks.0.attn.in_proj_weight"
    assert len({tuple(state[name].flatten()[:9].tolist()) for state in (*after, merged(copy))}) == 3


def test_an_adapter_goes_from_one_model_to_another_by_itself() -> None:
    one, other = stirred(VIT.adapted()), VIT.adapted(seed=9)
    load_adapter(other, {name: value.clone() for name, value in adapter(one).items()})
    with torch.no_grad():
        assert torch.equal(VIT.run(one), VIT.run(other))
    assert {name.rpartition(".")[2] for name in adapter(one)} == {"lora_a", "lora_b"}


def test_an_adapter_of_another_shape_or_other_names_is_refused_with_the_first_that_differs() -> None:
    module = VIT.adapted(rank=2, targets=("q", "k", "v"))
    name = "transformer.resblocks.0.attn.in_proj_weight.lora_a"
    good = adapter(module)
    with pytest.raises(ModelError, match=r"resblocks.0.attn.in_proj_weight.lora_a' expected \(3, 2, 64\), got \(3, 5"):
        load_adapter(module, adapter(VIT.adapted(rank=5, targets=("q", "k", "v"))))
    with pytest.raises(ModelError, match=r"expected \(3, 2, 64\), got none"):
        load_adapter(module, {key: value for key, value in good.items() if key != name})
    with pytest.raises(ModelError, match=r"'visual.x.lora_a' expected none, got \(1,\)") as caught:
        load_adapter(module, good | {"visual.x.lora_a": torch.zeros(1)})
    assert caught.value.key == "lora"


@pytest.mark.parametrize(
    ("name", "targets", "has"),
    [("resnet of torchvision", ("q", "mlp"), "it has conv$"), ("text", ("conv",), "it has k, mlp, out, q, v$")],
)
def test_targets_that_a_tower_has_none_of_are_refused_with_what_it_has(name: str, targets: Any, has: str) -> None:
    module = TOWERS[name].build()
    with pytest.raises(ModelError, match=f"under {', '.join(targets)}; {has}") as caught:
        Lora(targets=targets).attach(module, 0, TOWERS[name].leave_out(module))
    assert caught.value.key == "lora.targets"
    assert all(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize(
    "fields",
    [
        *({"rank": 0}, {"rank": 1.5}, {"scale": 0}, {"dropout": 1}, {"dropout": -0.1}),
        *({"targets": []}, {"targets": ["qkv"]}, {"alpha": 1}),
    ],
    ids=str,
)
def test_a_wrong_field_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Lora).validate_python(fields)
