"""TIMA's image side: margins worked out by hand, distillation against numpy, and what neither may depend on."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from robustcore.losses.classifiers import ZeroShot
from robustcore.losses.distill import distillation
from robustcore.losses.objective import Need
from robustcore.losses.reference import Reference, cross_entropy, squared_distance
from robustcore.losses.tima import Tima
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

# Cosines 0.8 between the first two rows, 0 between the first and the last, 0.6 between the last two.
ROWS = torch.tensor([[1.0, 0], [0.8, 0.6], [0, 1]])
VARIANTS = [
    Tima(margin=0.3, threshold=-0.2),
    Tima(margin=0.3, threshold=-0.2, margins="hard"),
    Tima(margin=0.3, threshold=-0.2, distill_weight=2.5, temperature=3),
    Tima(distill_weight=0, margin=1, threshold=-1),
]


def margins_alone(margins: Any, label: int, **settings: Any) -> float:
    """R at phi(z) along the last row, with s = 10 and no distillation."""
    reference = Reference(torch.tensor([label]), classifier=ZeroShot(ROWS, 10.0))
    loss = Tima(**{"margin": 0.1, "threshold": 0.5, **settings}, margins=margins, distill_weight=0)
    return loss.robust(torch.tensor([[0.0, 7]]), reference).item()


def entropy(logits: list[float], label: int) -> float:
    return math.log(sum(map(math.exp, logits))) - logits[label]


@pytest.mark.parametrize(
    ("margins", "label", "added"),
    [
        ("soft", 0, [0, 0.06, 0]),  # 0.1 (0.8 - 0.5) / 0.5
        ("soft", 1, [0.06, 0, 0.02]),  # 0.1 (0.6 - 0.5) / 0.5
        ("soft", 2, [0, 0.02, 0]),
        ("hard", 0, [0, 0.1, 0]),
        ("hard", 1, [0.1, 0, 0.1]),
        ("hard", 2, [0, 0.1, 0]),
    ],
)
def test_wrong_classes_get_a_margin_by_the_likeness_of_their_text(margins: str, label: int, added: list[float]) -> None:
    logits = [10 * (cosine + margin) for cosine, margin in zip([0, 0.6, 1], added, strict=True)]
    assert margins_alone(margins, label) == pytest.approx(entropy(logits, label), rel=1e-5)


@pytest.mark.parametrize("margins", ["soft", "hard"])
def test_at_threshold_1_or_margin_0_it_is_plain_cross_entropy_even_for_equal_texts(margins: Any) -> None:
    perturbed, reference = batch(dim=2)
    rounded_up = (1 + 1e-6) * torch.tensor(
        [[0.6, 0.8], [0.6, 0.8], [1, 0]]
    )  # a hair longer than 1, as float32 rows are
    twins = replace(reference, classifier=ZeroShot(rounded_up, 10.0))
    for off in (
        Tima(threshold=1, margins=margins, distill_weight=0),
        Tima(margin=0, margins=margins, distill_weight=0),
    ):
        assert torch.equal(off.robust(perturbed, twins), cross_entropy(perturbed, twins))


@pytest.mark.parametrize("margins", ["soft", "hard"])
def test_margins_only_ever_make_it_harder(margins: Any) -> None:
    perturbed, reference = batch()
    values = [
        Tima(margin=margin, threshold=-1, margins=margins, distill_weight=0).robust(perturbed, reference)
        for margin in (0.0, 0.1, 0.3)
    ]
    assert (values[0] < values[1]).all()
    assert (values[1] < values[2]).all()


def test_distillation_compares_with_the_original_embedding_under_the_original_text() -> None:
    """Two classes: teacher (3/4, 1/4) and student (1/4, 3/4)."""
    original_text = ZeroShot(torch.eye(2).flip(0), math.log(3))
    reference = Reference(
        torch.tensor([0]), torch.tensor([[0.0, 5]]), ZeroShot(torch.eye(2), math.log(3)), original_text
    )
    perturbed = torch.tensor([[0.0, 2]])
    margins_only = Tima(distill_weight=0, margin=0).robust(perturbed, reference).item()
    both = Tima(distill_weight=3, margin=0).robust(perturbed, reference).item()
    assert both - margins_only == pytest.approx(3 * 0.5 * math.log(3), rel=1e-5)


def robust64(loss: Tima, perturbed: Array, reference: Reference) -> Array:
    classifier: Any = reference.classifier
    rows, labels = as64(classifier.rows), reference.labels.numpy()
    likeness = rows[labels] @ rows.T
    if loss.margins == "hard":
        margins = loss.margin * (likeness > loss.threshold)
    else:
        margins = loss.margin * np.maximum(0, likeness - loss.threshold) / (1 - loss.threshold)
    margins[np.arange(len(labels)), labels] = 0
    logits = logits64(perturbed, classifier)
    teacher = logits64(as64(reference.original), reference.original_classifier) / loss.temperature
    divergence = loss.temperature**2 * divergence64(teacher, logits / loss.temperature)
    return np.asarray(
        entropy64(logits + classifier.scale * margins, reference.labels) + loss.distill_weight * divergence
    )


@pytest.mark.parametrize("loss", VARIANTS, ids=str)
def test_values_and_gradients_agree_with_finite_differences_in_float64(loss: Tima) -> None:
    perturbed, reference = batch()
    values = loss.robust(perturbed.requires_grad_(), reference)
    (gradient,) = torch.autograd.grad(values.sum(), perturbed)
    at = as64(perturbed)
    np.testing.assert_allclose(values.detach(), robust64(loss, at, reference), rtol=1e-5)
    expected = central_differences(lambda point: robust64(loss, point, reference), at)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)


def test_its_clean_term_has_no_margin_or_is_the_distance_of_fare() -> None:
    perturbed, reference = batch()
    entropies = Tima(margin=1, threshold=-1).clean(perturbed, reference)
    assert torch.equal(entropies, cross_entropy(perturbed, reference))
    distances = Tima(clean_term="embedding").clean(perturbed, reference)
    assert torch.equal(distances, squared_distance(perturbed, reference))


@pytest.mark.parametrize(
    ("loss", "needs"),
    [
        (
            Tima(),
            (
                "original",
                "original_classifier",
            ),
        ),
        (
            Tima(alpha=1, clean_term="embedding"),
            (
                "original",
                "original_classifier",
            ),
        ),
        (Tima(distill_weight=0), ()),
        (Tima(distill_weight=0, alpha=1), ()),
        (Tima(distill_weight=0, clean_term="embedding"), ()),
        (Tima(distill_weight=0, alpha=1, clean_term="embedding"), ("original",)),
    ],
    ids=str,
)
def test_it_asks_only_for_what_a_term_that_counts_compares_with(loss: Tima, needs: tuple[Need, ...]) -> None:
    perturbed, reference = batch()
    assert loss.needs == set(needs)
    scarce = Reference(reference.labels, classifier=reference.classifier)
    scarce = replace(scarce, **{name: getattr(reference, name) for name in needs})
    assert torch.equal(loss.robust(perturbed, scarce), loss.robust(perturbed, reference))
    if loss.alpha:
        assert torch.equal(loss.clean(perturbed, scarce), loss.clean(perturbed, reference))


def test_its_attacker_climbs_all_of_r_which_is_steep_at_the_start() -> None:
    assert Tima().climb == "robust"
    assert not Tima().flat_at_start


@pytest.mark.parametrize("loss", VARIANTS, ids=str)
def test_neither_lengths_nor_a_rotation_nor_the_order_of_classes_change_it(loss: Tima) -> None:
    perturbed, reference = batch()
    turn, order = rotation(), torch.tensor([2, 0, 1])
    expected = loss.robust(perturbed, reference)

    def turned(embeddings: Embeddings) -> Tensor:
        return 5 * embeddings @ turn

    elsewhere = with_rows(with_embeddings(reference, turned), lambda rows: rows @ turn)
    torch.testing.assert_close(loss.robust(turned(perturbed), elsewhere), expected)
    renamed = replace(with_rows(reference, lambda rows: rows[order]), labels=order.argsort()[reference.labels])
    torch.testing.assert_close(loss.robust(perturbed, renamed), expected)


@pytest.mark.parametrize("loss", VARIANTS, ids=str)
def test_it_is_one_float32_number_an_image_and_no_image_sees_another(loss: Tima) -> None:
    perturbed, reference = batch()
    together = loss.robust(perturbed, reference)
    assert together.shape == (5,)
    assert together.dtype == torch.float32
    for index in range(5):
        alone = loss.robust(perturbed[index : index + 1], one_image(reference, index))
        torch.testing.assert_close(alone, together[index : index + 1])


@pytest.mark.parametrize("loss", VARIANTS, ids=str)
def test_half_precision_embeddings_are_compared_in_float32(loss: Tima) -> None:
    perturbed, reference = batch()
    halves = with_embeddings(reference, Tensor.bfloat16)
    floats = with_embeddings(halves, Tensor.float)
    low = perturbed.bfloat16()
    assert torch.equal(loss.robust(low, halves), loss.robust(low.float(), floats))


@pytest.mark.parametrize(
    "wrong",
    [{"threshold": 1.1}, {"threshold": -1.1}, {"margin": -0.1}, {"temperature": 0}, {"margins": "firm"}, {"mhe": 1}],
    ids=str,
)
def test_values_without_a_meaning_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Tima).validate_python(wrong)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_distillation_and_both_its_gradients_agree_with_numpy_in_float64(temperature: float) -> None:
    logits = 3 * torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    teacher, student = (tensor.clone().requires_grad_() for tensor in logits)
    values = distillation(teacher, student, temperature)
    gradients = torch.autograd.grad(values.sum(), (teacher, student))
    p, q = as64(teacher), as64(student)

    def expected(of_teacher: Array, of_student: Array) -> Array:
        return temperature**2 * divergence64(of_teacher / temperature, of_student / temperature)

    np.testing.assert_allclose(values.detach(), expected(p, q), rtol=1e-5)
    np.testing.assert_allclose(gradients[0], central_differences(lambda at: expected(at, q), p), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(gradients[1], central_differences(lambda at: expected(p, at), q), rtol=1e-3, atol=1e-4)


def test_distillation_is_zero_for_equal_logits_up_to_a_constant_and_positive_otherwise() -> None:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    assert not distillation(logits, logits, 2.0).any()
    torch.testing.assert_close(distillation(logits, logits + 3), torch.zeros(6), atol=1e-6, rtol=0)
    assert (distillation(logits, logits + 0.1 * torch.eye(4)[0]) > 0).all()


def test_distillation_of_certain_logits_is_finite() -> None:
    certain = torch.tensor([[1000.0, 0, -1000]])
    assert distillation(certain, certain.flip(1)).tolist() == [2000.0]
    assert distillation(certain, certain).tolist() == [0.0]


def test_distillation_of_half_precision_logits_is_computed_in_float32() -> None:
    low = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    values = distillation(low[0], low[1])
    assert values.dtype == torch.float32
    assert torch.equal(values, distillation(low[0].float(), low[1].float()))
