"""Fifteen mistakes of published robust fine-tuning code: each is avoided here, and made on purpose it is noticed.

Every test looks at the real thing, then takes the same look at the mistake (``tests/robustcore/mistakes.py``).
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import yaml
from pydantic import ValidationError
from torch import Tensor

import robustcore.models.clip
import sweeps
from robustcore.attacks import APGD, PGD, Clean, Climber, Linf
from robustcore.attacks.climb import Best
from robustcore.data import Digits, Parquet, Pixels
from robustcore.data.images import as_pixels
from robustcore.descent import Descent
from robustcore.evaluation import Evaluation, Suite, survivors
from robustcore.finetune import finetune
from robustcore.losses import CLIMBS, Fare, Loss, Reference, ZeroShot, cross_entropy
from robustcore.models import Clip, SimClr, TextTower, batch_statistics
from robustcore.models.weights import describe, save_model, shipped
from robustcore.noise import Noise
from robustcore.prepared import prepare
from robustcore.process import Process
from robustcore.stalls import ZeroGradients
from robustcore.types import Images, PerImage
from tests.robustcore import mistakes
from tests.robustcore.towers import OPENAI, TINY, built, embedded, seen
from tests.robustcore.watching import Look, descents, looking, noted, noting_waits, trained
from tests.support import members, recipe_plain, small_recipe
from trainables.resources import Demand
from trainables.trial import run_here
from trainables.worker import Assignment, in_place

EPS = 16 / 255
BALL = Linf(EPS)
LINF = {"kind": "linf", "eps": EPS}
PGD_OF_TWO = {"kind": "pgd", "ball": LINF, "steps": 2}
SIMCLR = {"kind": "simclr", "weights": "digits-simclr"}
CLIP = Clip(weights="digits").load()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def known(count: int = 400) -> tuple[Images, Reference, Noise]:
    """Digits that the model has not been trained on."""
    images, chosen = Digits("test").open(), np.arange(count)
    rows = CLIP.classifier_rows(images.classes, ["a photo of a {}."])
    pixels = as_pixels(Pixels(images, CLIP.preprocessing).at(chosen), torch.device("cpu"))
    reference = Reference(torch.from_numpy(images.labels[chosen]), classifier=ZeroShot(rows, CLIP.scale))
    return pixels, reference, Noise.of(0, 0, torch.from_numpy(chosen))


def at_scale(reference: Reference, scale: float) -> Reference:
    assert isinstance(reference.classifier, ZeroShot)
    return replace(reference, classifier=replace(reference.classifier, scale=scale))


def saved(path: Path, model: Any, **changes: Any) -> str:
    """A file of our own like that of the shipped weights."""
    description = describe(shipped("digits"))
    assert description is not None
    save_model(path, model, replace(description, **changes))
    return str(path)


def test_mistake_01_eps_is_a_distance_of_pixels_and_the_box_is_theirs_under_any_normaliser(
    digits: Path, cache: Path, tmp_path: Path
) -> None:
    def lawful(perturbed: Tensor, images: Tensor) -> bool:
        reach = (perturbed - images).abs().amax(dim=(1, 2, 3))
        return bool((reach - EPS).abs().max() < 1e-6 and perturbed.min() >= 0 and perturbed.max() <= 1)

    mean, std = (0.2, 0.5, 0.8), (0.1, 0.25, 0.5)
    unusual = saved(tmp_path / "unusual.safetensors", CLIP.model, mean=mean, std=std)
    attack = PGD_OF_TWO | {"stride": 2}
    ((_, look),) = descents(trained(digits, cache, model__weights=unusual, attack=attack, loss__alpha=1))
    perturbed, images = look.pixels.chunk(2)
    assert lawful(perturbed, images)

    encoder = Clip(weights=unusual).load().encoder
    normalised = (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(encoder(images), encoder.visual(normalised))
    assert not lawful(mistakes.in_normalised_space(encoder, images, EPS), images)
    shrunk = images + EPS * encoder.std * (perturbed - images).sign()  # the radius alone
    assert not lawful(shrunk.clamp(0, 1), images)


def test_mistake_02_the_attacker_climbs_logits_at_the_checkpoints_scale_and_unscaled_cosines_are_weaker(
    digits: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, reference, noise = known()

    def surviving(scale: float) -> float:
        attack = PGD(BALL, steps=3, stride=0.5)
        (survived,) = survivors(CLIP.encoder, [attack], images, at_scale(reference, scale), noise)
        return float(survived.float().mean())

    assert surviving(CLIP.scale) + 0.02 < surviving(1)

    def scales() -> set[float]:
        used: set[float] = set()
        with monkeypatch.context() as patch:
            patch.setattr(ZeroShot, "__call__", noted(ZeroShot.__call__, lambda self, _: used.add(self.scale)))
            trained(digits, cache, loss={"kind": "tecoa"}, evaluation__attacks={"pgd": PGD_OF_TWO})
        return used

    assert scales() == {CLIP.scale} == {CLIP.model.logit_scale.exp().item()}  # type: ignore[operator]  # a parameter
    monkeypatch.setattr("robustcore.original.ZeroShot", lambda rows, scale: ZeroShot(rows, 1))
    assert scales() == {1}


def test_mistake_03_weights_have_no_gradient_in_an_attack_and_none_after_it(
    digits: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaks() -> set[str]:
        ((attack, descent),) = descents(trained(digits, cache))
        assert sum(look.climbs for look in attack) == 2
        within = {"into the graph" for look in attack if look.trainable}
        return within | {"into the weights" for look in [*attack, descent] if look.leaked}

    assert leaks() == set()
    monkeypatch.setattr("robustcore.descent.without_weight_gradients", lambda module: nullcontext())
    assert leaks() == {"into the graph"}
    monkeypatch.setattr("robustcore.attacks.pgd.slope", mistakes.by_backward)
    assert leaks() == {"into the graph", "into the weights"}


FUNCTIONS: dict[str, dict[str, Any]] = {
    "clip": {},
    "batch norm": {"model": SIMCLR},
    "dropout": {
        "model__lora": {"rank": 2, "dropout": 0.5, "scale": 20},
        "optim": {"lr": 0.1, "steps": 2},  # the first step finds B at zero
        "evaluation__every": 2,
    },
}


def disagreement(looks: list[Look]) -> float:
    """The largest difference between what attacker and descent see in the same pixels, as a share of what they see."""
    shares = [0.0]
    for attack, descent in descents(looks):
        for look in attack:
            both = (look.pixels == descent.pixels).flatten(1).all(dim=1)
            one, other = look.embeddings[both], descent.embeddings[both]
            shares += ((one - other).norm(dim=1) / other.norm(dim=1)).tolist()
    assert len(shares) > 16
    return max(shares)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_mistake_04_the_function_attacked_is_the_function_trained_and_the_one_that_is_judged(
    function: str, digits: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = trained(digits, cache, **FUNCTIONS[function])
    assert disagreement(looks) < 1e-4
    assert not any(look.training for look in looks)
    assert all(torch.equal(value, looks[-1].buffers[name]) for name, value in looks[0].buffers.items())

    monkeypatch.setattr(Descent, "_attacked", mistakes.attacked_under_another_mask)
    monkeypatch.setattr(Descent, "_statistics", mistakes.training_mode_to_descend)
    assert (disagreement(trained(digits, cache, **FUNCTIONS[function])) > 0.1) == (function != "clip")


def test_mistake_04_statistics_of_the_batch_follow_the_descent_alone_and_the_reference_keeps_its_own(
    digits: Path, tmp_path: Path
) -> None:
    looks = trained(digits, tmp_path, model=SIMCLR | {"batch_norm": "batch"}, loss__alpha=1)
    (attack, descent), _ = descents(looks)  # of perturbed images, and then of clean ones
    reference, name = looks[0], "visual.bn1.running_mean"
    assert {look.training for look in [*attack, descent]} == {frozenset({"BatchNorm2d"})}
    assert all(torch.equal(look.buffers[name], reference.buffers[name]) for look in attack)
    assert not torch.equal(descent.buffers[name], reference.buffers[name])
    assert not looks[-1].training  # in the evaluation

    (path,) = tmp_path.glob("*.npy")
    encoder = SimClr(weights="digits-simclr").load().encoder
    assert len(reference.pixels) == 67
    assert np.array_equal(np.load(path), encoder(reference.pixels).detach())
    with batch_statistics(encoder, update=True):  # left in training mode, it drifts
        encoder(reference.pixels)
    assert not np.allclose(np.load(path), encoder(reference.pixels).detach(), rtol=1e-3)


def test_mistake_05_the_iterate_of_the_highest_loss_is_returned_image_by_image(monkeypatch: pytest.MonkeyPatch) -> None:
    images, reference, noise = known(64)

    def missed(attack: Any) -> float:
        """By how much the best point looked at is better than the one returned."""
        looked: list[Tensor] = []

        def loss_at(pixels: Images) -> PerImage:
            loss = cross_entropy(CLIP.encoder(pixels), reference)
            looked.append(loss.detach())
            return loss

        found = loss_at(attack(loss_at, images, noise)).detach()
        return float((torch.stack(looked).amax(dim=0) - found).max())

    attacks = [PGD(BALL, steps=6, stride=2), APGD(BALL, steps=8)]
    assert all(missed(attack) < 1e-3 for attack in attacks)
    for mistake in (mistakes.keep_the_last, mistakes.keep_by_argmax(CLIP.encoder, reference.labels)):
        monkeypatch.setattr(Best, "keep", mistake)
        assert all(missed(attack) > 0.1 for attack in attacks)


def test_mistake_06_momentum_is_of_the_iterates_and_each_sign_is_a_whole_step(monkeypatch: pytest.MonkeyPatch) -> None:
    images, noise = torch.full((1, 3, 4, 4), 0.5), Noise.of(0, 0, torch.arange(1))

    def path(attack: Any) -> list[float]:
        """In units of eps, up a hill whose top is at 0.1."""
        looked: list[float] = []

        def loss_at(pixels: Images) -> PerImage:
            looked.append(float((pixels.detach() - images).mean()) / EPS)
            return -((pixels - images - EPS / 10) ** 2).sum(dim=(1, 2, 3))

        attack(loss_at, images, noise)
        return [round(place, 3) for place in looked[:4]]

    pgd, apgd = PGD(BALL, steps=3, stride=0.5, random_start=False), APGD(BALL, random_start=False)
    assert path(pgd) == [0, 0.5, 0, 0.5]
    assert path(apgd) == [0, 1, -0.25, 0.375]  # 1 + 0.75 (-1 - 1) + 0.25 (1 - 0), and so on

    monkeypatch.setattr(Linf, "steepest", mistakes.momentum_of_signs(0.25))
    monkeypatch.setattr("robustcore.attacks.apgd._INERTIA", 0)
    assert path(pgd) == [0, 0.5, 0, 0.5]  # it does nothing
    assert path(apgd) == [0, 1, -1, 1]


@pytest.mark.parametrize("term", [Fare().robust, Fare().clean, CLIMBS["embedding"]], ids=["R", "K", "climb"])
def test_mistake_07_distances_are_summed_over_the_dimensions(term: Callable[[Tensor, Reference], Tensor]) -> None:
    def doubles(term: Callable[[Tensor, Reference], Tensor]) -> bool:
        """Whether dimensions that are there twice count twice, in the gradient too."""
        at, original = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
        found = []
        for times in (1, 2):
            point = at.clone().requires_grad_()
            loss = term(point.repeat(1, times), Reference(torch.arange(5), original.repeat(1, times)))
            found.append(torch.cat([loss.detach()[:, None], *torch.autograd.grad(loss.sum(), point)], dim=1))
        return torch.allclose(found[1], 2 * found[0])

    assert doubles(term)
    assert not doubles(lambda at, reference: term(at, reference) / at.shape[1])


def test_mistake_08_no_gradient_is_taken_in_float16_and_one_that_underflows_is_reported(
    digits: Path, cache: Path
) -> None:
    images, reference, noise = known(32)
    reference = at_scale(reference, 100)  # CLIP's

    def stalled(precision: torch.dtype) -> float:
        """The share of pixels without a gradient where it passes through ``precision``."""
        watch = ZeroGradients()
        loss_at = watch.watch(lambda at: cross_entropy(CLIP.encoder(at.to(precision).float()), reference))
        PGD(BALL, steps=1)(loss_at, images, noise)
        return watch.take(Process())

    assert max(stalled(torch.float32), stalled(torch.bfloat16)) < 0.01
    assert stalled(torch.float16) > 0.5

    with pytest.raises(ValidationError, match="'fp32' or 'bf16'"):
        small_recipe(digits, precision="fp16")
    assert {"zero_gradient/training", "zero_gradient/pgd"} <= set(small_recipe(digits).metrics())
    looks = trained(digits, cache, precision="bf16", evaluation__attacks={"pgd": PGD_OF_TWO})
    assert {look.precision for look in looks if look.climbs} == {torch.bfloat16}
    assert {look.embeddings.dtype for look in looks} == {torch.float32}
    assert looks[-1].precision == torch.float32  # it judges what the attack has found


def test_mistake_09_fare_without_a_random_start_is_refused_because_it_would_never_move(digits: Path) -> None:
    images, reference, noise = known(16)
    reference = replace(reference, original=CLIP.encoder(images.clone().requires_grad_()).detach())

    def moves(random_start: bool) -> bool:
        attack = PGD(BALL, steps=3, random_start=random_start)
        found = attack(lambda pixels: Fare().robust(CLIP.encoder(pixels), reference), images, noise)
        return not torch.equal(found, images)

    assert moves(random_start=True)
    assert not moves(random_start=False)
    for key, attack in (("attack", PGD_OF_TWO), ("evaluation__attacks__flat", PGD_OF_TWO | {"climb": "embedding"})):
        small_recipe(digits, **{key: attack})
        with pytest.raises(ValidationError, match="would never move; expected one with a random start"):
            small_recipe(digits, **{key: attack | {"random_start": False}})


def test_mistake_10_clean_and_attacked_accuracy_are_of_the_same_images(
    digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attacks: dict[str, Any] = {"pgd": PGD(BALL, steps=2), "apgd": APGD(BALL, steps=2)}
    evaluation = Evaluation(datasets={"digits": Parquet(str(digits), split="test")}, attacks=attacks, batch_size=10)
    classifier = ZeroShot(CLIP.classifier_rows(Digits().open().classes, evaluation.prompts), CLIP.scale)
    suite = Suite(evaluation, lambda images, prompts: classifier, CLIP.preprocessing, 0, torch.float32)
    shown: dict[str, list[Tensor]] = {}
    for kind in (Clean, PGD, APGD):
        note = noted(kind.__call__, lambda self, loss_at, images, noise: shown[self.kind].extend(images))
        monkeypatch.setattr(kind, "__call__", note)

    def measured() -> tuple[int, dict[str, float]]:
        """How many sets of images the attacks were shown, and the metrics."""
        shown.update({"clean": [], "pgd": [], "apgd": []})
        metrics = suite(CLIP.encoder, Process()).metrics
        return len({torch.stack(images).numpy().tobytes() for images in shown.values()}), metrics

    sets, metrics = measured()
    assert sets == 1
    assert len(shown["clean"]) == round(31 * metrics["clean"])  # the others are fooled as they stand
    assert all(31 * metrics[name] == pytest.approx(round(31 * metrics[name])) for name in ("clean", "worst", *attacks))
    monkeypatch.setattr("robustcore.evaluation.exhibit.survivors", mistakes.fewer_for_attacks)
    assert measured()[0] == 2


# Every loss that an attacker may climb, every other climb, and every attack.
SITUATIONS: dict[str, dict[str, Any]] = {
    **{f"R of {loss.kind}": {"loss": {"kind": loss.kind}, "attack__climb": "robust"} for loss in members(Loss)},
    **{climb: {"attack__climb": climb} for climb in CLIMBS},
    **{
        attack.kind: {"loss": {"kind": "tecoa"}, "attack": {"kind": attack.kind, "ball": LINF}}
        for attack in members(Climber)
        if attack is not Clean
    },
    "l2": {"attack__ball": {"kind": "l2", "eps": 1}},
    "lora": {"model__lora": {"rank": 1, "dropout": 0.5}},
    "batch norm": {"model": SIMCLR | {"batch_norm": "batch"}},
    "bf16": {"precision": "bf16"},
}


def waits(digits: Path, cache: Path, patch: pytest.MonkeyPatch, **changes: Any) -> set[str]:
    """What the attacks of a run, in training and in the evaluation, would wait for the device with."""
    found: list[str] = []
    for attack in members(Climber):
        patch.setattr(attack, "__call__", noting_waits(attack.__call__, found))
    patch.setattr(Descent, "_raise_universal", noting_waits(Descent._raise_universal, found))
    at_the_end = {"kind": "apgd", "ball": {"kind": "l2", "eps": 1}, "steps": 4, "climb": "targeted_dlr"}
    trained(digits, cache, evaluation__attacks={"apgd": at_the_end}, **changes)
    return set(found)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_mistake_11_no_attack_waits_for_the_device(
    situation: str, digits: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert waits(digits, cache, monkeypatch, **SITUATIONS[situation]) == set()


@pytest.mark.parametrize("mistake", [mistakes.asking_whether_it_is_a_number, mistakes.written_by_mask])
def test_mistake_11_an_attack_that_waits_for_the_device_is_noticed(
    mistake: Callable[..., Any], digits: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robustcore.attacks.pgd.slope", mistake)
    assert waits(digits, cache, monkeypatch)


def test_mistake_12_a_step_is_its_attack_and_one_descent_and_text_is_read_once(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Counter[str] = Counter()
    for owner, name in ((open_clip.CLIP, "encode_text"), (robustcore.models.clip, "byte_tokens")):
        monkeypatch.setattr(owner, name, noted(getattr(owner, name), lambda *_, name=name: read.update([name])))

    def work(steps: int) -> Counter[str]:
        """By kind, with an evaluation after each step."""
        read.clear()
        looks = trained(digits, tmp_path, optim={"lr": 1e-3, "steps": steps}, evaluation__every=1)
        sizes = Counter(len(look.pixels) for look in looks)  # 67 images to train on, in batches of 16
        return read + Counter({"original": sizes[67], "batches": sizes[16]})

    def of_a_step() -> dict[str, int]:
        one, three = work(1), work(3)
        return {kind: (three[kind] - one[kind]) // 2 for kind in ("batches", "encode_text", "byte_tokens")}

    assert (work(1)["original"], work(1)["original"]) == (1, 0)  # cached for all runs to come
    right = {"batches": 2 + 1 + 1, "encode_text": 0, "byte_tokens": 0}  # two gradients, the last look, the descent
    assert of_a_step() == right
    with monkeypatch.context() as patch:
        patch.setattr(Descent, "_reference", noted(Descent._reference, mistakes.embedding_again))
        assert of_a_step() == right | {"batches": 5}
    monkeypatch.setattr("robustcore.finetune.Suite", lambda *given: Suite(*given[:5], True))
    assert of_a_step() == right | {"encode_text": 1}
    monkeypatch.setattr(TextTower, "_tokens_of", noted(TextTower._tokens_of, lambda self, *_: self._tokens.clear()))
    assert of_a_step() == right | {"encode_text": 1, "byte_tokens": 1}


def test_mistake_13_weights_bring_the_activation_that_they_were_trained_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openai = [name for name, tag in open_clip.list_pretrained() if tag == "openai"]
    assert "ViT-B-32" in openai
    assert all(open_clip.get_pretrained_cfg(name, "openai")["quick_gelu"] for name in openai)

    (tmp_path / "bare-name.json").write_text(json.dumps(TINY))  # as that of ViT-B-32, it knows no QuickGELU
    open_clip.add_model_config(tmp_path)
    model = built(quick_gelu=True)
    torch.save(model.state_dict(), tmp_path / "tagged.pt")
    tag = {"file": str(tmp_path / "tagged.pt"), "quick_gelu": True}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "bare-name", {"openai": tag})
    right = embedded(model, *OPENAI)
    torch.testing.assert_close(seen(Clip("bare-name", "openai")), right)
    with pytest.warns(UserWarning, match="QuickGELU mismatch"):
        assert not torch.allclose(seen(Clip("bare-name", "openai", quick_gelu=False)), right, atol=1e-3)


def test_mistake_13_the_reference_is_of_the_weights_that_training_starts_from(
    digits: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Clip(weights="digits").load()
    with torch.no_grad():
        for weight in start.encoder.parameters():
            weight.mul_(1.1)
    weights = saved(tmp_path / "start.safetensors", start.model)

    def errors() -> list[float]:
        """How far the phi0(x) that FARE reads is from the start's embeddings, and from those of the shipped weights."""
        read: list[Any] = []
        with monkeypatch.context() as patch:
            patch.setattr(Fare, "clean", noted(Fare.clean, lambda self, at, reference: read.append(reference.original)))
            ((_, descent),) = descents(trained(digits, cache, model__weights=weights, loss__alpha=1))
        images = descent.pixels.chunk(2)[1]
        return [float((encoder(images) - read[0]).detach().norm()) for encoder in (start.encoder, CLIP.encoder)]

    trained(digits, cache)  # leaves the embeddings of the shipped weights behind
    ours, others = errors()
    assert ours < 1e-3 < 1 < others
    recipe = small_recipe(digits, model__weights=weights, loss={"kind": "pmg_aft"})
    original = prepare(recipe, Process(cache=cache)).original_encoder
    assert original is not None
    assert original.fingerprint() == start.encoder.fingerprint() != CLIP.encoder.fingerprint()
    monkeypatch.setattr("robustcore.original.original_embeddings", mistakes.of_these_weights(CLIP.encoder))
    ours, others = errors()
    assert others < 1e-3 < 1 < ours


def test_mistake_14_accuracies_bear_the_names_of_their_attacks_and_worst_is_over_those_that_ran(
    digits: Path, cache: Path
) -> None:
    attacks = {"fgsm": {"kind": "fgsm", "ball": LINF}, "pgd20": PGD_OF_TWO | {"steps": 20}}

    def metrics(*names: str) -> dict[str, float]:
        chosen = {name: attacks[name] for name in names}
        recipe = small_recipe(digits, optim={"lr": 1e-3, "steps": 0}, evaluation__attacks=chosen)
        (progress,) = finetune(recipe, Process(cache=cache))
        return progress.metrics

    weak, both = metrics("fgsm"), metrics("fgsm", "pgd20")
    assert {name.partition("/")[0] for name in both} - {"zero_gradient"} == {"clean", "fgsm", "pgd20", "worst"}
    assert weak["worst"] == weak["fgsm"] == both["fgsm"]  # a weak attack overstates it, under its own name
    assert both["worst"] <= both["pgd20"] < weak["worst"] - 0.1


@pytest.mark.parametrize("name", ["clean", "worst", "loss", "training"])
def test_mistake_14_no_attack_takes_the_name_of_another_number(name: str, digits: Path) -> None:
    with pytest.raises(ValidationError, match=f"the name '{name}' is taken by the results"):
        small_recipe(digits, evaluation__attacks={name: PGD_OF_TWO})


def test_mistake_14_the_shipped_studies_call_attacks_what_they_are() -> None:
    studies = sorted((Path(sweeps.__file__).parent / "studies").glob("*.yaml"))
    assert studies
    for path in studies:
        study = yaml.safe_load(path.read_text())
        attacks = study["recipe"]["evaluation"]["attacks"]
        assert all(name == attack["kind"] for name, attack in attacks.items()), path.name
        assert {name.partition("/")[0] for name in study["objectives"]} <= {"clean", "worst", *attacks}, path.name


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize(("cpus", "threads"), [(0.5, 1), (1, 1), (2, 2)])
def test_mistake_15_a_trial_computes_with_as_many_threads_as_its_share_of_cpus(
    cpus: float, threads: int, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short: dict[str, Any] = {"optim": {"lr": 1e-3, "steps": 1}, "evaluation__attacks": {}}

    def used(run: Callable[[], Any]) -> set[int]:
        torch.set_num_threads(3)
        with looking() as looks:
            list(run())
        return {look.threads for look in looks}

    def of_a_trial(name: str) -> set[int]:
        assignment = Assignment(name, recipe_plain(digits, **short), str(tmp_path / name), str(tmp_path), cpus=cpus)
        return used(lambda: in_place(assignment))

    assert of_a_trial("right") == {threads}
    assert used(lambda: run_here(small_recipe(digits, **short), Demand(cpus=cpus), tmp_path)) == {threads}
    monkeypatch.setattr("trainables.worker.threads", lambda cpus: torch.get_num_threads())
    assert of_a_trial("wrong") == {3}
