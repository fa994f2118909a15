"""TIMA's text stage on the digits model: what it does to rows and tower, and when it is computed anew."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from robustcore.data import Digits, Pixels
from robustcore.errors import ModelError, NonFiniteLoss
from robustcore.losses import ZeroShot
from robustcore.losses.energy import EnergyKind, angles, energy
from robustcore.models import Clip, TextTower
from robustcore.models.lora import Lora
from robustcore.optim import Optim
from robustcore.process import Process
from robustcore.text_stage import ANGLES, TextStage, load_text, row_angles, text_tensors, tune_text

STEPS = Optim(lr=1e-3, steps=20)
FULL, LORA = TextStage(STEPS), TextStage(replace(STEPS, lr=1e-2), lora=Lora())
both_ways = pytest.mark.parametrize("stage", [FULL, LORA], ids=["full", "lora"])
UNSEEN = ("ten", "a dozen", "letter A")
SIMPLEX = math.degrees(math.acos(-1 / 9))  # between ten rows that are as far apart as ten can be


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the tests that only look at a tuned tower."""
    return tmp_path_factory.mktemp("cache")


class Tower(TextTower):
    """The digits model's text tower, counting how often rows are made to be trained."""

    def __init__(self, scale: float | None = None) -> None:
        loaded = Clip(weights="digits").load()
        super().__init__(loaded.model, loaded.tokenize, scale or loaded.scale)
        self.trained = 0

    def rows(self, classes: Sequence[str], prompts: Sequence[str], recompute: bool = False) -> Tensor:
        self.trained += torch.is_grad_enabled()
        return super().rows(classes, prompts, recompute)

    def seen(self, classes: Sequence[str] | None = None) -> Tensor:
        with torch.no_grad():
            return self.rows(classes or IMAGES.classes, FULL.prompts)


IMAGES = Digits("test").open()


def embedded() -> np.ndarray:
    loaded = Clip(weights="digits").load()
    with torch.no_grad():
        pixels = Pixels(IMAGES, loaded.preprocessing).at(np.arange(200))
        embeddings: np.ndarray = loaded.encoder(pixels.float() / 255).numpy()
    return embeddings


ORIGINAL = embedded()
BEFORE = Tower().seen()


def tuned(stage: TextStage, cache: Path, tower: Tower | None = None, **changes: Any) -> Tower:
    """``tower`` after the stage; ``changes`` are to what it depends on beside stage and tower."""
    tower = tower or Tower()
    known: dict[str, Any] = {"classes": IMAGES.classes, "original": ORIGINAL, "fingerprint": "images", "seed": 0}
    tune_text(stage, tower, **(known | changes), process=Process(cache=cache))
    return tower


def logits(tower: Tower) -> Tensor:
    return ZeroShot(tower.seen(), tower.scale)(torch.from_numpy(ORIGINAL))


KINDS: tuple[EnergyKind, ...] = get_args(EnergyKind)


@pytest.mark.parametrize("kind", KINDS)
def test_energy_alone_spreads_the_rows_to_a_simplex(kind: EnergyKind, tmp_path: Path) -> None:
    after = tuned(replace(FULL, energy=kind, distill_weight=0), tmp_path).seen()
    (mean_before, min_before), (mean, smallest) = angles(BEFORE), angles(after)
    assert mean_before < 86 < SIMPLEX - 0.5 < mean < SIMPLEX + 0.5
    assert smallest > min_before + 8
    assert energy(after, kind) < energy(BEFORE, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_energy_of_the_half_space_spreads_them_as_lines_to_right_angles(kind: EnergyKind, tmp_path: Path) -> None:
    after = tuned(replace(FULL, energy=kind, half_space=True, distill_weight=0), tmp_path).seen()
    assert angles(after)[0] == pytest.approx(90, abs=1)
    likeness = [(rows @ rows.T - torch.eye(10)).abs() for rows in (BEFORE, after)]
    assert likeness[1].max() < likeness[0].max()
    assert likeness[1].sum() < likeness[0].sum() / 1.5


@both_ways
def test_distillation_keeps_the_logits_that_energy_alone_would_move(stage: TextStage, shared: Path) -> None:
    """At a temperature of 10, the teacher's digits are sure of more than one class."""
    teacher = logits(Tower())
    free, kept = (tuned(replace(stage, distill_weight=weight, temperature=10), shared) for weight in (0.0, 100.0))
    moved = [(logits(tower) - teacher).abs().mean() for tower in (free, kept)]
    assert moved[1] < moved[0] / 5
    assert torch.equal(logits(kept).argmax(dim=1), teacher.argmax(dim=1))
    assert angles(free.seen())[0] > angles(kept.seen())[0] + 4


@both_ways
def test_distillation_alone_leaves_the_rows_about_where_they_are(stage: TextStage, shared: Path) -> None:
    after = tuned(replace(stage, mhe_weight=0, temperature=10), shared)
    free = tuned(replace(stage, distill_weight=0), shared)
    distances = [(tower.seen() - BEFORE).norm() for tower in (after, free)]
    assert distances[0] < distances[1] / 4


@both_ways
def test_classes_that_it_has_not_seen_get_other_rows_too(stage: TextStage, shared: Path) -> None:
    before, after = (tower.seen(UNSEEN) for tower in (Tower(), tuned(stage, shared)))
    assert ((after - before).norm(dim=1) > 0.01).all()
    torch.testing.assert_close(after.norm(dim=1), torch.ones(3))


def test_the_whole_tower_is_tuned_and_the_image_tower_and_the_scale_stay_to_the_bit(shared: Path) -> None:
    tower, original = tuned(FULL, shared), Tower().model.state_dict()
    changed = {name for name, value in tower.model.state_dict().items() if not torch.equal(value, original[name])}
    assert changed == Tower().parameters().keys()
    assert not any(name.startswith(("visual.", "logit_")) for name in changed)


def test_with_lora_a_and_b_alone_are_tuned(shared: Path) -> None:
    fresh = Tower()
    fresh.attach(Lora(), 0)
    tower, original = tuned(LORA, shared), fresh.model.state_dict()
    changed = {name for name, value in tower.model.state_dict().items() if not torch.equal(value, original[name])}
    assert len(changed) == len(tower.adapter()) > 0
    assert all("parametrizations" in name and name.endswith((".a", ".b")) for name in changed)
    assert torch.equal(fresh.seen(), BEFORE)
    assert not torch.equal(tower.seen(), BEFORE)


@both_ways
def test_no_steps_leave_the_rows_as_they_are(stage: TextStage, tmp_path: Path) -> None:
    tower = tuned(replace(stage, optim=replace(stage.optim, steps=0)), tmp_path)
    assert tower.trained == 0
    assert torch.equal(tower.seen(), BEFORE)


SHORT = replace(FULL, optim=replace(STEPS, steps=2))


@both_ways
def test_it_is_computed_once_for_all_that_share_it(stage: TextStage, tmp_path: Path) -> None:
    first = tuned(stage, tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    written = path.stat().st_mtime_ns
    second = tuned(stage, tmp_path)
    assert (first.trained, second.trained) == (20, 0)
    assert path.stat().st_mtime_ns == written
    assert list(tmp_path.glob("*.safetensors")) == [path]
    assert torch.equal(first.seen(UNSEEN), second.seen(UNSEEN))


OTHER_STAGES: dict[str, Any] = {
    "lr": {"optim": Optim(lr=2e-3, steps=2)},
    "steps": {"optim": Optim(lr=1e-3, steps=3)},
    "mhe_weight": {"mhe_weight": 2.0},
    "distill_weight": {"distill_weight": 2.0},
    "temperature": {"temperature": 2.0},
    "energy": {"energy": "riesz_1"},
    "half_space": {"half_space": True},
    "lora": {"lora": Lora()},
    "prompts": {"prompts": ("a {}",)},
    "batch_size": {"batch_size": 64},
}


def test_every_setting_is_tried_below() -> None:
    assert set(TextStage.__dataclass_fields__) == {*OTHER_STAGES, "optim"} - {"lr", "steps"}


@pytest.mark.parametrize("setting", OTHER_STAGES)
def test_other_settings_are_another_computation(setting: str, tmp_path: Path) -> None:
    one = tuned(SHORT, tmp_path)
    other = tuned(replace(SHORT, **OTHER_STAGES[setting]), tmp_path)
    assert other.trained > 0
    assert not torch.equal(one.seen(), other.seen())


OTHERS: dict[str, dict[str, Any]] = {
    "images": {"fingerprint": "other images", "original": ORIGINAL[:50]},
    "classes": {"classes": UNSEEN},
    "seed": {"seed": 1},
}


@pytest.mark.parametrize("what", OTHERS)
def test_other_images_classes_or_seed_are_another_computation(what: str, tmp_path: Path) -> None:
    one, other = tuned(SHORT, tmp_path), tuned(SHORT, tmp_path, **OTHERS[what])
    assert other.trained == 2
    assert not torch.equal(one.seen(), other.seen())


def test_another_tower_or_another_scale_is_another_computation(tmp_path: Path) -> None:
    tuned(SHORT, tmp_path)
    changed = Tower()
    with torch.no_grad():
        changed.parameters()["text_projection"].mul_(1.001)
    assert tuned(SHORT, tmp_path, changed).trained == 2
    assert tuned(SHORT, tmp_path, Tower(scale=50.0)).trained == 2


@both_ways
def test_what_it_changed_loads_into_a_fresh_tower(stage: TextStage, shared: Path) -> None:
    tower, fresh = tuned(stage, shared), Tower()
    if stage.lora is not None:
        fresh.attach(stage.lora, seed=9)
    load_text(stage, fresh, text_tensors(stage, tower))
    for classes in (IMAGES.classes, UNSEEN):
        assert torch.equal(fresh.seen(classes), tower.seen(classes))


@both_ways
def test_what_another_model_gave_is_refused_by_name(stage: TextStage, shared: Path) -> None:
    tower = tuned(stage, shared)
    name, *_ = tensors = text_tensors(stage, tower)
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        load_text(stage, tower, {key: value for key, value in tensors.items() if key != name})
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        load_text(stage, tower, {**tensors, name: tensors[name][..., :1]})


@both_ways
@pytest.mark.parametrize("steps", [1, 5])
def test_a_stage_that_diverges_says_so_and_leaves_no_file_behind(stage: TextStage, steps: int, tmp_path: Path) -> None:
    """After one step, only the rows are NaN: no loss has seen them."""
    with pytest.raises(NonFiniteLoss, match=r"^the text stage's .* became .*; try a smaller lr$"):
        tuned(replace(stage, optim=Optim(lr=1e30, steps=steps)), tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))


def test_angles_are_reported_before_and_after() -> None:
    right = torch.eye(3)
    metrics = row_angles(right[:, [0, 0, 0]] + right, right)
    assert metrics == pytest.approx(dict(zip(ANGLES, (*angles(right[:, [0, 0, 0]] + right), 90, 90), strict=True)))
