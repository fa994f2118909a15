"""The share of zero gradients: closed forms on hand-made losses, through every attack, and on a saturated model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from robustcore.attacks import APGD, FGSM, L2, NFGSM, PGD, RSFGSM, Clean, Linf, Universal
from robustcore.data import Digits, ImageSet, Parquet, Pixels, Preprocessing
from robustcore.data.images import as_pixels
from robustcore.evaluation import Evaluation, Suite, survivors
from robustcore.finetune import finetune
from robustcore.losses import Classifier, Probe, Reference, ZeroShot
from robustcore.models import Clip, Encoder
from robustcore.noise import Noise
from robustcore.process import Process
from robustcore.stalls import ZeroGradients
from robustcore.types import LossAt
from tests.robustcore.greys import NAMES, written
from tests.support import small_recipe

IMAGES = 0.5 * torch.ones(6, 3, 4, 4)
NOISE = Noise.of(0, 0, torch.arange(6))
BALL = Linf(8 / 255)
ATTACKS: dict[str, Any] = {
    "fgsm": FGSM(BALL),
    "rs_fgsm": RSFGSM(BALL),
    "n_fgsm": NFGSM(BALL),
    "pgd of one step": PGD(BALL, steps=1),
    "pgd": PGD(BALL, steps=5),
    "pgd without a random start": PGD(BALL, steps=5, random_start=False),
    "pgd in l2": PGD(L2(0.5), steps=5),
    "apgd": APGD(BALL, steps=8),
    "apgd in l2": APGD(L2(0.5), steps=8),
    "universal": Universal(BALL, steps=3),
}
every_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())


def masked(mask: Tensor) -> LossAt:
    """A loss that only the pixels of ``mask`` move."""
    return lambda pixels: (pixels * mask).sum(dim=(1, 2, 3))


def ahead(pixels: int) -> Tensor:
    """(3, 4, 4), one in so many pixels and zero in the others."""
    return (torch.arange(48) < pixels).float().reshape(3, 4, 4)


def share(attack: Any, loss_at: LossAt) -> float:
    watch = ZeroGradients()
    attack(watch.watch(loss_at), IMAGES, NOISE)
    return watch.take(Process())


@every_attack
@pytest.mark.parametrize("moving", [0, 1, 12, 47, 48])
def test_the_share_is_that_of_the_pixels_that_the_loss_does_not_read(attack: Any, moving: int) -> None:
    assert share(attack, masked(ahead(moving))) == pytest.approx(1 - moving / 48)


@every_attack
def test_images_count_by_their_pixels(attack: Any) -> None:
    """A mask an image: 0, 8, ... 40 pixels of 48 move."""
    masks = torch.stack([ahead(8 * image) for image in range(6)])
    assert share(attack, masked(masks)) == pytest.approx(1 - (0 + 8 + 16 + 24 + 32 + 40) / (6 * 48))


@pytest.mark.parametrize("loss", [0.0, 1e-30, -1e-30, 1.0], ids=str)
def test_a_gradient_is_zero_only_where_it_is_exactly_zero(loss: float) -> None:
    assert share(FGSM(BALL), masked(torch.tensor(loss))) == (1.0 if loss == 0 else 0.0)


def test_a_pixel_whose_gradients_cancel_out_counts_as_zero() -> None:
    """What is counted is the gradient of the whole loss, not that of its parts."""
    one = masked(ahead(12))
    assert share(FGSM(BALL), lambda pixels: one(pixels) - one(2 * pixels) / 2) == 1


def changing(looks: list[int]) -> LossAt:
    """At each look, another number of pixels moves; no look is a surprise."""
    following = iter(looks)
    return lambda pixels: masked(ahead(next(following)))(pixels)


@pytest.mark.parametrize(
    ("attack", "looks"),
    [
        (PGD(BALL, steps=3), [48, 24, 0, 48]),
        (APGD(BALL, steps=3), [48, 24, 0, 48]),
        (FGSM(BALL), [24]),
        (Universal(BALL, steps=2), [24, 24]),
    ],
    ids=["pgd", "apgd", "fgsm", "universal"],
)
def test_every_gradient_counts_and_a_last_look_without_one_does_not(attack: Any, looks: list[int]) -> None:
    """Shares of 0, 1/2 and 1 with a gradient, then a look at the end."""
    assert share(attack, changing(looks)) == 0.5


def test_looking_without_a_gradient_counts_nothing_and_changes_nothing() -> None:
    watch, loss_at = ZeroGradients(), masked(ahead(12))
    with torch.no_grad():
        assert torch.equal(watch.watch(loss_at)(IMAGES), loss_at(IMAGES))
    assert torch.equal(watch.watch(loss_at)(IMAGES), loss_at(IMAGES))
    assert watch.take(Process()) == 0


@every_attack
def test_watching_changes_no_attack(attack: Any) -> None:
    loss_at = masked(torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(attack(ZeroGradients().watch(loss_at), IMAGES, NOISE), attack(loss_at, IMAGES, NOISE))


def test_taking_the_share_starts_over() -> None:
    watch = ZeroGradients()
    for moving in (12, 36):
        FGSM(BALL)(watch.watch(masked(ahead(moving))), IMAGES, NOISE)
        assert watch.take(Process()) == 1 - moving / 48
    assert watch.take(Process()) == 0


@dataclass(frozen=True)
class Summing(Process):
    """Processes that come one after the other; the last one has the sum of all."""

    before: list[Tensor] = field(default_factory=list)

    def total(self, values: Tensor) -> Tensor:
        self.before.append(values.double())
        return torch.stack(self.before).sum(dim=0)


def test_processes_with_more_images_weigh_more_and_one_without_any_weighs_nothing() -> None:
    process, watches = Summing(), [ZeroGradients() for _ in range(3)]
    FGSM(BALL)(watches[0].watch(masked(ahead(48))), IMAGES[:5], Noise(NOISE.keys[:5]))
    FGSM(BALL)(watches[1].watch(masked(ahead(0))), IMAGES[:1], Noise(NOISE.keys[:1]))
    assert [watch.take(process) for watch in watches] == pytest.approx([0, 1 / 6, 1 / 6])


class Half(nn.Module):
    """Embeds an image as the means of the upper half's first two channels: a third of its pixels."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :2, : images.shape[2] // 2].mean(dim=(2, 3))


def test_a_suite_reports_the_share_of_every_attack_but_the_empty_one(tmp_path: Path) -> None:
    source = Parquet(str(written(tmp_path / "greys.parquet", 12)), classes=NAMES)
    evaluation = Evaluation(
        datasets={"greys": source, "few": Parquet(source.path, classes=NAMES, limit=5)},
        attacks={"none": Clean(), "pgd": PGD(BALL, steps=2), "apgd": APGD(L2(1), climb="dlr")},
        batch_size=5,
    )

    def favouring_the_first(images: ImageSet, prompts: tuple[str, ...]) -> Classifier:
        return Probe(torch.tensor([[1.0, 2], [0, 1], [2, 0]]), torch.tensor([9.0, 3, 0]))

    suite = Suite(evaluation, favouring_the_first, Preprocessing(4), 0, torch.float32)
    metrics = suite(Encoder(Half(), (0,) * 3, (1,) * 3), Process()).metrics
    assert metrics["clean/greys"] == pytest.approx(1 / 3)
    stalls = {name: value for name, value in metrics.items() if name.startswith("zero_gradient")}
    assert stalls == pytest.approx({"zero_gradient/pgd": 2 / 3, "zero_gradient/apgd": 2 / 3})
    assert stalls.keys() == {name for name in evaluation.metrics() if name.startswith("zero_gradient")}


class Counted:
    """Zeros and pixels of every gradient that reaches the encoder's input, counted from outside."""

    def __init__(self) -> None:
        self.zeros = self.pixels = 0

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, Encoder) and inputs[0].requires_grad:
            inputs[0].register_hook(self.count)

    def count(self, gradient: Tensor) -> None:
        self.zeros += int((gradient == 0).sum())
        self.pixels += gradient.numel()

    def take(self) -> float:
        found = self.zeros / self.pixels
        self.zeros = self.pixels = 0
        return found


@pytest.fixture
def counted() -> Iterator[Counted]:
    counted = Counted()
    hook = register_module_forward_pre_hook(counted)
    yield counted
    hook.remove()


TRAINING: dict[str, dict[str, Any]] = {
    "pgd": {},
    "accumulated": {"optim__accumulate": 3, "loss": {"kind": "sim_clip"}},
    "with a clean term": {
        "loss": {"kind": "tecoa", "alpha": 1},
        "attack": {"kind": "fgsm", "ball": {"kind": "l2", "eps": 1}},
    },
    "universal": {
        "loss": {"kind": "tecoa"},
        "attack": {"kind": "universal", "ball": {"kind": "linf", "eps": 0.1}, "steps": 2},
    },
}


@pytest.mark.parametrize("variant", TRAINING)
def test_a_run_reports_the_share_since_its_last_evaluation(
    variant: str, digits: Path, tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digits' black borders never lack a gradient, so one pixel in ten loses it on the way."""
    deaf = torch.arange(256).reshape(16, 16) % 10 != 0
    forward = Encoder.forward
    monkeypatch.setattr(Encoder, "forward", lambda self, images: forward(self, images * deaf))
    recipe = small_recipe(digits, **TRAINING[variant], evaluation__attacks={}, evaluation__every=1)
    for progress in finetune(recipe, Process(cache=tmp_path)):
        share = progress.metrics["zero_gradient/training"]
        assert share == pytest.approx(counted.take())
        assert share >= 26 / 256


def test_a_run_on_clean_images_reports_none(digits: Path, tmp_path: Path) -> None:
    recipe = small_recipe(digits, loss={"kind": "tecoa"}, attack={"kind": "clean"}, evaluation__attacks={})
    for progress in finetune(recipe, Process(cache=tmp_path)):
        assert not any(name.startswith("zero_gradient") for name in progress.metrics)


def zero_gradients(scale: Callable[[float], float]) -> float:
    """Of PGD on the digits model's cross-entropy."""
    loaded = Clip(weights="digits").load()
    images = Digits("test").open()
    rows = loaded.classifier_rows(images.classes, ["a photo of a {}."])
    pixels = as_pixels(Pixels(images, loaded.preprocessing).at(np.arange(60)), torch.device("cpu"))
    reference = Reference(torch.from_numpy(images.labels[:60]), classifier=ZeroShot(rows, scale(loaded.scale)))
    watch = ZeroGradients()
    survivors(
        loaded.encoder,
        [PGD(Linf(4 / 255), steps=3)],
        pixels,
        reference,
        Noise.of(0, 0, torch.arange(60)),
        watches=[watch],
    )
    return watch.take(Process())


def test_a_saturated_model_stalls_the_attack_and_its_own_scale_does_not() -> None:
    assert zero_gradients(lambda own: own) < 0.001
    assert zero_gradients(lambda own: 1e4) > 0.5
