"""What the attacker climbs while each loss trains: the images trained on are those of an attack made by hand."""

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from robustcore.data import Pixels
from robustcore.data.images import as_pixels
from robustcore.data.loaders import training_batches
from robustcore.errors import InputError
from robustcore.finetune import finetune
from robustcore.losses import Loss, Reference, ZeroShot
from robustcore.models import Clip, Encoder
from robustcore.noise import Noise
from robustcore.process import Process
from robustcore.recipe import Recipe
from robustcore.types import Climb, Images
from tests.support import coloured, members, small_recipe, write_parquet

CLIMBS: tuple[Climb, ...] = get_args(Climb)
DEFAULTS: dict[str, Climb] = {
    "fare": "robust",
    "tecoa": "robust",
    "sim_clip": "embedding",
    "tima": "robust",
    "pmg_aft": "cross_entropy",
}
SAME = ({"fare", "robust", "embedding"}, {"tecoa", "robust", "cross_entropy"})  # two names for one function


class ByHand:
    """The first batch of a recipe, and what an attacker may climb there, written out."""

    def __init__(self, recipe: Recipe) -> None:
        images, loaded = recipe.data.train.open(), Clip(weights="digits").load()
        (batch,) = training_batches(Pixels(images, loaded.preprocessing), 16, recipe.seed, range(1))
        self.recipe, self.encoder, self.scale = recipe, loaded.encoder.requires_grad_(False), loaded.scale
        self.indices = torch.from_numpy(batch.indices)
        self.pixels = as_pixels(batch.pixels, torch.device("cpu"))
        self.labels = torch.from_numpy(images.labels)[self.indices]
        self.rows = loaded.classifier_rows(images.classes, recipe.loss.prompts or recipe.evaluation.prompts)

    @cached_property
    def clean(self) -> Tensor:
        embeddings: Tensor = self.encoder(self.pixels)
        return embeddings

    def logits(self, embeddings: Tensor) -> Tensor:
        return self.scale * F.normalize(embeddings, dim=1) @ self.rows.T

    def wrong(self, logits: Tensor) -> Tensor:
        """The logits without that of the label."""
        return logits.scatter(1, self.labels[:, None], -torch.inf)

    def robust(self, embeddings: Tensor) -> Tensor:
        """Nothing has been trained yet, so that phi is phi0."""
        zero_shot = ZeroShot(self.rows, self.scale)
        known = Reference(self.labels, self.clean, zero_shot, zero_shot, self.clean, embeddings)
        return self.recipe.loss.robust(embeddings, known)

    def cross_entropy(self, embeddings: Tensor) -> Tensor:
        return F.cross_entropy(self.logits(embeddings), self.labels, reduction="none")

    def embedding(self, embeddings: Tensor) -> Tensor:
        return (embeddings - self.clean).square().sum(dim=1)

    def dlr(self, embeddings: Tensor) -> Tensor:
        logits = self.logits(embeddings)
        rise = self.wrong(logits).amax(dim=1) - logits.gather(1, self.labels[:, None]).squeeze(1)
        top: Tensor = logits.sort(dim=1, descending=True).values
        return rise / (top[:, 0] - top[:, 2])

    def targeted_dlr(self, embeddings: Tensor) -> Tensor:
        """The target is the most likely wrong class of the clean image, wherever the attack may lead."""
        logits, target = self.logits(embeddings), self.wrong(self.logits(self.clean)).argmax(dim=1)
        rise = (logits.gather(1, target[:, None]) - logits.gather(1, self.labels[:, None])).squeeze(1)
        top: Tensor = logits.sort(dim=1, descending=True).values
        return rise / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2)

    def attacked(self, climb: Climb) -> Images:
        function: Callable[[Tensor], Tensor] = getattr(self, climb)
        noise = Noise.of(self.recipe.seed, 0, self.indices)
        return self.recipe.attack(lambda pixels: function(self.encoder(pixels)), self.pixels, noise)


@pytest.fixture
def trained_on() -> Iterator[list[Images]]:
    """What the encoder is shown while its weights have gradients."""
    shown: list[Images] = []

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, Encoder) and next(module.parameters()).requires_grad and torch.is_grad_enabled():
            shown.append(inputs[0].detach().clone())

    hook = register_module_forward_pre_hook(note)
    yield shown
    hook.remove()


def test_every_loss_has_its_default_below() -> None:
    assert {loss.kind: loss().climb for loss in members(Loss)} == DEFAULTS


@pytest.mark.parametrize("climb", [None, *CLIMBS])
@pytest.mark.parametrize("loss", DEFAULTS)
def test_the_attacker_climbs_what_the_attack_says_or_else_what_the_loss_says(
    loss: str, climb: Climb | None, digits: Path, tmp_path: Path, trained_on: list[Images]
) -> None:
    short: dict[str, Any] = {"optim": {"lr": 1e-3, "steps": 1}, "evaluation__attacks": {}}
    recipe = small_recipe(digits, loss={"kind": loss}, attack__climb=climb, **short)
    list(finetune(recipe, Process(cache=tmp_path)))
    (shown,) = trained_on
    by_hand, meant = ByHand(recipe), climb or DEFAULTS[loss]
    alike = {name: float((by_hand.attacked(name) == shown[:16]).float().mean()) for name in CLIMBS}
    assert alike.pop(meant) > 0.999
    assert all(share < 0.995 for name, share in alike.items() if {loss, meant, name} not in SAME)


FLAT: dict[str, dict[str, Any]] = {
    "fare from the image itself": {"attack__random_start": False},
    "fare under one step": {"attack": {"kind": "fgsm", "ball": {"kind": "linf", "eps": 0.1}}},
    "fare under one delta for all": {"attack": {"kind": "universal", "ball": {"kind": "linf", "eps": 0.1}}},
    "fare under apgd": {"attack": {"kind": "apgd", "ball": {"kind": "l2", "eps": 1}, "random_start": False}},
    "sim_clip": {"loss": {"kind": "sim_clip"}, "attack__random_start": False},
    "sim_clip climbing R": {"loss": {"kind": "sim_clip"}, "attack__random_start": False, "attack__climb": "robust"},
    **{
        f"{loss} climbing the distance": {
            "loss": {"kind": loss},
            "attack__climb": "embedding",
            "attack__random_start": False,
        }
        for loss in DEFAULTS
    },
}


@pytest.mark.parametrize("changes", FLAT.values(), ids=FLAT.keys())
def test_an_attack_that_would_never_move_is_refused(changes: dict[str, Any], digits: Path) -> None:
    with pytest.raises(ValidationError, match=r"has no gradient at the clean image.* expected one with a random start"):
        small_recipe(digits, **changes)


@pytest.mark.parametrize("changes", FLAT.values(), ids=FLAT.keys())
def test_it_is_accepted_where_it_climbs_a_function_of_the_labels(changes: dict[str, Any], digits: Path) -> None:
    recipe = small_recipe(digits, **(changes | {"attack__climb": "cross_entropy"}))
    assert recipe.climb == "cross_entropy"


@pytest.mark.parametrize(("climb", "least"), [("dlr", 3), ("targeted_dlr", 4)])
@pytest.mark.parametrize("key", ["attack.climb", "evaluation.attacks.it.climb"])
def test_too_few_classes_for_a_climb_are_told_by_its_key(climb: str, least: int, key: str, tmp_path: Path) -> None:
    def trained(classes: int) -> None:
        labels = [row % classes for row in range(16)]
        path = write_parquet(tmp_path / f"{classes}.parquet", [coloured(row) for row in range(16)], labels)
        source = {"kind": "parquet", "path": str(path), "classes": ["ant", "bee", "cat", "dog"][:classes]}
        pgd = {"kind": "pgd", "ball": {"kind": "linf", "eps": 0.1}, "steps": 1}
        recipe = small_recipe(
            path,
            data__train=source,
            evaluation__datasets={"greys": source},
            evaluation__attacks={"it": pgd | {"climb": climb if key.startswith("evaluation") else None}},
            attack__climb=climb if key == "attack.climb" else None,
            optim={"lr": 1e-3, "steps": 1},
        )
        list(finetune(recipe, Process(cache=tmp_path)))

    trained(least)
    with pytest.raises(InputError, match=f"^'{climb}' compares at least {least} classes, got {least - 1}$") as caught:
        trained(least - 1)
    assert caught.value.key == key
