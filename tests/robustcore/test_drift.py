"""How far an encoder has drifted: closed forms on linear encoders, and the announced names in a run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from robustcore.attacks import APGD, L2, PGD, Clean, Linf
from robustcore.data import Digits, ImageSet, Parquet, Pixels, Preprocessing
from robustcore.evaluation import Evaluation, Suite
from robustcore.finetune import finetune
from robustcore.losses import Classifier, Probe
from robustcore.models import Encoder
from robustcore.process import Process
from tests.support import coloured, small_recipe, write_parquet

GREYS = [51, 102, 153]


class Gain(nn.Module):
    """Embeds an image as ``gain`` times its mean, twice: the distance between two gains has a closed form."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, images: Tensor) -> Tensor:
        return self.gain * images.mean(dim=(1, 2, 3))[:, None].expand(-1, 2)


def encoder(gain: float) -> Encoder:
    return Encoder(Gain(gain), (0,) * 3, (1,) * 3)


def measured(attack: Any, folder: Path, gain: float = 3.0, **options: Any) -> dict[str, float]:
    """Of an encoder with this gain, drifted from one of gain 1, on images of three greys in two sets."""
    path = write_parquet(folder / "greys.parquet", [coloured(grey) for grey in GREYS], [0, 1, 0])
    source = Parquet(str(path), classes=("dark", "bright"))
    sets = {"greys": source, "again": source}
    evaluation = Evaluation(datasets=sets, attacks={}, drift=attack, batch_size=2, **options)

    def as_logits(images: ImageSet, prompts: tuple[str, ...]) -> Classifier:
        return Probe(torch.eye(2), torch.zeros(2))

    def anchors(pixels: Any) -> np.ndarray:
        with torch.no_grad():
            return np.concatenate([encoder(1.0)(pixels.at(np.array([i])) / 255).numpy() for i in range(len(pixels))])

    suite = Suite(evaluation, as_logits, Preprocessing(4), 0, torch.float32, anchors_of=anchors)
    found = suite(encoder(gain), Process()).metrics
    assert {*found, "loss"} == set(evaluation.metrics())
    return {name: value for name, value in found.items() if name.startswith("drift")}


def furthest(grey: int, gain: float, eps: float) -> float:
    """``max over |t| <= eps of 2 (gain * (g + t) - g)^2`` with g + t in [0, 1]."""
    g = grey / 255
    return max(2 * (gain * z - g) ** 2 for z in (max(0, g - eps), min(1, g + eps)))


@pytest.mark.parametrize("resolution", ["model", "native"])
@pytest.mark.parametrize("attack", [PGD(Linf(0.1), steps=10), APGD(Linf(0.1), steps=5)], ids=lambda a: a.kind)
def test_it_is_the_mean_squared_distance_from_the_original_at_the_clean_image(
    attack: Any, resolution: str, tmp_path: Path
) -> None:
    found = measured(attack, tmp_path, resolution=resolution)
    clean = np.mean([2 * (2 * grey / 255) ** 2 for grey in GREYS])
    attacked = np.mean([furthest(grey, 3.0, 0.1) for grey in GREYS])
    assert found == pytest.approx(
        {f"drift{name}": clean for name in ("", "/greys", "/again")}
        | {f"drift/attacked{name}": attacked for name in ("", "/greys", "/again")}
    )


def test_an_l2_ball_moves_the_mean_by_its_radius_over_the_root_of_the_pixels(tmp_path: Path) -> None:
    found = measured(PGD(L2(0.4), steps=40), tmp_path)
    moved = 0.4 / np.sqrt(3 * 4 * 4)
    assert found["drift/attacked"] == pytest.approx(np.mean([furthest(grey, 3.0, moved) for grey in GREYS]), rel=1e-3)


def test_the_original_has_not_drifted_but_can_be_moved(tmp_path: Path) -> None:
    found = measured(PGD(Linf(0.1), steps=10), tmp_path, gain=1.0)
    assert found["drift"] == 0
    assert found["drift/attacked"] == pytest.approx(2 * 0.1**2)


def test_it_is_never_less_under_attack(tmp_path: Path) -> None:
    """Steps that are too long only come to places less far away than the clean image."""
    found = measured(PGD(Linf(0.001), steps=1, stride=1000), tmp_path)
    assert found["drift/attacked"] >= found["drift"]


def test_without_an_attack_only_clean_images_are_compared(tmp_path: Path) -> None:
    assert measured(Clean(), tmp_path).keys() == {"drift", "drift/greys", "drift/again"}


@pytest.mark.parametrize(
    ("drift", "sentence"),
    [
        ({"kind": "fgsm", "ball": {"kind": "linf", "eps": 0.1}}, "would never move"),
        ({"kind": "n_fgsm", "ball": {"kind": "linf", "eps": 0.1}}, "training only"),
        ({"kind": "pgd", "ball": {"kind": "linf", "eps": 0.1}, "climb": "dlr"}, "expected 'embedding', got 'dlr'"),
    ],
)
def test_an_attack_that_cannot_climb_distances_is_refused(drift: Any, sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Evaluation(datasets={"digits": Digits("test")}, attacks={}, drift=drift)


def test_a_set_whose_name_would_be_another_number_is_refused() -> None:
    with pytest.raises(ValidationError, match="'attacked' is taken"):
        Evaluation(datasets={"attacked": Digits("test")}, attacks={}, drift=Clean())


@pytest.mark.parametrize("lora", [None, {"rank": 1}], ids=["whole", "lora"])
def test_a_run_reports_how_far_it_has_come_from_where_it_began(lora: Any, digits: Path, tmp_path: Path) -> None:
    """Also where the run continues, and with LoRA, whose original is the same for every trial."""
    changes = {"optim__steps": 2, "evaluation__every": 1, "optim__lr": 1e-3, "evaluation__drift": {"kind": "clean"}}
    recipe = small_recipe(digits, **changes, model__lora=lora)
    process = Process(cache=tmp_path)
    first, second = [(progress.metrics["drift"], progress.state()) for progress in finetune(recipe, process)]
    assert 0 < first[0] != second[0]
    (again,) = finetune(recipe, process, first[1])
    assert again.metrics["drift"] == second[0]
    assert set(recipe.metrics()) >= {"drift"} <= again.metrics.keys()
    images = next(iter(recipe.evaluation.datasets.values())).open()
    (kept,) = [path for path in tmp_path.glob("*.npy") if len(np.load(path)) == len(images.labels)]
    original = recipe.model.load()
    pixels = Pixels(images, original.preprocessing).at(np.arange(len(images.labels))) / 255
    with torch.no_grad():
        assert np.allclose(np.load(kept), original.encoder(pixels).numpy(), atol=1e-5)
