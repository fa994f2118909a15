"""What attackers climb, in an evaluation and in training: the values, the targets one after the other, the refusals."""

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from robustcore.attacks import APGD, FGSM, NFGSM, PGD, Clean, Linf, Universal
from robustcore.data import Digits, Pixels
from robustcore.data.images import as_pixels
from robustcore.errors import InputError
from robustcore.evaluation import Evaluation, survivors
from robustcore.losses import CLIMBS, Probe, Reference, ZeroShot, check_climb, dlr, num_targets, worst_targets
from robustcore.losses.dlr import targeted_dlr
from robustcore.models import Clip, Encoder
from robustcore.noise import Noise
from robustcore.types import Climb, LossAt

ALL: tuple[Climb, ...] = get_args(Climb)
CLIP = Clip(weights="digits").load()
BALL = Linf(16 / 255)


def digits_known(count: int = 60) -> tuple[Tensor, Reference, Noise]:
    """The first test digits and the digits model's own classifier."""
    images = Digits("test").open()
    rows = CLIP.classifier_rows(images.classes, ["a photo of a {}."])
    pixels = as_pixels(Pixels(images, CLIP.preprocessing).at(np.arange(count)), torch.device("cpu"))
    labels = torch.from_numpy(images.labels[:count])
    return pixels, Reference(labels, classifier=ZeroShot(rows, CLIP.scale)), Noise.of(0, 0, torch.arange(count))


PIXELS, REFERENCE, NOISE = digits_known()


def test_there_is_a_function_for_every_climb_but_the_losss_own() -> None:
    assert {*CLIMBS, "robust"} == set(ALL)


@pytest.mark.parametrize(("climb", "least"), [("cross_entropy", 2), ("dlr", 3), ("targeted_dlr", 4)])
def test_a_climb_that_compares_more_classes_than_there_are_is_refused(climb: Climb, least: int) -> None:
    for classes in (least, least + 1, 1000):
        check_climb(climb, classes, "attack.climb")
    sentence = rf"^'{climb}' compares at least {least} classes, got {least - 1}$"
    with pytest.raises(InputError, match=sentence) as caught:
        check_climb(climb, least - 1, "attack.climb")
    assert caught.value.key == "attack.climb"


def test_a_targeted_climb_is_an_attack_for_each_of_nine_wrong_classes_or_of_all_there_are() -> None:
    assert [num_targets("targeted_dlr", classes) for classes in (4, 9, 10, 11, 1000)] == [3, 8, 9, 9, 9]
    assert {num_targets(climb, 1000) for climb in (*ALL, None) if climb != "targeted_dlr"} == {1}


def test_gradients_of_a_targeted_attack_count_once_a_target() -> None:
    attacks: dict[str, Any] = {"dlr": APGD(BALL, climb="dlr"), "targeted": APGD(BALL, steps=5, climb="targeted_dlr")}
    assert Evaluation(datasets={"digits": Digits("test")}, attacks=attacks).gradients() == 10 + 9 * 5


class Noting:
    """Notes the images and the loss it is given, and moves as it is told."""

    gradients = 1

    def __init__(self, climb: Climb | None, moves: Any = lambda images: images) -> None:
        self.climb, self.moves = climb, moves
        self.shown: list[tuple[Tensor, LossAt]] = []

    def __call__(self, loss_at: LossAt, images: Tensor, noise: Noise) -> Tensor:
        self.shown.append((images, loss_at))
        moved: Tensor = self.moves(images)
        return moved


class First(nn.Module):
    """Embeds an image as its first six pixels: logits for all to see."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :6]


LOGITS = torch.rand(8, 6, generator=torch.Generator().manual_seed(0))
FIRST = Encoder(First(), (0,) * 3, (1,) * 3)
IN_SIX_PIXELS = LOGITS.reshape(8, 3, 1, 2)
RIGHT = Reference(LOGITS.argmax(dim=1), classifier=Probe(torch.eye(6), torch.zeros(6)))


def against(attack: Any, reference: Reference = RIGHT) -> list[bool]:
    count = len(reference.labels)
    (found,) = survivors(FIRST, [attack], IN_SIX_PIXELS[:count], reference, Noise.of(0, 0, torch.arange(count)))
    survived: list[bool] = found.tolist()
    return survived


def fooling_the_first(images: Tensor) -> Tensor:
    """The first image becomes a black one with another brightest pixel; the others stay."""
    moved = images.clone()
    brightest = images[0].flatten().argmax()
    moved[0] = 0
    moved[0].view(-1)[(brightest + 1) % 6] = 1
    return moved


def test_a_targeted_climb_goes_for_the_most_likely_wrong_classes_in_turn() -> None:
    attack = Noting("targeted_dlr")
    assert all(against(attack))
    assert len(attack.shown) == 5
    for rank, (images, loss_at) in enumerate(attack.shown, start=1):
        targets = worst_targets(LOGITS, RIGHT.labels, rank)
        assert torch.equal(loss_at(images), targeted_dlr(LOGITS, replace(RIGHT, targets=targets)))


def test_each_target_is_tried_only_on_what_the_targets_before_it_left() -> None:
    attack = Noting("targeted_dlr", fooling_the_first)
    assert against(attack) == [False] * 5 + [True] * 3
    assert [len(images) for images, _ in attack.shown] == [8, 7, 6, 5, 4]
    for rank, (images, loss_at) in enumerate(attack.shown, start=1):
        left = slice(rank - 1, None)
        targets = worst_targets(LOGITS[left], RIGHT.labels[left], rank)
        known = Reference(RIGHT.labels[left], classifier=RIGHT.classifier, targets=targets)
        assert torch.equal(loss_at(images), targeted_dlr(LOGITS[left], known))


def test_where_nothing_is_left_no_further_target_is_tried() -> None:
    attack = Noting("targeted_dlr", fooling_the_first)
    assert against(attack, replace(RIGHT, labels=RIGHT.labels[:3])) == [False] * 3
    assert [len(images) for images, _ in attack.shown] == [3, 2, 1]


@pytest.mark.parametrize("climb", [None, "cross_entropy", "dlr", "embedding"])
def test_any_other_climb_is_one_attack(climb: Climb | None) -> None:
    attack = Noting(climb, fooling_the_first)
    assert against(attack) == [False] + [True] * 7
    assert len(attack.shown) == 1


def test_an_image_that_is_wrong_has_no_targets_tried_on_it() -> None:
    attack = Noting("targeted_dlr")
    labels = torch.cat([RIGHT.labels[:6], (RIGHT.labels[6:] + 1) % 6])
    assert against(attack, replace(RIGHT, labels=labels)) == [True] * 6 + [False] * 2
    assert [len(images) for images, _ in attack.shown] == [6] * 5


def test_an_evaluation_climbs_the_distance_to_the_clean_embeddings_of_the_encoder_at_hand() -> None:
    """Not to those of the original encoder, which the reference may hold."""
    attack: Any = Noting("embedding")
    survivors(CLIP.encoder, [attack], PIXELS, replace(REFERENCE, original=torch.ones(60, 32)), NOISE)
    ((images, loss_at),) = attack.shown
    moved = (images + 0.1).clamp(0, 1)
    with torch.no_grad():
        distances = (CLIP.encoder(moved) - CLIP.encoder(images)).square().sum(dim=1)
        torch.testing.assert_close(loss_at(moved), distances)
        assert loss_at(images).max() < 1e-6 * distances.min()


def expected(climb: Climb, logits: Tensor, labels: Tensor) -> Tensor:
    if climb == "dlr":
        return dlr(logits, Reference(labels, classifier=Probe(torch.eye(10), torch.zeros(10))))
    return F.cross_entropy(logits, labels, reduction="none")


@pytest.mark.parametrize(("climb", "meant"), [(None, "cross_entropy"), ("cross_entropy",) * 2, ("dlr",) * 2])
def test_an_evaluation_climbs_cross_entropy_unless_the_attack_says_otherwise(climb: Climb | None, meant: Climb) -> None:
    attack: Any = Noting(climb)
    survivors(CLIP.encoder, [attack], PIXELS, REFERENCE, NOISE)
    ((images, loss_at),) = attack.shown
    assert REFERENCE.classifier is not None
    with torch.no_grad():
        logits = REFERENCE.classifier(CLIP.encoder(images))
        torch.testing.assert_close(loss_at(images), expected(meant, logits, logits.argmax(dim=1)))


@pytest.mark.parametrize("kind", [PGD, APGD])
def test_every_climb_fools_the_digits_model_in_its_ball(kind: type[PGD] | type[APGD]) -> None:
    climbs = [climb for climb in ALL if climb != "robust"]
    attacks: list[Any] = [Clean(), *(kind(BALL, steps=5, climb=climb) for climb in climbs)]
    clean, *attacked = (int(one.sum()) for one in survivors(CLIP.encoder, attacks, PIXELS, REFERENCE, NOISE))
    assert clean > 50
    assert all(count < clean / 2 for count in attacked)
    left = dict(zip(climbs, attacked, strict=True))
    assert left["targeted_dlr"] <= left["dlr"]  # of nine targets, one is the class that is fooled most easily
    assert left["embedding"] >= left["cross_entropy"]  # which does not know the classes


REFUSED: dict[str, tuple[Any, str, str]] = {
    "the loss's own": (PGD(BALL, climb="robust"), "attacks.it.climb", "no training loss to climb; expected cross_ent"),
    "n_fgsm": (NFGSM(BALL), "attacks.it.kind", "'n_fgsm' is for training only; expected an attack that stays in its"),
    "universal": (Universal(BALL), "attacks.it.kind", "'universal' is for training only"),
}


def refusal(caught: "pytest.ExceptionInfo[ValidationError]") -> InputError:
    (error,) = caught.value.errors()
    reason = error["ctx"]["error"]
    assert isinstance(reason, InputError)
    return reason


@pytest.mark.parametrize("what", REFUSED)
def test_an_evaluation_refuses_what_measures_nothing_and_names_the_key(what: str) -> None:
    attack, key, sentence = REFUSED[what]
    with pytest.raises(ValidationError, match=sentence) as caught:
        Evaluation(datasets={"digits": Digits("test")}, attacks={"pgd": PGD(BALL), "it": attack})
    assert refusal(caught).key == key


@pytest.mark.parametrize("attack", [FGSM(BALL, climb="embedding"), PGD(BALL, random_start=False, climb="embedding")])
def test_an_evaluation_refuses_an_attack_that_never_moves(attack: Any) -> None:
    """At the clean image, its distance to itself has no gradient, so that every image would survive."""
    with pytest.raises(ValidationError, match="random start"):
        Evaluation(datasets={"digits": Digits("test")}, attacks={"it": attack})
