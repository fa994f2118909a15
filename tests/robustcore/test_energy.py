"""Hyperspherical energy and angles of class rows: closed forms on circles and simplexes, symmetries, gradients."""

import math
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from robustcore.losses.energy import CLOSEST, EnergyKind, angles, energy
from tests.robustcore.objectives import Array, as64, central_differences, rotation

KINDS: tuple[EnergyKind, ...] = get_args(EnergyKind)
every_kind = pytest.mark.parametrize("kind", KINDS)
whole_and_half = pytest.mark.parametrize("half_space", [False, True], ids=["whole", "half"])


def potential(degrees: float, kind: EnergyKind) -> float:
    """Of two unit rows that far apart, from the chord 2 sin(angle / 2)."""
    chord = 2 * math.sin(math.radians(degrees) / 2)
    of_chord = {"damped": 1 / (1 + chord**2), "riesz_0": -2 * math.log(chord)}
    return of_chord.get(kind, chord ** -{"riesz_1": 1, "riesz_2": 2}.get(kind, 0))


def on_circle(*degrees: float) -> Tensor:
    radians = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], dim=1).float()


def simplex(corners: int) -> Tensor:
    """Unit rows with every cosine -1 / (corners - 1): as far apart as that many can be."""
    return torch.nn.functional.normalize(torch.eye(corners) - 1 / corners)


def scattered() -> Tensor:
    return torch.nn.functional.normalize(torch.randn(7, 4, generator=torch.Generator().manual_seed(2)))


@every_kind
@pytest.mark.parametrize("degrees", [1.0, 37.0, 90.0, 180.0])
def test_two_rows_have_the_potential_of_their_chord(kind: EnergyKind, degrees: float) -> None:
    assert energy(on_circle(20, 20 + degrees), kind).item() == pytest.approx(potential(degrees, kind), rel=1e-3)


def test_the_damped_energy_of_two_rows_is_between_a_fifth_and_one() -> None:
    assert energy(on_circle(0, 180)).item() == pytest.approx(1 / 5)
    assert energy(on_circle(0, 90)).item() == pytest.approx(1 / 3)
    assert energy(on_circle(0, 0)).item() == pytest.approx(1)


@every_kind
def test_three_rows_are_the_mean_of_their_three_pairs(kind: EnergyKind) -> None:
    expected = (potential(30, kind) + potential(70, kind) + potential(100, kind)) / 3
    assert energy(on_circle(0, 30, 100), kind).item() == pytest.approx(expected, rel=1e-5)


@every_kind
@pytest.mark.parametrize("corners", [2, 3, 10])
def test_a_simplex_has_the_potential_of_its_one_angle(kind: EnergyKind, corners: int) -> None:
    angle = math.degrees(math.acos(-1 / (corners - 1)))
    assert energy(simplex(corners), kind).item() == pytest.approx(potential(angle, kind), rel=1e-5, abs=1e-6)


@every_kind
def test_no_scattered_rows_have_less_energy_than_a_simplex(kind: EnergyKind) -> None:
    rows = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    assert energy(rows, kind) > energy(simplex(5), kind)


def brute_force(rows: Array, kind: EnergyKind, half_space: bool) -> float:
    """Straight from the definition: all pairs of all points, but a point and its own mirror image."""
    points = [(index, row / np.linalg.norm(row)) for index, row in enumerate(rows)]
    if half_space:
        points += [(index, -row) for index, row in points]
    potentials = []
    for position, (one, first) in enumerate(points):
        for other, second in points[position + 1 :]:
            if one != other:
                squared = float(((first - second) ** 2).sum())
                of = {"damped": 1 / (1 + squared), "riesz_0": -math.log(squared), "riesz_1": squared**-0.5}
                potentials.append(of.get(kind, 1 / squared))
    return float(np.mean(potentials))


@every_kind
@whole_and_half
def test_value_and_gradient_agree_with_every_pair_by_hand(kind: EnergyKind, half_space: bool) -> None:
    rows = scattered().requires_grad_()
    value = energy(rows, kind, half_space)
    (gradient,) = torch.autograd.grad(value, rows)
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(brute_force(as64(rows), kind, half_space), rel=1e-5)
    expected = central_differences(lambda at: np.array([brute_force(at, kind, half_space)]), as64(rows))
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


@every_kind
@whole_and_half
def test_neither_order_nor_rotation_nor_lengths_change_it(kind: EnergyKind, half_space: bool) -> None:
    rows = scattered()
    expected = energy(rows, kind, half_space)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    for same in (rows[order], rows @ rotation(), rows * torch.linspace(0.1, 10, 7)[:, None]):
        torch.testing.assert_close(energy(same, kind, half_space), expected)


@every_kind
def test_in_half_space_a_row_and_its_mirror_image_are_the_same(kind: EnergyKind) -> None:
    rows = scattered()
    mirrored = rows * torch.tensor([1.0, -1, 1, 1, -1, -1, 1])[:, None]
    torch.testing.assert_close(energy(mirrored, kind, half_space=True), energy(rows, kind, half_space=True))
    assert not torch.isclose(energy(mirrored, kind), energy(rows, kind))


@every_kind
def test_it_falls_as_two_rows_move_apart_and_in_half_space_until_they_are_at_a_right_angle(kind: EnergyKind) -> None:
    whole = [energy(on_circle(0, degrees), kind).item() for degrees in (2, 20, 80, 100, 180)]
    assert whole == sorted(whole, reverse=True)
    half = [energy(on_circle(0, degrees), kind, half_space=True).item() for degrees in (2, 20, 80, 90)]
    assert half == sorted(half, reverse=True)
    assert energy(on_circle(0, 100), kind, half_space=True).item() == pytest.approx(half[2], rel=1e-5)


@every_kind
@whole_and_half
def test_rows_that_nearly_coincide_do_not_explode_nor_push_each_other(kind: EnergyKind, half_space: bool) -> None:
    rows = torch.tensor([[1.0, 2, 3], [1, 2, 3], [1, 2, 3 + 1e-4]], requires_grad=True)
    (gradient,) = torch.autograd.grad(energy(rows, kind, half_space), rows)
    torch.testing.assert_close(gradient, torch.zeros(3, 3), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("kind", "most"), [("riesz_0", math.log(1e4)), ("riesz_1", 1e2), ("riesz_2", 1e4)])
def test_riesz_energies_take_rows_that_coincide_as_a_little_apart(kind: EnergyKind, most: float) -> None:
    assert CLOSEST == 1e-4
    assert energy(torch.ones(3, 4), kind).item() == pytest.approx(most)


@every_kind
@whole_and_half
@pytest.mark.parametrize("count", [0, 1])
def test_without_a_pair_it_is_zero_with_a_gradient_of_zero(kind: EnergyKind, half_space: bool, count: int) -> None:
    rows = torch.ones(count, 4, requires_grad=True)
    value = energy(rows, kind, half_space)
    (gradient,) = torch.autograd.grad(value, rows)
    assert value.item() == 0
    assert torch.equal(gradient, torch.zeros(count, 4))


@every_kind
def test_half_precision_rows_and_autocast_lose_nothing(kind: EnergyKind) -> None:
    low = scattered().bfloat16()
    assert torch.equal(energy(low, kind), energy(low.float(), kind))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(energy(low.float(), kind), energy(low, kind))
    assert torch.equal(energy(low, kind), energy(low.float(), kind))


def test_angles_are_the_mean_and_the_minimum_over_pairs_in_degrees() -> None:
    assert angles(on_circle(0, 30, 100)) == pytest.approx((200 / 3, 30), rel=1e-5)
    assert angles(simplex(4)) == pytest.approx((109.4712206, 109.4712206), rel=1e-5)
    assert angles(torch.tensor([[3.0, 0], [-5, 0]])) == pytest.approx((180, 180))


@pytest.mark.parametrize("degrees", [1e-3, 1e-2, 0.1, 179.99])
def test_angles_of_nearly_equal_and_nearly_opposite_rows_are_sound(degrees: float) -> None:
    radians = math.radians(degrees)
    rows = torch.tensor([[1.0, 0], [math.cos(radians), math.sin(radians)]], dtype=torch.float64).float()
    assert angles(rows)[1] == pytest.approx(degrees, rel=1e-3)


def test_rows_that_coincide_are_at_angle_zero_and_one_row_has_none() -> None:
    assert angles(torch.tensor([[0.3, 0.4, 0.5]] * 3)) == pytest.approx((0, 0), abs=1e-5)
    twice = torch.randn(50, 8, generator=torch.Generator().manual_seed(0)).repeat(2, 1)  # some squares round above 1
    assert angles(twice)[1] == pytest.approx(0, abs=1e-5)
    assert all(math.isnan(angle) for angle in angles(torch.ones(1, 4)))
