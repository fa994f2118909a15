"""Clean and attacked accuracy: the same images for all, judged in float32, and nothing left behind on the encoder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustcore.attacks import FGSM, L2, PGD, Clean, Linf
from robustcore.data import Digits, Parquet
from robustcore.evaluation import Evaluation, Suite, survivors
from robustcore.evaluation.named_suite import NamedSuite
from robustcore.losses import Reference, ZeroShot
from robustcore.models import Clip, Encoder
from robustcore.noise import Noise
from robustcore.original import zero_shot_by
from robustcore.process import Process

CLIP = Clip(weights="digits").load()


class Brightness(nn.Module):
    """Embeds an image as (mean, 1/2): classified as bright where the mean is above one half."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean(dim=(1, 2, 3))
        return self.gain * torch.stack([mean, torch.full_like(mean, 0.5)], dim=1)


ENCODER = Encoder(Brightness(), (0,) * 3, (1,) * 3)
GREYS = torch.tensor([0.1, 0.45, 0.55, 0.9, 0.55, 0.1])[:, None, None, None].expand(6, 3, 4, 4)
LABELS = torch.tensor([1, 1, 0, 0, 1, 0])  # the last two are wrong as they stand
REFERENCE = Reference(LABELS, classifier=ZeroShot(torch.eye(2), 10.0))


class Shifting:
    """An attack that only makes images brighter."""

    climb, gradients = None, 0

    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, _: Any, images: Tensor, noise: Noise) -> Tensor:
        return images + self.by


class Noting:
    """An attack that changes nothing and notes what it was given."""

    climb, gradients = None, 0

    def __init__(self) -> None:
        self.shown: list[tuple[Tensor, Noise]] = []

    def __call__(self, _: Any, images: Tensor, noise: Noise) -> Tensor:
        self.shown.append((images, noise))
        return images


def survived(attacks: list[Any], **options: Any) -> list[list[bool]]:
    found = survivors(ENCODER, attacks, GREYS, REFERENCE, Noise.of(0, 0, torch.arange(6)), **options)
    return [one.tolist() for one in found]


def test_survivors_are_the_images_that_stay_right() -> None:
    strong, weak = PGD(Linf(0.1)), PGD(Linf(0.01))
    right = [True, True, True, True, False, False]
    far = [True, False, False, True, False, False]
    assert survived([Clean(), weak, strong]) == [right, right, far]


def test_an_image_that_is_wrong_as_it_stands_survives_no_attack() -> None:
    """It could be 'corrected' by a random start; a share of survivors above the clean accuracy would be absurd."""
    assert not any(one[4] or one[5] for one in survived([PGD(Linf(0.5), steps=1), FGSM(L2(5)), Clean()]))


def test_an_image_that_is_wrong_is_not_attacked() -> None:
    noting = Noting()
    survived([noting])
    ((images, noise),) = noting.shown
    assert len(images) == len(noise.keys) == 4


def test_images_keep_their_own_noise_when_others_are_left_out() -> None:
    noting = Noting()
    survived([noting])
    ((_, noise),) = noting.shown
    assert torch.equal(noise.keys, Noise.of(0, 0, torch.arange(4)).keys)


def test_no_images_survive_where_none_is_right() -> None:
    wrong = Reference(1 - LABELS[:4], classifier=ZeroShot(torch.eye(2)))
    found = survivors(ENCODER, [Clean(), PGD(Linf(0.1))], GREYS[:4], wrong, Noise.of(0, 0, torch.arange(4)))
    assert [one.tolist() for one in found] == [[False] * 4] * 2


def test_what_an_attack_finds_in_half_precision_is_judged_in_float32() -> None:
    precisions = []
    hook = ENCODER.register_forward_pre_hook(lambda *_: precisions.append(torch.is_autocast_enabled("cpu")))
    assert survived([PGD(Linf(0.1), steps=2)], precision=torch.bfloat16) == survived([PGD(Linf(0.1), steps=2)])
    hook.remove()
    assert precisions[:5] == [False, True, True, True, False]
    assert not any(precisions[5:])


def test_an_evaluation_leaves_no_gradient_on_the_encoder_and_its_weights_trainable() -> None:
    survived([FGSM(Linf(0.1)), PGD(Linf(0.1))])
    assert all(parameter.grad is None and parameter.requires_grad for parameter in ENCODER.parameters())


def suite(datasets: dict[str, Any], attacks: dict[str, Any], seed: int = 0, batch_size: int = 32) -> dict[str, float]:
    evaluation = Evaluation(datasets=datasets, attacks=attacks, batch_size=batch_size)
    return made(evaluation, seed)(CLIP.encoder, Process()).metrics


def made(evaluation: Evaluation, seed: int = 0) -> Suite:
    return Suite(evaluation, zero_shot_by(CLIP.text), CLIP.preprocessing, seed, torch.float32)


ATTACKS: dict[str, FGSM | PGD | Clean] = {
    "fgsm": FGSM(Linf(16 / 255)),
    "l2": PGD(L2(0.5), steps=3),
    "pgd": PGD(Linf(16 / 255), steps=5),
}


def sets(path: Path) -> dict[str, Any]:
    return {"few": Parquet(str(path), split="test", limit=10), "more": Parquet(str(path), split="test")}


def test_metrics_have_the_names_that_the_evaluation_announces_but_for_the_training_loss(digits: Path) -> None:
    announced = Evaluation(datasets=sets(digits), attacks=ATTACKS).metrics()
    assert len(set(announced)) == len(announced)
    assert {*suite(sets(digits), ATTACKS), "loss"} == set(announced)


def test_worst_is_what_survives_all_attacks_and_a_mean_over_sets_weighs_them_equally(digits: Path) -> None:
    found = suite(sets(digits), ATTACKS)
    for name in ("few", "more"):
        assert found[f"worst/{name}"] <= min(found[f"{attack}/{name}"] for attack in ("clean", *ATTACKS))
        assert max(found[f"{attack}/{name}"] for attack in ATTACKS) <= found[f"clean/{name}"]
    for attack in ("clean", *ATTACKS, "worst"):
        assert found[attack] == pytest.approx((found[f"{attack}/few"] + found[f"{attack}/more"]) / 2)


def test_worst_counts_images_and_not_shares() -> None:
    """Two attacks of 50 % each that fool different images leave none."""
    first, second = survived([Shifting(-0.2), Shifting(0.2)])
    assert (sum(first), sum(second)) == (3, 3)
    assert sum(one and other for one, other in zip(first, second, strict=True)) == 2


def test_numbers_do_not_depend_on_the_batch_size_and_repeat_with_the_seed(digits: Path) -> None:
    numbers = [suite(sets(digits), ATTACKS, batch_size=batch_size) for batch_size in (5, 31, 31)]
    assert numbers[0] == numbers[1] == numbers[2]


def test_every_process_counts_its_own_images_and_all_are_counted_once(digits: Path) -> None:
    evaluation = Evaluation(datasets=sets(digits), attacks={"fgsm": ATTACKS["fgsm"]})
    counted = [made(evaluation, 0)(CLIP.encoder, Alone(rank=rank, world_size=5)).metrics for rank in range(5)]
    alone = made(evaluation, 0)(CLIP.encoder, Process()).metrics
    for name, share in alone.items():
        assert sum(one[name] for one in counted) == pytest.approx(share)


def test_images_that_are_measured_in_parts_fare_as_they_do_together(digits: Path) -> None:
    whole = made(Evaluation(datasets=sets(digits), attacks=ATTACKS))
    together = whole(CLIP.encoder, Process()).survivals["more"].survived
    few = np.array([7, 3, 20, 4])
    parts = made(Evaluation(datasets=sets(digits), attacks=ATTACKS, batch_size=3))
    found, _ = parts.attacked("more", few, CLIP.encoder, Process())
    assert {name: one.tolist() for name, one in found.items()} == {n: one[few].tolist() for n, one in together.items()}


def test_each_data_set_can_be_measured_alone(digits: Path) -> None:
    several = Evaluation(
        datasets=sets(digits), suite=NamedSuite("advclip8", str(digits.parent), limit=5), attacks=ATTACKS, drift=Clean()
    )
    assert len(several.names()) == 10
    for name in several.names():
        alone = several.only(name)
        assert alone.names() == (name,)
        assert alone.metrics() == Evaluation(datasets={name: Digits()}, attacks=ATTACKS).metrics()
        assert alone.suite is None or alone.suite.limit == 5


class Alone(Process):
    """One of several processes that keeps its sums to itself."""

    def total(self, values: Tensor) -> Tensor:
        return values.double()


def test_attack_gradients_of_an_image_are_counted() -> None:
    assert Evaluation(datasets={"digits": Digits("test")}, attacks=ATTACKS).gradients() == 1 + 3 + 5
