"""Sim-CLIP: hand-computed cosines, the stop-gradient that really stops, and what the cosine does not see."""

import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from robustcore.losses.reference import Reference
from robustcore.losses.sim_clip import SimClip
from tests.robustcore.objectives import Array, as64, batch, central_differences, one_image, rotation, with_embeddings

ANCHORS: tuple[Literal["online", "original"], ...] = ("online", "original")


@pytest.fixture(params=ANCHORS)
def loss(request: pytest.FixtureRequest) -> SimClip:
    return SimClip(anchor=request.param)


def half_distance(one: Array, other: Array) -> Array:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray(-0.5 * (one * other).sum(axis=1) / lengths)


def test_both_halves_make_the_negative_cosine_and_the_original_anchor_is_one_half() -> None:
    perturbed = torch.tensor([[0.0, 2], [1, 1], [-3, 0], [5, 0]])
    fixed = torch.tensor([[1.0, 0]] * 4)
    labels = torch.zeros(4, dtype=torch.int64)
    expected = [0.0, -math.sqrt(0.5), 1.0, -1.0]
    online = SimClip().robust(perturbed, Reference(labels, clean=fixed))
    original = SimClip(anchor="original").robust(perturbed, Reference(labels, original=fixed))
    assert online.tolist() == pytest.approx(expected)
    assert original.tolist() == pytest.approx([value / 2 for value in expected])


def test_each_side_gets_the_gradient_of_its_own_half_with_the_other_side_held_fixed() -> None:
    perturbed, reference = batch()
    clean = reference.clean
    assert clean is not None
    perturbed.requires_grad_()
    clean.requires_grad_()
    values = SimClip().robust(perturbed, reference)
    of_perturbed, of_clean = torch.autograd.grad(values.sum(), (perturbed, clean))
    z, x = as64(perturbed), as64(clean)
    np.testing.assert_allclose(values.detach(), half_distance(z, x) + half_distance(x, z), rtol=1e-5)
    np.testing.assert_allclose(of_perturbed, central_differences(lambda at: half_distance(at, x), z), atol=1e-5)
    np.testing.assert_allclose(of_clean, central_differences(lambda at: half_distance(at, z), x), atol=1e-5)


def test_one_shared_encoder_descends_both_halves_and_neither_through_its_target() -> None:
    images, perturbed = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(3))
    weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(4)).requires_grad_()
    labels = torch.zeros(5, dtype=torch.int64)
    values = SimClip().robust(perturbed @ weight.T, Reference(labels, clean=images @ weight.T))
    (gradient,) = torch.autograd.grad(values.sum(), weight)
    z, x, now = as64(perturbed), as64(images), as64(weight)

    def with_fixed_targets(at: Array) -> Array:
        return half_distance(z @ at.T, x @ now.T) + half_distance(x @ at.T, z @ now.T)

    def without(at: Array) -> Array:
        return 2 * half_distance(z @ at.T, x @ at.T)

    np.testing.assert_allclose(gradient, central_differences(with_fixed_targets, now), atol=1e-5)
    assert np.abs(as64(gradient) - central_differences(without, now)).max() > 0.01


def test_the_original_anchor_is_what_the_released_code_optimises() -> None:
    perturbed, reference = batch()
    perturbed.requires_grad_()
    values = SimClip(anchor="original").robust(perturbed, replace(reference, clean=None))
    (gradient,) = torch.autograd.grad(values.sum(), perturbed)
    z, original = as64(perturbed), as64(reference.original)
    np.testing.assert_allclose(values.detach(), half_distance(z, original), rtol=1e-5)
    np.testing.assert_allclose(gradient, central_differences(lambda at: half_distance(at, original), z), atol=1e-5)


def test_neither_lengths_nor_a_rotation_of_everything_change_it(loss: SimClip) -> None:
    perturbed, reference = batch()
    expected = loss.robust(perturbed, reference)
    lengths = torch.linspace(0.1, 10, len(perturbed))[:, None]
    turn = rotation()

    def longer(embeddings: Tensor) -> Tensor:
        return embeddings * lengths.flip(0)

    def turned(embeddings: Tensor) -> Tensor:
        return embeddings @ turn

    torch.testing.assert_close(loss.robust(perturbed * lengths, with_embeddings(reference, longer)), expected)
    torch.testing.assert_close(loss.robust(turned(perturbed), with_embeddings(reference, turned)), expected)


def test_it_is_one_float32_number_an_image_and_no_image_sees_another(loss: SimClip) -> None:
    perturbed, reference = batch()
    together = loss.robust(perturbed, reference)
    assert together.shape == (5,)
    assert together.dtype == torch.float32
    for index in range(5):
        alone = loss.robust(perturbed[index : index + 1], one_image(reference, index))
        torch.testing.assert_close(alone, together[index : index + 1])


def test_half_precision_embeddings_are_compared_in_float32(loss: SimClip) -> None:
    perturbed, reference = batch()
    halves = with_embeddings(reference, Tensor.bfloat16)
    floats = with_embeddings(halves, Tensor.float)
    assert torch.equal(loss.robust(perturbed.bfloat16(), halves), loss.robust(perturbed.bfloat16().float(), floats))


def test_it_has_no_gradient_where_nothing_has_moved_and_says_so(loss: SimClip) -> None:
    perturbed, reference = batch()
    still = with_embeddings(reference, lambda _: perturbed.clone())
    (gradient,) = torch.autograd.grad(loss.robust(perturbed.requires_grad_(), still).sum(), perturbed)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-6, rtol=0)
    assert loss.flat_at_start


def test_it_asks_for_its_anchor_alone_and_its_attacker_climbs_the_distance_of_embeddings() -> None:
    assert SimClip().needs == {"clean"}
    assert SimClip(anchor="original").needs == {"original"}
    assert SimClip().climb == "embedding"
    assert SimClip().prompts == ()
    assert SimClip().alpha == 0


@pytest.mark.parametrize("unknown", [{"alpha": 0.5}, {"anchor": "offline"}])
def test_a_clean_term_or_another_anchor_is_refused(unknown: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(SimClip).validate_python(unknown)
