"""Training objectives against answers worked out by hand, and their gradients against finite differences."""

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from robustcore.losses import Fare, Loss, Reference, Tecoa, ZeroShot, cross_entropy
from tests.support import members

ROWS = torch.eye(3)[:, :3]
GENERATOR = torch.Generator().manual_seed(0)
EMBEDDINGS = torch.randn(5, 3, generator=GENERATOR)
ORIGINAL = torch.randn(5, 3, generator=GENERATOR)
LABELS = torch.tensor([0, 1, 2, 0, 1])
CLASSIFIER = ZeroShot(ROWS, 4.0)
REFERENCE = Reference(
    LABELS,
    ORIGINAL,
    CLASSIFIER,
    original_classifier=ZeroShot(ROWS.flip(0), 4.0),
    clean=torch.randn(5, 3, generator=GENERATOR),
    original_perturbed=torch.randn(5, 3, generator=GENERATOR),
)


def variants() -> list[Any]:
    """Every loss, and each choice of its clean term."""
    return [member() for member in members(Loss)] + [Tecoa(clean_term="embedding")]


def terms() -> list[Any]:
    """Every loss with R, and with K where it has one."""
    return [
        pytest.param(loss, term, id=f"{loss}-{term}")
        for loss in variants()
        for term in ("robust", "clean")
        if term == "robust" or "alpha" in named(loss)
    ]


def named(loss: Any) -> set[str]:
    return {field.name for field in fields(loss)}


def test_fare_sums_the_squared_distance_over_the_dimensions() -> None:
    reference = Reference(torch.zeros(2, dtype=torch.int64), torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0]]))
    embeddings = torch.tensor([[0.0, 2, 0, 0], [1, 1, 1, 1]])
    assert Fare().robust(embeddings, reference).tolist() == [5.0, 4.0]
    assert Fare().clean(embeddings, reference).tolist() == [5.0, 4.0]


def test_tecoa_is_the_cross_entropy_of_scaled_cosines() -> None:
    reference = Reference(torch.tensor([0, 0]), classifier=ZeroShot(torch.eye(2), 2.0))
    embeddings = torch.tensor([[10.0, 0], [0, 0.1]])  # lengths do not matter: cosines (1, 0) and (0, 1)
    expected = [math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))]
    assert Tecoa().robust(embeddings, reference).tolist() == pytest.approx(expected, rel=1e-6)


def test_the_logit_scale_is_the_checkpoints_own_and_not_one() -> None:
    logits = ZeroShot(torch.eye(2))(torch.tensor([[3.0, 4.0]]))
    torch.testing.assert_close(logits, torch.tensor([[60.0, 80.0]]))


def test_tecoas_clean_term_is_cross_entropy_or_the_distance_of_fare() -> None:
    entropy, distance = Tecoa(), Tecoa(clean_term="embedding")
    assert torch.equal(entropy.clean(EMBEDDINGS, REFERENCE), cross_entropy(EMBEDDINGS, REFERENCE))
    assert torch.equal(distance.clean(EMBEDDINGS, REFERENCE), Fare().clean(EMBEDDINGS, REFERENCE))
    assert torch.equal(entropy.robust(EMBEDDINGS, REFERENCE), distance.robust(EMBEDDINGS, REFERENCE))


@pytest.mark.parametrize(
    ("loss", "needs"),
    [
        (Fare(), True),
        (Fare(alpha=1), True),
        (Tecoa(alpha=1), False),
        (Tecoa(clean_term="embedding"), False),
        (Tecoa(clean_term="embedding", alpha=1), True),
    ],
)
def test_original_embeddings_are_asked_for_only_where_a_term_compares_with_them(loss: Any, needs: bool) -> None:
    assert ("original" in loss.needs) is needs


@pytest.mark.parametrize(("loss", "term"), terms())
def test_a_loss_is_one_number_an_image_and_no_image_sees_another(loss: Any, term: str) -> None:
    together = getattr(loss, term)(EMBEDDINGS, REFERENCE)
    assert together.shape == (5,)
    for index in range(5):
        alone = REFERENCE.at(torch.tensor([index]))
        torch.testing.assert_close(getattr(loss, term)(EMBEDDINGS[index : index + 1], alone), together[index][None])


def distance64(embeddings: np.ndarray) -> np.ndarray:
    values: np.ndarray = np.square(embeddings - ORIGINAL.double().numpy()).sum(axis=1)
    return values


def entropy64(embeddings: np.ndarray) -> np.ndarray:
    logits = 4.0 * embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True) @ ROWS.double().numpy().T
    values: np.ndarray = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(5), LABELS.numpy()]
    return values


@pytest.mark.parametrize(
    ("loss", "term", "reference"),
    [
        (Fare(), "robust", distance64),
        (Fare(), "clean", distance64),
        (Tecoa(), "robust", entropy64),
        (Tecoa(), "clean", entropy64),
        (Tecoa(clean_term="embedding"), "clean", distance64),
    ],
)
def test_values_and_gradients_agree_with_finite_differences_in_float64(loss: Any, term: str, reference: Any) -> None:
    at = EMBEDDINGS.clone().requires_grad_()
    values: Tensor = getattr(loss, term)(at, REFERENCE)
    (gradient,) = torch.autograd.grad(values.sum(), at)
    point, step = EMBEDDINGS.double().numpy(), 1e-6
    np.testing.assert_allclose(values.detach(), reference(point), rtol=1e-5)
    for index in np.ndindex(point.shape):
        nudge = np.zeros_like(point)
        nudge[index] = step
        slope = (reference(point + nudge) - reference(point - nudge)).sum() / (2 * step)
        assert gradient[index].item() == pytest.approx(slope, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(("loss", "term"), terms())
def test_a_loss_of_half_precision_embeddings_is_computed_in_float32(loss: Any, term: str) -> None:
    halves = EMBEDDINGS.bfloat16()
    assert torch.equal(getattr(loss, term)(halves, REFERENCE), getattr(loss, term)(halves.float(), REFERENCE))


def test_fare_has_no_gradient_at_the_original_itself_and_says_so() -> None:
    at = ORIGINAL.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(Fare().robust(at, REFERENCE).sum(), at)
    assert not gradient.any()
    assert Fare().flat_at_start
    assert not Tecoa().flat_at_start


@pytest.mark.parametrize("loss", variants(), ids=str)
def test_a_loss_reads_nothing_of_the_reference_that_it_does_not_ask_for(loss: Any) -> None:
    """What costs a forward pass or memory is there only where it is asked for."""
    costly = ("original", "original_classifier", "clean", "original_perturbed")
    bare = replace(REFERENCE, **{name: None for name in costly if name not in loss.needs})
    if not loss.prompts:
        bare = replace(bare, classifier=None)
    assert torch.equal(loss.robust(EMBEDDINGS, bare), loss.robust(EMBEDDINGS, REFERENCE))
    for name in loss.needs:
        with pytest.raises(AssertionError, match="asks for"):
            loss.robust(EMBEDDINGS, replace(bare, **{name: None}))


# The table of methods.
WITH_CLEAN_TERM = {"fare": True, "tecoa": True, "tima": True, "sim_clip": False, "pmg_aft": False}
CLIMBED = {
    "fare": "robust",
    "tecoa": "robust",
    "tima": "robust",
    "sim_clip": "embedding",
    "pmg_aft": "cross_entropy",
}


def test_alpha_is_a_setting_of_the_losses_that_have_a_clean_term() -> None:
    found = {loss.kind: "alpha" in named(loss) for loss in variants()}
    assert found | WITH_CLEAN_TERM == found
    assert all(loss.alpha == 0 for loss in variants())


def test_what_the_attacker_climbs_by_default_is_the_methods_own_choice() -> None:
    found = {loss.kind: loss.climb for loss in variants()}
    assert found | CLIMBED == found
