"""`sweep evaluate`: any encoder in one table, as a trial would have been measured; what it refuses, and what it
leaves alone.
"""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from rich.console import Console

from robustcore.data import Digits
from robustcore.evaluation import Outcome, Survival
from robustcore.evaluation.outcome import accuracies
from robustcore.intervals import wilson
from robustcore.models import Clip
from robustcore.models.architectures import ARCHITECTURES
from robustcore.models.weights import Description, save_model, shipped
from robustcore.process import Process
from robustcore.recipe import recipe_from
from sweeps.cli import main
from sweeps.evaluate.tables import text_tables
from sweeps.results import Evaluation, Results, TrialRecord
from tests.support import png, recipe_plain, write_captions, write_digits, write_parquet
from trainables.worker import Assignment, reports

WEAK = "{kind: pgd, steps: 2}"


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches go to a home of this test."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def sweep(*arguments: object) -> Result:
    """One command in this process; an exception that is not an exit would be a bug, and is raised."""
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)], catch_exceptions=False)


def measured(*arguments: object) -> list[dict[str, Any]]:
    result = sweep(*arguments, "--format", "json")
    assert result.exit_code == 0, result.output
    models: list[dict[str, Any]] = json.loads(result.stdout)["models"]
    return models


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("data") / "digits.parquet", 60, 20)


def test_models_are_measured_on_the_same_images_in_one_table(data: Path) -> None:
    arguments = ("digits", shipped("digits"), "digits-simclr", "--attack", WEAK, "--eps", "16/255", "--samples", 12)
    first, same, other = measured(*arguments)
    assert [first["model"], other["model"]] == ["digits", "digits-simclr"]
    assert first["metrics"] == same["metrics"] != other["metrics"]
    assert first["samples"] == {"digits": 12}
    assert {"clean", "PGD-2", "worst", "PGD-2/digits"} <= first["metrics"].keys()
    table = sweep(*arguments).stdout
    clean = first["metrics"]["clean"]
    bounds = wilson(clean, 12)
    assert f"{100 * clean:.1f} % {100 * bounds.low:.1f}-{100 * bounds.high:.1f}" in table.replace("\xa0", " ")
    assert "16/255" in table
    assert "worst" not in table  # of one attack it is the same again
    assert not list(Path.cwd().iterdir())


def test_nothing_is_cut_off_where_the_terminal_is_narrow() -> None:
    bits = dict.fromkeys(("clean", "PGD-20", "APGD-100", "AutoAttack"), np.ones(500, bool))
    survivals = {name: Survival(("cat", "dog"), np.arange(500) % 2, bits) for name in ("cifar10", "imagenet_sketch")}
    outcome = Outcome(accuracies(survivals), survivals, {"masked/cifar10": "gradients are masked"})
    tables = text_tables({"ViT-L-14-quickgelu:openai+fare_eps_4.pt": outcome}, "linf, eps 4/255", classes=True)
    file = io.StringIO()
    Console(file=file, width=80).print(tables)
    printed = file.getvalue()
    assert "…" not in printed
    assert printed.count("99.2-100.0") == 2 * 5  # two sets, under four attacks and the worst of them
    assert "cifar10, 500 images" in printed
    assert "gradients are masked" in printed


def test_a_trial_is_measured_as_its_last_evaluation_was(data: Path, tmp_path: Path) -> None:
    plain = recipe_plain(data, evaluation__every=4)
    folder, cache = tmp_path / "runs" / "mine", tmp_path / "cache"
    assignment = Assignment("0003", plain, str(folder / "trials" / "0003"), str(cache))
    *_, last = reports(assignment, Process(cache=cache))
    results = Results(str(folder / "results.parquet"))
    evaluations = [Evaluation(last.step, last.metrics, last.seconds)]
    records = [
        TrialRecord("0003", {}, plain, recipe_from(plain).fingerprint(), 0, "finished", evaluations=evaluations),
        TrialRecord("0004", {}, plain, "", 0, "failed", "it diverged"),
    ]
    results.records = {record.trial: record for record in records}
    results.save()
    own = ("--data", data, "--attack", "{kind: pgd, steps: 2}", "--eps", "16/255", "--storage", tmp_path / "runs")
    trained, original = measured("mine:3", "digits", *own)
    assert trained["metrics"]["clean"] == last.metrics["clean"]
    assert trained["metrics"]["PGD-2"] == last.metrics["pgd"] != original["metrics"]["PGD-2"]
    (unsaid,) = measured("mine:3", *own[2:])
    assert unsaid["samples"] == last.samples  # its own sets, and not the digits that ship
    assert unsaid["metrics"]["PGD-2"] == last.metrics["pgd"]
    assert "trial 0004 is failed (it diverged)" in refused("mine:4", *own)
    assert "trial 0004 is failed (it diverged)" in refused("mine:4", *own[2:])
    assert "no trial '9' in the study" in refused("mine:9", *own)


def test_sets_are_named_written_or_paths(data: Path) -> None:
    written = f"{{kind: parquet, path: {data}, split: train, limit: 5}}"
    (model,) = measured(
        "digits", "--data", "digits", "--data", data.parent, "--data", written, "--samples", 4, "--attack", WEAK
    )
    assert model["samples"] == {"digits": 4, data.parent.name: 4, "parquet": 4}


def test_csv_has_a_line_a_number(data: Path) -> None:
    result = sweep("digits", "--data", data, "--attack", WEAK, "--attack", "fgsm", "--format", "csv")
    lines = list(csv.DictReader(io.StringIO(result.stdout)))
    whole = {line["metric"]: line for line in lines if line["dataset"] == "digits" and not line["class"]}
    assert whole.keys() == {"clean", "PGD-2", "FGSM", "worst"}
    assert {line["class"] for line in lines} == {"", *Digits("test").open().classes}
    assert float(whole["worst"]["value"]) <= min(float(whole[name]["value"]) for name in ("PGD-2", "FGSM"))
    assert float(whole["clean"]["low"]) < float(whole["clean"]["value"]) <= float(whole["clean"]["high"])


def test_retrieval_and_drift_stand_beside_accuracy(tmp_path: Path) -> None:
    digits = Digits("test").open()
    captions = [[f"a photo of a {digits.classes[label]}."] for label in digits.labels[:6]]
    said = write_captions(tmp_path / "said.parquet", [digits.decode(index) for index in range(6)], captions)
    common = ("--data", "digits", "--samples", 3, "--attack", WEAK, "--retrieval", said, "--drift-from", "digits")
    tower = Clip(weights="digits").load().encoder.visual.state_dict()
    torch.save({name: value * 1.01 for name, value in tower.items()}, "tower.pt")
    original, moved = measured("digits", "digits+tower.pt", *common)
    assert original["metrics"]["drift"] == 0 < moved["metrics"]["drift"]
    assert original["metrics"]["drift/attacked"] > 0
    assert 0 <= original["metrics"]["recall_at_1/image_to_text/PGD-2/said"] <= 1
    assert "which it has none of" in refused("digits-simclr", "--retrieval", said)
    table = sweep("digits", *common, "--classes").stdout
    for words in ("said, image to text", "said, text to image", "R@10", "φ₀(x)", "digits by class", "seven"):
        assert words in table


def test_what_is_written_is_what_would_be_printed(tmp_path: Path) -> None:
    common = ("digits", "--samples", 4, "--attack", WEAK, "--format", "csv")
    result = sweep(*common, "--out", "numbers.csv")
    assert (result.exit_code, result.stdout) == (0, "")
    assert Path("numbers.csv").read_text() == sweep(*common).stdout
    assert [path.name for path in Path.cwd().iterdir()] == ["numbers.csv"]


def refused(*arguments: object) -> str:
    """The sentence of a request that is wrong."""
    result = sweep(*arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    return result.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nothing",), "no such model: 'nothing'; expected ARCHITECTURE:TAG"),
        (("ViT-B-32-quickgelu:openia",), "did you mean 'openai'?"),
        (("digits+missing.pt",), "no such checkpoint of an image tower: 'missing.pt'"),
        (("nowhere:3",), "no results in"),
        (("digits", "--attack", "pdg"), "did you mean 'pgd'?"),
        (("digits", "--attack", "universal"), "for training only"),
        (("digits", "--attack", "{kind: pgd, steps: no}"), "steps: expected a number"),
        (("digits", "--attack", "{kind: ["), "--attack {kind: ["),
        (("digits", "--eps", "four"), "expected a number such as"),
        (("digits", "--eps", "4"), "did you mean 4/255?"),
        (("digits", "--suite", "clip41", "--root", "."), "did you mean 'clip14'?"),
        (("digits", "--suite", "clip14"), "expected --root"),
        (("digits", "--data", "cifar10", "--root", "."), "cifar10: not found below"),
        (("digits", "--data", "missing.parquet"), "no such file or folder: missing.parquet"),
        (("digits", "--data", "{kind: folde, path: x}"), "did you mean 'folder'?"),
        (("digits", "--data", "digits", "--data", "digits"), "two data sets have the name 'digits'"),
        (("digits", "--retrieval", "missing.parquet"), "no such file or folder"),
        (("digits", "--drift-from", "nothing"), "no such model: 'nothing'"),
        (("digits", "--prompts", "no place for the class"), "expected a prompt with {}"),
        (("digits", "--out", "no/such/folder.csv"), "there is no folder no/such"),
    ],
)
def test_a_wrong_request_is_a_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    assert sentence in refused(*arguments)
    assert not list(Path.cwd().iterdir())


def test_every_missing_set_of_a_suite_is_named_with_how_to_get_it(tmp_path: Path) -> None:
    lines = refused("digits", "--suite", "clip14", "--root", tmp_path).splitlines()
    assert len(lines) == 14
    assert all("get it with" in line for line in lines)


def test_a_model_without_text_is_asked_for_images_to_probe_it_on(tmp_path: Path, data: Path) -> None:
    copy = tmp_path / "own.safetensors"
    copy.write_bytes(shipped("digits-simclr").read_bytes())
    common = (copy, "--data", data, "--attack", WEAK, "--samples", 8)
    assert "--probe says which" in refused(*common)
    few = write_parquet(tmp_path / "few.parquet", [png(Digits().open().decode(0))], [0], label_name=["zero"])
    assert "has other classes" in refused(*common, "--probe", few)
    (model,) = measured(*common, "--probe", data)
    assert model["metrics"]["clean"] > 0.5


def test_drift_from_a_model_of_another_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "larger.safetensors"
    other = Clip("tiny-clip-32").load()
    save_model(path, other.model, Description("tiny-clip-32", ARCHITECTURES["tiny-clip-32"], (0.5,) * 3, (0.5,) * 3))
    assert "takes images of 16 pixels and the original of 32" in refused("digits", "--drift-from", path)
