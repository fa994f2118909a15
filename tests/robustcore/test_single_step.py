"""Training at one step an image is watched for catastrophic overfitting: when, with which numbers, on which images."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from robustcore.attacks import APGD, FGSM, L2, NFGSM, PGD, RSFGSM, Clean, Linf
from robustcore.data import ImageSet, Parquet, Preprocessing
from robustcore.evaluation import WATCH, Evaluation, Suite
from robustcore.finetune import finetune
from robustcore.losses import Classifier, Probe
from robustcore.models import Encoder
from robustcore.process import Process
from tests.support import coloured, small_recipe, write_digits, write_parquet

EPS = 16 / 255
BALL = {"kind": "linf", "eps": EPS}
SINGLE: dict[str, dict[str, Any]] = {
    "fgsm": {"kind": "fgsm"},
    "rs_fgsm": {"kind": "rs_fgsm"},
    "n_fgsm": {"kind": "n_fgsm"},
    "pgd of one step": {"kind": "pgd", "steps": 1},
    "apgd of one step": {"kind": "apgd", "steps": 1},
    "fgsm in l2": {"kind": "fgsm", "ball": {"kind": "l2", "eps": 0.5}},
    "another climb": {"kind": "rs_fgsm", "climb": "dlr"},
}
OTHERS: dict[str, dict[str, Any]] = {
    "pgd of two steps": {"kind": "pgd", "steps": 2},
    "apgd of two steps": {"kind": "apgd", "steps": 2},
    "one delta for all images": {"kind": "universal", "steps": 1},
}
TECOA: dict[str, Any] = {"loss": {"kind": "tecoa"}, "optim": {"lr": 1e-3, "steps": 2}, "evaluation__attacks": {}}


@pytest.mark.parametrize("attack", SINGLE.values(), ids=SINGLE.keys())
def test_a_run_at_one_step_reports_the_watch_at_every_evaluation(
    attack: dict[str, Any], digits: Path, tmp_path: Path
) -> None:
    recipe = small_recipe(digits, **TECOA, attack={"ball": BALL} | attack, evaluation__every=1)
    assert recipe.is_single_step
    for progress in finetune(recipe, Process(cache=tmp_path)):
        assert set(WATCH) <= set(progress.metrics) == set(recipe.metrics())
        flag, one, many = (progress.metrics[name] for name in WATCH)
        assert flag == float(many < one / 2)


@pytest.mark.parametrize("attack", [*OTHERS.values(), None], ids=[*OTHERS, "no attack"])
def test_any_other_run_reports_no_watch(attack: dict[str, Any] | None, digits: Path, tmp_path: Path) -> None:
    recipe = small_recipe(digits, **TECOA, attack=attack | {"ball": BALL} if attack else {"kind": "clean"})
    assert not recipe.is_single_step
    for progress in finetune(recipe, Process(cache=tmp_path)):
        assert not set(WATCH) & set(progress.metrics)


class Overshooting(nn.Module):
    """A parabola along the way from grey 100: a wrong class wins between 15 % and 85 % of eps, and at eps no longer.

    Far from there, images are safe. That is what catastrophic overfitting looks like to a single step.
    """

    def forward(self, images: Tensor) -> Tensor:
        way = (images.mean(dim=(1, 2, 3)) - 100 / 255) / EPS
        lead = torch.where(way.abs() < 2, 4 * way * (1 - way) - 0.51, -1.0)
        return torch.stack([-lead, lead], dim=1)


class Linear(nn.Module):
    """Wrong above a mean of 120: one step and many find the same."""

    def forward(self, images: Tensor) -> Tensor:
        lead = images.mean(dim=(1, 2, 3)) - 120 / 255
        return torch.stack([-lead, lead], dim=1)


def suite_of(greys: list[int], folder: Path, **options: Any) -> Suite:
    """All of them of the first of two classes."""
    path = write_parquet(folder / "greys.parquet", [coloured(grey) for grey in greys], [0] * len(greys))
    evaluation = Evaluation(datasets={"greys": Parquet(str(path), classes=("dark", "bright"))}, attacks={}, **options)

    def as_logits(images: ImageSet, prompts: tuple[str, ...]) -> Classifier:
        return Probe(10 * torch.eye(2), torch.zeros(2))

    return Suite(evaluation, as_logits, Preprocessing(4), 0, torch.float32)


def watched(visual: nn.Module, suite: Suite, attack: Any) -> list[float]:
    found = suite.watch(attack, Encoder(visual, (0,) * 3, (1,) * 3), Process())
    return [found[name] for name in WATCH]


FOOLED, SAFE = 100, 240


@pytest.mark.parametrize(
    ("greys", "flag", "left"),
    [
        ([FOOLED] * 4, 1.0, 0.0),
        ([FOOLED, SAFE, FOOLED, FOOLED], 1.0, 0.25),
        ([FOOLED, SAFE, FOOLED, SAFE], 0.0, 0.5),
        ([SAFE] * 4, 0.0, 1.0),
    ],
)
def test_the_flag_is_up_where_pgd_leaves_less_than_half_of_what_one_step_leaves(
    greys: list[int], flag: float, left: float, tmp_path: Path
) -> None:
    assert watched(Overshooting(), suite_of(greys, tmp_path), FGSM(Linf(EPS))) == [flag, 1.0, left]


ATTACKS: list[Any] = [
    FGSM(Linf(EPS)),
    RSFGSM(Linf(EPS)),
    NFGSM(Linf(EPS)),
    PGD(Linf(EPS), steps=1, stride=2),
    APGD(Linf(EPS), steps=1),
    FGSM(L2(EPS * 48**0.5)),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.kind} in {attack.ball.kind}")
@pytest.mark.parametrize(("greys", "left"), [([80, 119, 119, 119], 0.25), ([119] * 3, 0.0), ([80] * 3, 1.0)])
def test_the_flag_is_down_on_a_linear_model_whatever_is_left(
    attack: Any, greys: list[int], left: float, tmp_path: Path
) -> None:
    assert watched(Linear(), suite_of(greys, tmp_path), attack) == [0.0, left, left]


@pytest.mark.parametrize("climb", ["robust", "embedding", "dlr", "targeted_dlr"])
def test_whatever_training_climbs_the_watch_climbs_cross_entropy(climb: Any, tmp_path: Path) -> None:
    """An embedding's distance would not move from the image itself, and two classes have no DLR."""
    suite = suite_of([119] * 3, tmp_path)
    assert watched(Linear(), suite, FGSM(Linf(EPS), climb=climb)) == [0.0, 0.0, 0.0]


def test_it_looks_at_the_first_batch_alone(tmp_path: Path) -> None:
    suite = suite_of([SAFE, SAFE, FOOLED, FOOLED, FOOLED], tmp_path, batch_size=3)
    assert watched(Overshooting(), suite, FGSM(Linf(EPS))) == pytest.approx([0.0, 1.0, 2 / 3])


def test_the_empty_attack_has_nothing_to_watch(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no single step"):
        watched(Linear(), suite_of([SAFE], tmp_path), Clean())


def test_its_numbers_are_those_of_an_evaluation_on_the_same_held_out_images(tmp_path: Path) -> None:
    """The first 8 of 31 test images, after training has changed the model."""
    single = {"kind": "rs_fgsm", "ball": BALL}
    reported = []
    for count in (31, 8):
        data = write_digits(tmp_path / f"{count}.parquet", 67, count)
        attacks = {"single": single, "pgd": {"kind": "pgd", "ball": BALL}}
        changes = TECOA | {"evaluation__attacks": attacks, "evaluation__batch_size": 8, "attack": single}
        *_, last = finetune(small_recipe(data, **changes), Process(cache=tmp_path))
        reported.append(last.metrics)
    whole, few = reported
    assert whole["watch/single_step"] == few["watch/single_step"] == few["single"]
    assert whole["watch/pgd"] == few["watch/pgd"] == few["pgd"]
    assert whole["pgd"] != few["pgd"]


@dataclass
class Shown:
    """What the encoder is shown without gradients, as bytes."""

    images: set[bytes] = field(default_factory=set)

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, Encoder) and not torch.is_grad_enabled():
            self.images |= {(image * 255).round().byte().numpy().tobytes() for image in inputs[0]}


@pytest.fixture
def shown() -> Iterator[Shown]:
    shown = Shown()
    hook = register_module_forward_pre_hook(shown)
    yield shown
    hook.remove()


def test_no_image_that_is_trained_on_is_measured(digits: Path, tmp_path: Path, shown: Shown) -> None:
    recipe = small_recipe(digits, **TECOA, attack={"kind": "rs_fgsm", "ball": BALL})
    list(finetune(recipe, Process(cache=tmp_path)))

    def stored(images: ImageSet) -> set[bytes]:
        preprocess = Preprocessing(16)
        every = (preprocess(images.decode(index)) for index in range(len(images.labels)))
        return {pixels.transpose(2, 0, 1).tobytes() for pixels in every}

    assert stored(recipe.evaluation.datasets["digits"].open()) <= shown.images
    assert not stored(recipe.data.train.open()) & shown.images


def test_where_text_is_trained_it_asks_the_classifier_of_now(tmp_path: Path) -> None:
    """Rows that have changed places since the suite was made: from then on, no image is right."""
    rows = torch.eye(2)
    suite = suite_of([80] * 3, tmp_path)
    suite = Suite(
        suite.evaluation, lambda images, prompts: Probe(rows, torch.zeros(2)), Preprocessing(4), 0, torch.float32, True
    )
    rows = rows.flip(0)
    assert suite(Encoder(Linear(), (0,) * 3, (1,) * 3), Process()).metrics["clean"] == 0
    assert watched(Linear(), suite, FGSM(Linf(EPS))) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("collapsed", [0.0, 1.0])
def test_a_collapse_is_a_flag(digits: Path, tmp_path: Path, collapsed: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Suite, "watch", lambda *_: dict(zip(WATCH, (collapsed, 0.9, 0.1), strict=True)))
    *_, last = finetune(small_recipe(digits, attack={"kind": "fgsm", "ball": BALL}, **TECOA), Process(cache=tmp_path))
    assert ("catastrophic_overfitting" in last.flags) == bool(collapsed)
