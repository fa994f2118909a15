"""The training loop, on real digits: it repeats, resumes to the bit, keeps its reference, and says when it diverges."""

import functools
from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from robustcore.errors import DataError, NonFiniteLoss
from robustcore.finetune import Progress, State, finetune
from robustcore.models import Clip, Encoder, SimClr
from robustcore.process import Process
from robustcore.recipe import Recipe
from robustcore.storage import Folder
from tests.support import drift, small_recipe, write_digits
from trainables.checkpoints import Checkpoint, Report, load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The original embeddings of all runs here: one computation, as in a sweep."""
    return tmp_path_factory.mktemp("cache")


def ran(recipe: Recipe, cache: Path, resume: State | None = None) -> list[Progress]:
    return list(finetune(recipe, Process(cache=cache), resume))


@pytest.fixture(scope="module")
def whole(digits: Path, cache: Path) -> Callable[[str], list[Progress]]:
    """The undisturbed run of each variant, once for all tests that compare with it."""

    @functools.cache
    def run(variant: str) -> list[Progress]:
        return ran(small_recipe(digits, **VARIANTS[variant]), cache)

    return run


def metrics(progress: list[Progress]) -> list[dict[str, float]]:
    return [one.metrics for one in progress]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


TEXT = {"lr": 1e-3, "steps": 3}
VARIANTS: dict[str, dict[str, Any]] = {
    "fare": {},
    "tecoa": {"loss": {"kind": "tecoa", "alpha": 1, "clean_term": "embedding"}},
    "tecoa without the original": {"loss": {"kind": "tecoa"}, "attack": {"kind": "clean"}},
    "l2": {"attack__ball": {"kind": "l2", "eps": 0.5}},
    "accumulated": {"optim__accumulate": 3},
    "bf16": {"precision": "bf16"},
    "sim_clip": {"loss": {"kind": "sim_clip"}},
    "sim_clip to the original": {
        "loss": {"kind": "sim_clip", "anchor": "original"},
        "attack": {"kind": "apgd", "ball": {"kind": "linf", "eps": 0.05}},
    },
    "pmg_aft climbing all of R": {"loss": {"kind": "pmg_aft"}, "attack__climb": "robust", "optim__kind": "sgd"},
    "tima": {"loss": {"kind": "tima", "alpha": 0.5}, "text": {"optim": TEXT, "lora": {"targets": ["mlp"]}}},
    "a tuned text tower": {"loss": {"kind": "tecoa"}, "text": {"optim": TEXT}, "attack__climb": "targeted_dlr"},
    "few shots": {"data__shots": 2, "attack": {"kind": "rs_fgsm", "ball": {"kind": "linf", "eps": 0.1}}},
    "lora": {"model__lora": {"rank": 2, "targets": ["q", "mlp"]}, "attack__climb": "cross_entropy"},
    "lora on both towers": {
        "model__lora": {"towers": "both", "dropout": 0.25},
        "loss": {"kind": "tecoa"},
        "attack": {"kind": "universal", "ball": {"kind": "linf", "eps": 0.1}, "steps": 2, "stride": 0.5},
    },
    "simclr": {"model": {"kind": "simclr", "weights": "digits-simclr"}, "attack__climb": "cross_entropy"},
    "simclr with statistics of the batch": {
        "model": {"kind": "simclr", "weights": "digits-simclr", "batch_norm": "batch"},
    },
    "simclr with lora": {"model": {"kind": "simclr", "weights": "digits-simclr", "lora": {"rank": 1}}},
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)


@every_variant
def test_one_seed_gives_the_same_numbers_to_the_bit(
    variant: str, digits: Path, cache: Path, whole: Callable[[str], list[Progress]]
) -> None:
    again = ran(small_recipe(digits, **VARIANTS[variant]), cache)
    assert metrics(again) == metrics(whole(variant))
    assert same(again[-1].state().weights, whole(variant)[-1].state().weights)


def test_another_seed_gives_other_numbers(digits: Path, cache: Path, whole: Callable[[str], list[Progress]]) -> None:
    other = ran(small_recipe(digits, seed=1), cache)
    assert not same(other[-1].state().weights, whole("fare")[-1].state().weights)


@every_variant
def test_a_run_killed_and_resumed_is_the_run_that_was_not_to_the_bit(
    variant: str, digits: Path, cache: Path, tmp_path: Path, whole: Callable[[str], list[Progress]]
) -> None:
    recipe = small_recipe(digits, **VARIANTS[variant])
    first = next(iter(finetune(recipe, Process(cache=cache))))
    folder, report = Folder(str(tmp_path)), Report(first.step, first.metrics, first.seconds, first.final)
    save_checkpoint(folder, recipe.fingerprint(), Checkpoint(first.state(), [report]))
    saved = load_checkpoint(folder, recipe.fingerprint())
    assert saved is not None
    rest = ran(recipe, cache, saved.state)
    assert [one.step for one in rest] == [4]
    assert [saved.reports[0].metrics, *metrics(rest)] == metrics(whole(variant))
    assert same(rest[-1].state().weights, whole(variant)[-1].state().weights)


@pytest.mark.parametrize(
    "variant", ["fare", "accumulated", "lora on both towers", "simclr with statistics of the batch"]
)
def test_a_run_that_was_stopped_between_two_evaluations_is_the_run_that_was_not_to_the_bit(
    variant: str, digits: Path, cache: Path, tmp_path: Path, whole: Callable[[str], list[Progress]]
) -> None:
    recipe = small_recipe(digits, **VARIANTS[variant])
    asked = iter([False, True])
    *_, between = islice(finetune(recipe, Process(cache=cache), is_wanted=lambda: next(asked)), 2)
    assert (between.step, between.metrics) == (3, {})
    save_checkpoint(Folder(str(tmp_path)), recipe.fingerprint(), Checkpoint(between.state(), []))
    saved = load_checkpoint(Folder(str(tmp_path)), recipe.fingerprint())
    assert saved is not None
    (last,) = ran(recipe, cache, saved.state)
    assert last.metrics == metrics(whole(variant))[-1]
    assert same(last.state().weights, whole(variant)[-1].state().weights)


def test_progress_comes_at_every_evaluation_and_at_the_end(digits: Path, cache: Path) -> None:
    progress = ran(small_recipe(digits, optim__steps=5), cache)
    assert [(one.step, one.final) for one in progress] == [(2, False), (4, False), (5, True)]
    assert all(one.seconds < other.seconds for one, other in pairwise(progress))


@every_variant
def test_metrics_are_those_that_the_recipe_announces(
    variant: str, digits: Path, whole: Callable[[str], list[Progress]]
) -> None:
    recipe = small_recipe(digits, **VARIANTS[variant])
    for progress in whole(variant):
        assert set(progress.metrics) == set(recipe.metrics())
        assert progress.metrics["worst"] <= min(progress.metrics["clean"], progress.metrics["pgd"])


def test_no_steps_evaluate_the_original(digits: Path, cache: Path) -> None:
    (progress,) = ran(small_recipe(digits, optim__steps=0, optim__warmup=0), cache)
    assert (progress.step, progress.final) == (0, True)
    assert progress.metrics["clean"] > 0.9
    assert same(progress.state().weights, Clip(weights="digits").load().encoder.state_dict())


def test_a_state_is_a_copy_that_later_steps_do_not_change(digits: Path, cache: Path) -> None:
    progress = finetune(small_recipe(digits), Process(cache=cache))
    first = next(progress).state()
    before = {name: value.clone() for name, value in {**first.weights, **first.optimizer}.items()}
    list(progress)
    assert same({**first.weights, **first.optimizer}, before)


@pytest.mark.parametrize("accumulate", [2, 3, 40])
def test_accumulation_gives_the_same_numbers_in_smaller_parts(
    accumulate: int, digits: Path, cache: Path, whole: Callable[[str], list[Progress]]
) -> None:
    parts = ran(small_recipe(digits, optim__accumulate=accumulate), cache)[-1]
    assert parts.metrics["loss"] == pytest.approx(whole("fare")[-1].metrics["loss"], rel=1e-3)
    assert drift(parts.state().weights, whole("fare")[-1].state().weights) < 1e-3


def test_a_loss_that_diverges_is_said_in_a_sentence(digits: Path, cache: Path) -> None:
    recipe = small_recipe(digits, optim__lr=1e30, optim__warmup=0)
    with pytest.raises(NonFiniteLoss, match=r"^the training loss became (nan|inf) at step \d of 4; try a smaller") as e:
        ran(recipe, cache)
    assert "optim.lr (now 1e+30)" in str(e.value)


def test_bf16_stays_close_to_fp32_and_its_weights_stay_in_fp32(whole: Callable[[str], list[Progress]]) -> None:
    full, half = whole("fare")[-1], whole("bf16")[-1]
    assert half.metrics["clean"] == pytest.approx(full.metrics["clean"], abs=0.05)
    assert half.metrics["loss"] == pytest.approx(full.metrics["loss"], rel=0.1)
    assert {value.dtype for value in half.state().weights.values()} == {torch.float32}


def test_training_moves_every_weight_while_the_originals_embeddings_stay(digits: Path, tmp_path: Path) -> None:
    recipe = small_recipe(digits)
    weights = ran(recipe, tmp_path)[-1].state().weights
    (path,) = tmp_path.glob("*.npy")
    before = np.load(path).copy()
    original = Clip(weights="digits").load().encoder
    assert all(not torch.equal(value, weights[name]) for name, value in original.state_dict().items())
    ran(recipe, tmp_path)
    assert np.array_equal(np.load(path), before)
    images = recipe.data.train.open()
    pixels = np.stack([np.asarray(images.decode(index)) for index in range(len(images.labels))])
    with torch.no_grad():
        embeddings = original(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
    np.testing.assert_allclose(before, embeddings, atol=1e-4)


@pytest.mark.parametrize("variant", ["lora", "lora on both towers", "simclr with lora"])
def test_a_state_of_a_lora_run_holds_the_adapter_alone_and_it_has_moved(
    variant: str, digits: Path, cache: Path
) -> None:
    run = finetune(small_recipe(digits, **VARIANTS[variant]), Process(cache=cache))
    first, last = (progress.state().weights for progress in run)
    assert {name.rpartition(".")[2] for name in last} == {"lora_a", "lora_b"}
    assert not any(torch.equal(value, first[name]) for name, value in last.items())
    assert any(name.startswith("text.") for name in last) == (variant == "lora on both towers")


def test_statistics_of_the_batch_move_with_the_descent_and_frozen_ones_never(
    whole: Callable[[str], list[Progress]],
) -> None:
    original = SimClr(weights="digits-simclr").load().encoder.state_dict()
    statistics = [name for name in original if name.endswith(("running_mean", "running_var"))]
    frozen, batch = (
        whole(variant)[-1].state().weights for variant in ("simclr", "simclr with statistics of the batch")
    )
    assert len(statistics) > 10
    assert all(torch.equal(frozen[name], original[name]) for name in statistics)
    assert not any(torch.equal(batch[name], original[name]) for name in statistics)
    counters = [name for name in original if name.endswith("num_batches_tracked")]
    assert all(batch[name] == original[name] + 2 * 4 for name in counters)  # perturbed and clean, of four steps


class Shown:
    """What the encoder is shown: how many images at a time, and whether the weights had gradients."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, bool]] = []
        self.lowest, self.highest = 1.0, 0.0

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, Encoder):
            weights = next(module.parameters())
            self.calls.append((len(inputs[0]), weights.requires_grad and torch.is_grad_enabled()))
            self.lowest = min(self.lowest, inputs[0].min().item())
            self.highest = max(self.highest, inputs[0].max().item())


@pytest.fixture
def shown() -> Iterator[Shown]:
    shown = Shown()
    hook = register_module_forward_pre_hook(shown)
    yield shown
    hook.remove()


@pytest.mark.parametrize("loss", ["fare", "tecoa"])
@pytest.mark.parametrize(("alpha", "trained_on"), [(0, 16), (0.5, 32)])
def test_alpha_zero_never_computes_the_clean_forward(
    loss: str, alpha: float, trained_on: int, digits: Path, cache: Path, shown: Shown
) -> None:
    recipe = small_recipe(digits, loss={"kind": loss, "alpha": alpha}, optim__steps=1, evaluation__attacks={})
    ran(recipe, cache)  # embeddings are cached from here on
    shown.calls.clear()
    ran(recipe, cache)
    attack, training = [(16, False)] * 3, [(trained_on, True)]  # two gradients and the last look
    assert shown.calls[:4] == attack + training
    assert all(not trains for _, trains in shown.calls[4:])


def test_the_encoder_sees_pixels_between_zero_and_one_in_the_ball_of_eps(
    digits: Path, cache: Path, shown: Shown
) -> None:
    """A radius in normalised units would be half as large here, and its pixels outside the box."""
    ran(small_recipe(digits), cache)
    assert shown.lowest == 0
    assert shown.highest == 1


def test_a_batch_larger_than_the_set_is_refused(digits: Path, cache: Path) -> None:
    with pytest.raises(DataError, match="has 67 images, expected at least one batch of 68"):
        ran(small_recipe(digits, data__batch_size=68), cache)


def test_robust_training_makes_the_digits_model_robust(tmp_path: Path) -> None:
    recipe = small_recipe(
        write_digits(tmp_path / "digits.parquet", 640, 100),
        data__batch_size=64,
        loss={"kind": "fare"},
        attack={"kind": "pgd", "ball": {"kind": "linf", "eps": "16/255"}, "steps": 3, "stride": 0.5},
        optim={"lr": 3e-3, "steps": 40, "warmup": 5},
        evaluation__attacks={"pgd": {"kind": "pgd", "ball": {"kind": "linf", "eps": "16/255"}, "steps": 5}},
        evaluation__every=40,
    )
    (progress,) = ran(recipe, tmp_path)
    assert progress.metrics["clean"] > 0.9
    assert progress.metrics["pgd"] > 0.4  # from about 0.1
