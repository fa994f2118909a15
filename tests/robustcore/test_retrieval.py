"""Retrieval against a brute-force reference, and under attack; captions several images share, and encoders that see
nothing.
"""

import math
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from robustcore.attacks import APGD, FGSM, L2, PGD, Linf
from robustcore.data import Digits, ParquetCaptions
from robustcore.evaluation import Evaluation, Suite
from robustcore.evaluation.retrieval import CaptionsAsClasses, multi_positive_cross_entropy
from robustcore.finetune import finetune
from robustcore.models import Clip, Encoder
from robustcore.original import zero_shot_by
from robustcore.process import Process
from tests.support import small_recipe, write_captions

CLIP = Clip(weights="digits").load()
WORDS = Digits("test").open().classes
NUM_IMAGES = 12


def captions() -> list[list[str]]:
    """One to three an image; two images share one."""
    digits = Digits("test").open()
    named = [WORDS[label] for label in digits.labels[:NUM_IMAGES]]
    said = [
        [f"a photo of a {name}.", f"{name}, number {i}", f"{i} {name}"][: 1 + i % 3] for i, name in enumerate(named)
    ]
    return [*said[:-1], [said[0][0], "the last one"]]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ParquetCaptions:
    digits = Digits("test").open()
    images = [digits.decode(index) for index in range(NUM_IMAGES)]
    return ParquetCaptions(str(write_captions(tmp_path_factory.mktemp("set") / "said.parquet", images, captions())))


def measured(
    source: ParquetCaptions, attacks: dict[str, Any], encoder: nn.Module = CLIP.encoder, **options: Any
) -> Any:
    evaluation = Evaluation(attacks=attacks, retrieval={"said": source}, **options)
    suite = Suite(evaluation, zero_shot_by(CLIP.text), CLIP.preprocessing, 0, torch.float32)
    found = suite(encoder, Process()).metrics  # type: ignore[arg-type]
    assert {*found, "loss"} == set(evaluation.metrics())
    return found


def brute_force(images: Tensor, source: ParquetCaptions) -> dict[str, float]:
    """Sorts everything, and looks for what belongs together among the first K."""
    said = source.open().captions
    texts = list(chain.from_iterable(said))
    rows = F.normalize(CLIP.model.encode_text(CLIP.tokenize(texts)).float(), dim=1)
    cosines = F.normalize(images, dim=1) @ rows.T
    found = {}
    for k in (1, 5, 10):
        firsts = [[texts[j] for j in cosines[i].argsort(descending=True)[:k]] for i in range(len(said))]
        found[f"image_to_text/{k}"] = sum(bool({*first} & {*own}) for first, own in zip(firsts, said, strict=True))
        order = [cosines[:, j].argsort(descending=True)[:k] for j in range(len(texts))]
        found[f"text_to_image/{k}"] = sum(
            any(text in said[i] for i in first) for text, first in zip(texts, order, strict=True)
        )
    return {
        f"recall_at_{key.split('/')[1]}/{key.split('/')[0]}/clean/said": hits
        / (len(said) if key.startswith("image") else len(texts))
        for key, hits in found.items()
    }


def test_clean_recall_is_that_of_a_brute_force_reference(source: ParquetCaptions) -> None:
    images = source.open()
    pixels = torch.stack(
        [torch.tensor(CLIP.preprocessing(images.decode(i))).permute(2, 0, 1) / 255 for i in range(NUM_IMAGES)]
    )
    with torch.no_grad():
        expected = brute_force(CLIP.encoder(pixels), source)
    found = measured(source, {})
    assert found == pytest.approx(expected)
    assert 0 < found["recall_at_1/image_to_text/clean/said"] < 1


ATTACKS: dict[str, Any] = {
    "fgsm": FGSM(Linf(8 / 255)),
    "pgd": PGD(Linf(32 / 255), steps=5),
    "apgd": APGD(L2(2), steps=4, climb="cross_entropy"),
}


@pytest.fixture(scope="module")
def attacked(source: ParquetCaptions) -> dict[str, float]:
    return measured(source, ATTACKS)


def test_an_attack_never_helps_and_a_strong_one_hurts(attacked: dict[str, float]) -> None:
    for name, value in attacked.items():
        recall, direction, attack, _ = name.split("/")
        assert value <= attacked[f"{recall}/{direction}/clean/said"]
        if attack == "pgd" and recall == "recall_at_1":
            assert value < attacked[f"{recall}/{direction}/clean/said"]


def test_more_candidates_find_more(attacked: dict[str, float]) -> None:
    for direction in ("image_to_text", "text_to_image"):
        for attack in ("clean", *ATTACKS):
            shares = [attacked[f"recall_at_{k}/{direction}/{attack}/said"] for k in (1, 5, 10)]
            assert shares == sorted(shares)


@pytest.mark.parametrize("options", [{"batch_size": 5}, {"resolution": "native"}], ids=["batches", "native"])
def test_numbers_do_not_depend_on_batches_or_on_a_resize_that_does_nothing(
    attacked: dict[str, float], source: ParquetCaptions, options: Any
) -> None:
    assert measured(source, {"pgd": ATTACKS["pgd"]}, **options).items() <= attacked.items()


class Blind(nn.Module):
    """Embeds every image alike."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(1, 2, 3))[:, None] * 0 + self.value.expand(len(images), 64)


@pytest.mark.parametrize("value", [1.0, math.nan])
def test_an_encoder_that_sees_no_difference_finds_no_image(source: ParquetCaptions, value: float) -> None:
    """Where all are equally near, the right one is not among the first."""
    found = measured(source, {}, Encoder(Blind(value), (0,) * 3, (1,) * 3))
    assert found["recall_at_10/text_to_image/clean/said"] == 0


def test_what_is_climbed_is_cross_entropy_where_an_image_has_one_caption() -> None:
    logits = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)) * 30
    own = torch.eye(6, dtype=torch.bool)[:4]
    expected = F.cross_entropy(logits, torch.arange(4), reduction="none")
    assert torch.allclose(multi_positive_cross_entropy(logits, own), expected)


def test_what_is_climbed_is_minus_the_logarithm_of_the_mass_on_all_its_captions() -> None:
    logits = torch.tensor([[1.0, 2, 3, 4]], requires_grad=True)
    own = torch.tensor([[True, False, True, False]])
    loss = multi_positive_cross_entropy(logits, own)
    share = logits.softmax(dim=1)[own].sum()
    assert torch.allclose(loss, -share.log())
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert torch.isfinite(gradient).all()
    assert (gradient < 0).tolist() == own.tolist()


def test_a_caption_that_two_images_share_is_right_for_both(source: ParquetCaptions) -> None:
    images = CaptionsAsClasses(source.open())
    expected = [[text in own for text in images.classes] for own in source.open().captions]
    assert images.own().tolist() == expected
    assert images.own().sum() > len(images.classes)


def test_attacks_on_a_single_label_are_left_out_of_retrieval() -> None:
    evaluation = Evaluation(
        attacks={"dlr": PGD(Linf(0.1), climb="dlr"), "pgd": PGD(Linf(0.1))}, retrieval={"said": ParquetCaptions("said")}
    )
    assert {name.split("/")[2] for name in evaluation.metrics() if name != "loss"} == {"clean", "pgd"}


def test_a_run_reports_retrieval_beside_accuracy(digits: Path, source: ParquetCaptions) -> None:
    said = {"kind": "captions", "path": source.path}
    changes: dict[str, Any] = {"evaluation__retrieval": {"said": said}, "optim__steps": 1}
    recipe = small_recipe(digits, **changes)
    (progress,) = finetune(recipe)
    assert set(progress.metrics) == set(recipe.metrics())
    assert 0 <= progress.metrics["recall_at_5/text_to_image/pgd/said"] <= 1


def test_an_encoder_without_text_retrieves_nothing(digits: Path) -> None:
    said = {"kind": "captions", "path": "said.parquet"}
    with pytest.raises(ValidationError, match="which a SimCLR encoder has none of"):
        small_recipe(digits, model={"kind": "simclr", "weights": "digits-simclr"}, evaluation__retrieval={"said": said})


def test_a_trial_needs_a_data_set_to_be_judged_by(digits: Path, source: ParquetCaptions) -> None:
    said = {"kind": "captions", "path": source.path}
    with pytest.raises(ValidationError, match="expected at least one data set"):
        small_recipe(digits, evaluation__datasets={}, evaluation__retrieval={"said": said})
