"""PMG-AFT: cross-entropy and its two divergences, against numpy in float64 and by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from robustcore.losses.classifiers import ZeroShot
from robustcore.losses.objective import Need
from robustcore.losses.pmg_aft import PmgAft
from robustcore.losses.reference import Reference, cross_entropy
from robustcore.types import Embeddings
from tests.robustcore.objectives import (
    Array,
    as64,
    batch,
    central_differences,
    divergence64,
    entropy64,
    logits64,
    one_image,
    rotation,
    with_embeddings,
    with_rows,
)

VARIANTS = [
    PmgAft(),
    PmgAft(generalization_weight=0.5, consistency_weight=2),
    PmgAft(generalization_weight=0),
    PmgAft(consistency_weight=0),
]


def robust64(loss: PmgAft, reference: Reference, points: list[Array]) -> Array:
    perturbed, clean, original_perturbed = points
    logits = logits64(perturbed, reference.classifier)
    prior = divergence64(logits64(original_perturbed, reference.original_classifier), logits)
    consistency = divergence64(logits64(clean, reference.classifier), logits)
    entropy = entropy64(logits, reference.labels)
    return np.asarray(entropy + loss.generalization_weight * prior + loss.consistency_weight * consistency)


def test_it_is_worked_out_by_hand_for_two_classes() -> None:
    rows = torch.eye(2)
    reference = Reference(
        labels=torch.tensor([0]),
        classifier=ZeroShot(rows, math.log(3)),
        original_classifier=ZeroShot(rows, math.log(7)),
        clean=torch.tensor([[2.0, 0]]),  # cosines 1 and 0: p(x) = (3/4, 1/4)
        original_perturbed=torch.tensor([[9.0, 0]]),  # p0(z) = (7/8, 1/8)
    )
    perturbed = torch.tensor([[0.0, 1]])  # p(z) = (1/4, 3/4)
    consistency = 0.75 * math.log(3) + 0.25 * math.log(1 / 3)
    generalization = 7 / 8 * math.log(7 / 2) + 1 / 8 * math.log(1 / 6)
    expected = math.log(4) + generalization + consistency
    assert PmgAft().robust(perturbed, reference).item() == pytest.approx(expected, rel=1e-6)


def test_where_nothing_has_moved_only_the_cross_entropy_is_left() -> None:
    perturbed, reference = batch()
    still = with_embeddings(replace(reference, original_classifier=reference.classifier), lambda _: 3 * perturbed)
    torch.testing.assert_close(PmgAft().robust(perturbed, still), cross_entropy(perturbed, still))


@pytest.mark.parametrize("loss", VARIANTS, ids=str)
def test_values_and_all_three_gradients_agree_with_finite_differences_in_float64(loss: PmgAft) -> None:
    perturbed, reference = batch()
    assert reference.clean is not None
    assert reference.original_perturbed is not None
    inputs = [tensor.requires_grad_() for tensor in (perturbed, reference.clean, reference.original_perturbed)]
    values = loss.robust(perturbed, reference)
    gradients = torch.autograd.grad(values.sum(), inputs, allow_unused=True, materialize_grads=True)
    points = [as64(tensor) for tensor in inputs]
    np.testing.assert_allclose(values.detach(), robust64(loss, reference, points), rtol=1e-5)
    for index, gradient in enumerate(gradients):

        def varied(at: Array, index: int = index) -> Array:
            return robust64(loss, reference, [*points[:index], at, *points[index + 1 :]])

        np.testing.assert_allclose(gradient, central_differences(varied, points[index]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("loss", "needs"),
    [
        (
            PmgAft(),
            (
                "clean",
                "original_perturbed",
                "original_classifier",
            ),
        ),
        (PmgAft(generalization_weight=0), ("clean",)),
        (
            PmgAft(consistency_weight=0),
            (
                "original_perturbed",
                "original_classifier",
            ),
        ),
        (PmgAft(generalization_weight=0, consistency_weight=0), ()),
    ],
)
def test_a_term_of_no_weight_asks_for_nothing(loss: PmgAft, needs: tuple[Need, ...]) -> None:
    perturbed, reference = batch()
    assert loss.needs == set(needs)
    scarce = Reference(reference.labels, classifier=reference.classifier)
    scarce = replace(scarce, **{name: getattr(reference, name) for name in needs})
    assert torch.equal(loss.robust(perturbed, scarce), loss.robust(perturbed, reference))


def test_without_its_divergences_it_is_tecoa() -> None:
    perturbed, reference = batch()
    plain = PmgAft(generalization_weight=0, consistency_weight=0)
    assert torch.equal(plain.robust(perturbed, reference), cross_entropy(perturbed, reference))


def test_its_attacker_climbs_cross_entropy_alone() -> None:
    assert PmgAft().climb == "cross_entropy"
    assert not PmgAft().flat_at_start
    assert PmgAft().alpha == 0


def test_neither_lengths_nor_a_rotation_nor_the_order_of_classes_change_it() -> None:
    perturbed, reference = batch()
    loss, turn, order = PmgAft(), rotation(), torch.tensor([2, 0, 1])
    expected = loss.robust(perturbed, reference)

    def turned(embeddings: Embeddings) -> Tensor:
        return 5 * embeddings @ turn

    elsewhere = with_rows(with_embeddings(reference, turned), lambda rows: rows @ turn)
    torch.testing.assert_close(loss.robust(turned(perturbed), elsewhere), expected)
    renamed = replace(with_rows(reference, lambda rows: rows[order]), labels=order.argsort()[reference.labels])
    torch.testing.assert_close(loss.robust(perturbed, renamed), expected)


def test_it_is_one_float32_number_an_image_and_no_image_sees_another() -> None:
    perturbed, reference = batch()
    together = PmgAft().robust(perturbed, reference)
    assert together.shape == (5,)
    assert together.dtype == torch.float32
    for index in range(5):
        alone = PmgAft().robust(perturbed[index : index + 1], one_image(reference, index))
        torch.testing.assert_close(alone, together[index : index + 1])


def test_half_precision_embeddings_are_compared_in_float32() -> None:
    perturbed, reference = batch()
    halves = with_embeddings(reference, Tensor.bfloat16)
    floats = with_embeddings(halves, Tensor.float)
    low = perturbed.bfloat16()
    assert torch.equal(PmgAft().robust(low, halves), PmgAft().robust(low.float(), floats))
