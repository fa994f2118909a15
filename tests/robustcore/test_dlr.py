"""The difference of logits ratio against answers worked out by hand, finite differences and its own invariances."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from robustcore.errors import InputError
from robustcore.losses.classifiers import Probe
from robustcore.losses.dlr import dlr, targeted_dlr, worst_targets
from robustcore.losses.reference import Reference

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(40, 6, generator=GENERATOR)
LABELS = torch.randint(6, (40,), generator=GENERATOR)
TARGETS = (LABELS + 1 + torch.randint(5, (40,), generator=GENERATOR)) % 6
BOTH = pytest.mark.parametrize("loss", [dlr, targeted_dlr])


def against(labels: Tensor, classes: int, targets: Tensor | None = None) -> Reference:
    """A classifier that passes embeddings on as logits."""
    return Reference(labels, classifier=Probe(torch.eye(classes), torch.zeros(classes)), targets=targets)


REFERENCE = against(LABELS, 6, TARGETS)


def test_dlr_of_an_image_that_is_right_and_of_one_that_is_wrong() -> None:
    logits = torch.tensor([[5.0, 1, 3, 0], [5.0, 1, 3, 0], [5.0, 1, 3, 0]])
    labels = torch.tensor([0, 2, 3])
    # (max wrong - label) / (5 - 1): (3 - 5) / 4, (5 - 3) / 4, (5 - 0) / 4
    assert dlr(logits, against(labels, 4)).tolist() == [-0.5, 0.5, 1.25]


def test_targeted_dlr_of_an_image_whose_target_lies_below_and_above_its_label() -> None:
    logits = torch.tensor([[5.0, 1, 3, 0, -9], [5.0, 1, 3, 0, -9]])
    labels, targets = torch.tensor([0, 1]), torch.tensor([2, 0])
    # (target - label) / (5 - (1 + 0) / 2): (3 - 5) / 4.5, (5 - 1) / 4.5
    expected = [-2 / 4.5, 4 / 4.5]
    assert targeted_dlr(logits, against(labels, 5, targets)).tolist() == pytest.approx(expected)


def test_dlr_is_positive_exactly_where_the_image_is_fooled() -> None:
    wrong = LOGITS.argmax(dim=1) != LABELS
    assert 5 < wrong.sum() < 40
    assert torch.equal(dlr(LOGITS, REFERENCE) > 0, wrong)


def test_targeted_dlr_is_positive_exactly_where_the_target_beats_the_label() -> None:
    rows = torch.arange(40)
    beaten = LOGITS[rows, TARGETS] > LOGITS[rows, LABELS]
    assert torch.equal(targeted_dlr(LOGITS, REFERENCE) > 0, beaten)
    assert torch.equal(targeted_dlr(LOGITS, replace(REFERENCE, labels=TARGETS, targets=LABELS)) > 0, ~beaten)


@BOTH
def test_neither_a_scale_nor_a_shift_of_the_logits_changes_it(loss) -> None:
    values = loss(LOGITS, REFERENCE)
    torch.testing.assert_close(loss(100 * LOGITS, REFERENCE), values)
    torch.testing.assert_close(loss(LOGITS + 7, REFERENCE), values, rtol=1e-4, atol=1e-5)


@BOTH
def test_its_gradient_is_that_of_finite_differences_in_float64(loss) -> None:
    eye = Probe(torch.eye(6, dtype=torch.float64), torch.zeros(6, dtype=torch.float64))

    class Float64(Probe):
        def __call__(self, embeddings: Tensor) -> Tensor:
            return embeddings.double()

    reference = replace(REFERENCE, classifier=Float64(eye.weight, eye.bias))
    assert torch.autograd.gradcheck(lambda at: loss(at, reference), LOGITS.double().requires_grad_(), eps=1e-7)


@BOTH
def test_no_image_sees_another(loss) -> None:
    together = loss(LOGITS, REFERENCE)
    assert together.shape == (40,)
    for index in range(40):
        one = slice(index, index + 1)
        alone = against(LABELS[one], 6, TARGETS[one])
        assert torch.equal(loss(LOGITS[one], alone), together[one])


@BOTH
def test_half_precision_embeddings_are_judged_in_float32(loss) -> None:
    halves = LOGITS.bfloat16()
    assert torch.equal(loss(halves, REFERENCE), loss(halves.float(), REFERENCE))


@BOTH
def test_logits_that_are_all_equal_give_zero_and_a_finite_gradient(loss) -> None:
    at = torch.zeros(40, 6, requires_grad=True)
    values = loss(at, REFERENCE)
    (gradient,) = torch.autograd.grad(values.sum(), at)
    assert not values.any()
    assert gradient.isfinite().all()


@pytest.mark.parametrize(("loss", "classes"), [(dlr, 3), (targeted_dlr, 4)])
def test_too_few_classes_are_refused_in_words(loss, classes: int) -> None:
    labels, targets = torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.int64)
    assert loss(torch.randn(2, classes), against(labels, classes, targets)).shape == (2,)
    with pytest.raises(InputError, match=f"expected at least {classes} classes, got {classes - 1}"):
        loss(torch.randn(2, classes - 1), against(labels, classes - 1, targets))


def test_worst_targets_are_the_wrong_classes_in_their_order() -> None:
    logits = torch.tensor([[5.0, 1, 3, 0], [5.0, 1, 3, 0], [5.0, 1, 3, 0]])
    labels = torch.tensor([0, 2, 3])
    targets = [worst_targets(logits, labels, rank).tolist() for rank in (1, 2, 3)]
    assert np.array(targets).T.tolist() == [[2, 1, 3], [0, 1, 3], [0, 2, 1]]


def test_worst_targets_go_through_every_wrong_class_once_and_never_the_label() -> None:
    targets = torch.stack([worst_targets(LOGITS, LABELS, rank) for rank in range(1, 6)], dim=1)
    assert torch.equal(torch.cat([targets, LABELS[:, None]], dim=1).sort(dim=1).values, torch.arange(6).expand(40, 6))


@pytest.mark.parametrize("rank", [0, 6])
def test_a_rank_without_a_wrong_class_is_refused(rank: int) -> None:
    with pytest.raises(InputError, match=f"from 1 to 5, got {rank}"):
        worst_targets(LOGITS, LABELS, rank)
