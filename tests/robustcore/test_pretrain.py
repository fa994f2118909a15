"""Training a small CLIP from labelled images: a file that loads, sentences for what is wrong, and the shipped model."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from robustcore.data import Digits, Parquet
from robustcore.models import Clip
from robustcore.models.weights import shipped
from robustcore.pretrain import DIGITS, main, measured, pretrain
from tests.support import coloured, write_digits, write_parquet

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("labelled") / "digits.parquet", 300, 60)


def test_a_file_is_written_that_loads_and_is_as_good_as_was_printed(
    labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "model.safetensors"
    options = ["--architecture", "tiny-clip-16", "--epochs", "2", "--no-mirror", "--threads", "1"]
    assert main(["--data", str(labelled), "--out", str(out), *options]) == 0
    printed = capsys.readouterr().out
    assert f"wrote {out}" in printed
    shares = measured(Clip(weights=str(out)).load(), Parquet(str(labelled), split="test"), 16 / 255, CPU)
    assert f"clean {shares['clean']:.1%}, PGD-20 at eps 16/255 {shares['pgd']:.1%}" in printed


def test_any_labelled_set_trains_a_model_that_is_far_better_than_chance(labelled: Path) -> None:
    plan = replace(DIGITS, train=Parquet(str(labelled), split="train"), batch_size=50, epochs=20, noise=0, lr=1e-3)
    assert measured(pretrain(plan, CPU), Digits("test"), 0, CPU)["clean"] > 0.3


@pytest.mark.parametrize("count", [3, 20])
def test_a_set_of_less_than_a_batch_trains_too(count: int, tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "few.parquet",
        [coloured(index) for index in range(2 * count)],
        [index % 2 for index in range(2 * count)],
        split=["train", "test"] * count,
        label_name=["even", "odd"] * count,
    )
    out = tmp_path / "out.safetensors"
    options = ["--architecture", "tiny-clip-16", "--epochs", "1", "--batch-size", "32"]
    assert main(["--data", str(path), "--out", str(out), *options]) == 0
    assert math.isfinite(Clip(weights=str(out)).load().scale)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--data", "nothing.parquet"], "error: no such file or folder: nothing.parquet\n"),
        (["--data", "{labelled}", "--test-split", "val"], "has no split 'val', expected one of: test, train\n"),
        (["--data", "{labelled}", "--label", "fine"], "has no column 'fine'"),
        (["--data", "{labelled}", "--out", "{labelled}/below/model.safetensors"], "error: "),
    ],
)
def test_what_is_wrong_is_a_sentence_and_exit_code_2_before_anything_is_trained(
    options: list[str], sentence: str, labelled: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = ["--out", str(tmp_path / "out.safetensors")]
    assert main([*out, *(option.replace("{labelled}", str(labelled)) for option in options)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert sentence in captured.err
    assert captured.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--epochs", "--batch-size", "--threads"])
def test_counts_below_one_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([option, "0"])
    assert caught.value.code == 2
    assert "expected at least 1, got 0" in capsys.readouterr().err


def test_pretraining_repeats_to_the_bit() -> None:
    plan = replace(DIGITS, epochs=1)
    one, other = (pretrain(plan, CPU).encoder.fingerprint() for _ in range(2))
    assert one == other


def test_the_shipped_model_is_right_on_clean_digits_and_wrong_on_attacked_ones() -> None:
    assert shipped("digits").exists()
    shares = measured(Clip(weights="digits").load(), Digits("test"), 16 / 255, CPU)
    assert shares["clean"] >= 0.95
    assert shares["pgd"] <= 0.15
