"""Training a small SimCLR: its loss worked out by hand, its views, a file that loads, and the shipped one."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robustcore.data import Digits, Parquet
from robustcore.models.simclr import SimClr
from robustcore.pretrain import main
from robustcore.pretrain.simclr import DIGITS_SIMCLR, measured_by_probe, nt_xent, pretrain_simclr
from robustcore.pretrain.views import Views
from tests.support import write_digits

CPU = torch.device("cpu")
GENERATOR = torch.Generator().manual_seed(0)
ONE, OTHER = torch.randn(5, 7, generator=GENERATOR), torch.randn(5, 7, generator=GENERATOR)


def test_nt_xent_of_two_orthogonal_pairs_is_worked_out_by_hand() -> None:
    """Each view has cosine 1 with its partner and 0 with the two others, and never sees itself."""
    views = torch.eye(2)
    expected = -math.log(math.exp(1 / 0.5) / (math.exp(1 / 0.5) + 2))
    assert nt_xent(views, views, 0.5).item() == pytest.approx(expected, rel=1e-6)


def test_nt_xent_is_the_sum_of_the_paper() -> None:
    views = torch.cat([ONE, OTHER]).double()
    cosine = torch.stack([nn.functional.cosine_similarity(view[None], views) for view in views]) / 0.3
    total = 0.0
    for i in range(10):
        j = (i + 5) % 10
        below = sum(math.exp(cosine[i, k]) for k in range(10) if k != i)
        total -= math.log(math.exp(cosine[i, j]) / below)
    assert nt_xent(ONE, OTHER, 0.3).item() == pytest.approx(total / 10, rel=1e-5)


def test_one_pair_alone_has_no_loss() -> None:
    assert nt_xent(ONE[:1], OTHER[:1], 0.1).item() == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (OTHER, ONE),
        (3 * ONE, 0.1 * OTHER),
        (ONE.flip(0), OTHER.flip(0)),
        (
            ONE @ torch.linalg.qr(torch.eye(7) + 0.5 * ONE.T @ OTHER).Q,
            OTHER @ torch.linalg.qr(torch.eye(7) + 0.5 * ONE.T @ OTHER).Q,
        ),
    ],
    ids=["views swapped", "lengths", "order of the images", "rotation"],
)
def test_nt_xent_does_not_change_with(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(nt_xent(one, other, 0.2), nt_xent(ONE, OTHER, 0.2))


def test_nt_xent_of_half_precision_views_is_computed_in_float32() -> None:
    halves = ONE.bfloat16(), OTHER.bfloat16()
    assert torch.equal(nt_xent(*halves, 0.2), nt_xent(halves[0].float(), halves[1].float(), 0.2))


def view(views: Views, images: Tensor, seed: int = 0) -> Tensor:
    return views(images, torch.Generator().manual_seed(seed))


IMAGES = torch.rand(8, 3, 12, 12, generator=torch.Generator().manual_seed(1))
STILL = Views(crop=1, mirror=False, jitter=0, grey=0)


def test_views_are_pixels_of_the_same_size_and_differ_from_draw_to_draw() -> None:
    views = Views(rotate=0.3, noise=0.2)
    seen = view(views, IMAGES)
    assert seen.shape == IMAGES.shape
    assert seen.min() >= 0
    assert seen.max() <= 1
    assert torch.equal(seen, view(views, IMAGES))
    assert not torch.equal(seen, view(views, IMAGES, seed=1))


def test_a_mirror_is_the_image_or_its_mirror_image() -> None:
    # With the whole area shown, only the aspect changes: the squarest crop is at most the image, so stripes stay.
    stripes = torch.linspace(0, 1, 12).expand(200, 3, 12, 12)
    seen = view(replace(STILL, mirror=True), stripes)
    rising = seen[:, 0, 6, -1] > seen[:, 0, 6, 0]
    assert 0.35 < rising.float().mean() < 0.65
    assert view(STILL, stripes)[:, 0, 6].diff(dim=1).min() >= 0


def test_a_crop_is_a_part_of_the_image_enlarged() -> None:
    stripes = torch.linspace(0, 1, 12).expand(200, 3, 12, 12)
    seen = view(replace(STILL, crop=0.2), stripes)
    reach = seen[:, 0, 6, -1] - seen[:, 0, 6, 0]
    assert (reach > 0.2).all()
    assert reach.min() < 0.5


def test_a_grey_view_has_three_equal_channels_and_noise_has_its_deviation() -> None:
    seen = view(replace(STILL, grey=1), IMAGES)
    torch.testing.assert_close(seen[:, 0], seen[:, 2])
    flat = torch.full((20, 3, 12, 12), 0.5)
    assert view(replace(STILL, noise=0.1), flat).std().item() == pytest.approx(0.1, rel=0.05)
    torch.testing.assert_close(view(STILL, flat), flat)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("labelled") / "digits.parquet", 120, 40)


def test_a_file_is_written_that_loads_and_is_as_good_as_was_printed(
    labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "model.safetensors"
    options = ["--architecture", "resnet8", "--image-size", "16", "--epochs", "2", "--batch-size", "40"]
    options += ["--no-mirror", "--threads", "1"]
    assert main(["--objective", "simclr", "--data", str(labelled), "--out", str(out), *options]) == 0
    printed = capsys.readouterr().out
    assert f"wrote {out}" in printed
    train, test = (Parquet(str(labelled), split=split) for split in ("train", "test"))
    loaded = SimClr(weights=str(out)).load()
    assert loaded.preprocessing.size == 16
    shares = measured_by_probe(loaded, train, test, 16 / 255, CPU)
    assert f"clean {shares['clean']:.1%}, PGD-20 at eps 16/255 {shares['pgd']:.1%}" in printed


def test_pretraining_repeats_to_the_bit_and_leaves_an_encoder_in_eval_mode() -> None:
    plan = replace(DIGITS_SIMCLR, epochs=1)
    one, other = (pretrain_simclr(plan, CPU) for _ in range(2))
    assert one.encoder.fingerprint() == other.encoder.fingerprint()
    assert not any(module.training for module in one.encoder.modules())
    counter = one.encoder.state_dict()["visual.bn1.num_batches_tracked"]
    assert int(counter) == 1397 // plan.batch_size


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--data", "nothing.parquet"], "error: no such file or folder: nothing.parquet\n"),
        (["--data", "{labelled}", "--architecture", "tiny-clip-16"], "is not of --objective simclr"),
        (
            ["--data", "{labelled}", "--architecture", "resnet14", "--stem", "imagenet"],
            "resnet14 has the stem 'cifar' alone, got 'imagenet'",
        ),
        (["--objective", "clip", "--data", "{labelled}", "--architecture", "resnet8"], "is not of --objective clip"),
        (["--objective", "clip", "--data", "{labelled}", "--stem", "cifar"], "--stem is of --objective simclr"),
    ],
)
def test_what_is_wrong_is_a_sentence_and_exit_code_2_before_anything_is_trained(
    options: list[str], sentence: str, labelled: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = ["--out", str(tmp_path / "out.safetensors")]
    filled = [option.replace("{labelled}", str(labelled)) for option in options]
    assert main(["--objective", "simclr", *out, *filled]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert sentence in captured.err
    assert captured.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_shipped_model_is_right_on_clean_digits_and_wrong_on_attacked_ones() -> None:
    loaded = SimClr(weights="digits-simclr").load()
    shares = measured_by_probe(loaded, Digits("train"), Digits("test"), 16 / 255, CPU)
    assert shares["clean"] >= 0.95
    assert shares["pgd"] <= 0.2
