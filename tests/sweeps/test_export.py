"""`sweep export`: from a finished trial's checkpoint to a folder with the trial's accuracy in another library."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from mlflow.tracking import MlflowClient
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from robustcore.data import Pixels, Preprocessing
from robustcore.data.images import as_pixels
from robustcore.export import FORMATS
from robustcore.models import Clip
from robustcore.process import Process
from robustcore.recipe import recipe_from
from robustcore.storage import Folder
from sweeps.card import card
from sweeps.cli import main
from sweeps.results import Certificate, Evaluation, Results, TrialRecord
from sweeps.stored import STUDY as STUDY_FILE
from sweeps.study import load_study
from sweeps.tracking.place import tracker_of
from tests.robustcore.exports import SEEN_BY
from tests.support import recipe_plain, write_digits
from tests.sweeps.commands import STUDY, write_study
from tests.sweeps.mlflow_store import PATIENCE
from tests.sweeps.trials import trial as record_of
from trainables.worker import Assignment, reports

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow 3.17 with SQLAlchemy 2.1

CLOSED = "http://somebody:secret@127.0.0.1:9"  # nobody listens there
PROMPT = "a photo of a {}."
FINISHED = {
    "0000": {"model": {"weights": "digits", "lora": {"rank": 4, "towers": "both"}}, "loss": {"kind": "tecoa"}},
    "0001": {"text": {"optim": {"lr": 0.001, "steps": 3}}},
    "0002": {"model": {"kind": "simclr", "weights": "digits-simclr"}},
}
CERTIFICATE = Certificate(
    {"clean": 0.9, "clean/digits": 0.9, "pgd": 0.25, "pgd/digits": 0.25},
    {"pgd": {"kind": "apgd", "ball": {"kind": "linf", "eps": 16 / 255}, "steps": 100}},
    {"digits": 40},
    {"certified_drop": "it fell by far"},
)


@dataclass(frozen=True)
class Launched:
    """A study whose trials were run, without Ray."""

    path: Path
    storage: Path
    records: dict[str, TrialRecord]

    def export(self, trial: str, to: str, out: Path, *options: str) -> Result:
        """The command; an exception that is not an exit would be a bug, and is raised."""
        arguments = ["export", str(self.path), trial, "--to", to, "--out", str(out), "--storage", str(self.storage)]
        return CliRunner().invoke(main, [*arguments, *options], catch_exceptions=False)

    def save(self) -> None:
        results = Results(str(self.storage / "tiny" / "results.parquet"))
        results.records = self.records
        results.save()

    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=f"sqlite:///{self.storage}/mlflow.db")


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Launched:
    folder = tmp_path_factory.mktemp("launched")
    data = write_digits(folder / "digits.parquet", 60, 40)
    storage = folder / "runs"
    study = write_study(folder, f"{STUDY}storage: {storage}\n")
    launched = Launched(study, storage, {})
    for trial, changes in FINISHED.items():
        launched.records[trial] = run(trial, recipe_plain(data, **changes), storage)
    launched.records["0000"].certificate = CERTIFICATE
    for trial, state, reason in (("0003", "failed", "the training loss became nan"), ("0004", "running", "")):
        launched.records[trial] = TrialRecord(trial, {}, launched.records["0001"].recipe, "", 0, state, reason)
    twin = launched.records["0001"]
    copied = {"copy_of": "0001", "evaluations": twin.evaluations, "samples": twin.samples}
    launched.records["0005"] = TrialRecord("0005", {}, twin.recipe, "", 0, "finished", "the same knobs", **copied)
    launched.save()
    loaded = load_study(str(study))
    Folder(str(storage / "tiny")).write(STUDY_FILE, json.dumps(loaded.as_json()).encode())
    tracker = tracker_of(loaded)
    tracker.start_sweep({}, "")
    for record in launched.records.values():
        tracker.start_trial(record)
    assert tracker.close("FINISHED", PATIENCE) == ""
    return launched


def run(trial: str, recipe: dict[str, Any], storage: Path) -> TrialRecord:
    """The trial as a worker runs it, with the checkpoints that it leaves."""
    cache = storage / "original_embeddings"
    assignment = Assignment(trial, recipe, str(storage / "tiny" / "trials" / trial), str(cache))
    *_, last = reports(assignment, Process(cache=cache))
    evaluations = [Evaluation(last.step, last.metrics, last.seconds)]
    knobs = {"loss.alpha": 0.5}
    return TrialRecord(
        trial, knobs, recipe, "", 0, "finished", evaluations=evaluations, samples=last.samples, flags=last.flags
    )


def measured_on(record: TrialRecord) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Pixels, labels and classes of the images that the trial was measured on."""
    images = recipe_from(record.recipe).evaluation.datasets["digits"].open()
    pixels = Pixels(images, Preprocessing(16)).at(np.arange(len(images.labels)))
    return as_pixels(pixels, torch.device("cpu")), torch.from_numpy(images.labels), images.classes


def tokens(texts: list[str]) -> Tensor:
    """As the card says: UTF-8 bytes, 256, zeros."""
    rows = [[*text.encode(), 256] for text in texts]
    return torch.tensor([row + [0] * (48 - len(row)) for row in rows])


@pytest.mark.parametrize(("trial", "to"), [("0", "open_clip"), ("0000", "hf"), ("1", "open_clip"), ("0005", "hf")])
@torch.no_grad()
def test_an_export_has_exactly_the_accuracy_of_its_trial_in_the_other_library(
    trial: str, to: str, launched: Launched, tmp_path: Path
) -> None:
    assert launched.export(trial, to, tmp_path / "out").exit_code == 0
    record = launched.records[trial.zfill(4)]
    pixels, labels, classes = measured_on(record)
    seen = SEEN_BY[to](tmp_path / "out")
    assert seen.embed_text is not None
    rows = torch.nn.functional.normalize(seen.embed_text(tokens([PROMPT.format(name) for name in classes])), dim=1)
    right = (seen.embed(pixels) @ rows.T).argmax(dim=1) == labels
    assert right.float().mean().item() == pytest.approx(record.metrics["clean/digits"])
    assert 0.2 < record.metrics["clean/digits"] < 1, "nothing is compared"


def test_a_simclr_has_the_accuracy_of_its_trial_through_the_probe_beside_it(launched: Launched, tmp_path: Path) -> None:
    assert launched.export("2", "onnx", tmp_path / "out").exit_code == 0
    record, probe = launched.records["0002"], load_file(tmp_path / "out" / "probe.safetensors")
    pixels, labels, classes = measured_on(record)
    logits = SEEN_BY["onnx"](tmp_path / "out").embed(pixels) @ probe["weight"].T + probe["bias"]
    assert (logits.argmax(dim=1) == labels).float().mean().item() == pytest.approx(record.metrics["clean/digits"])
    with safe_open(tmp_path / "out" / "probe.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["classes"]) == list(classes)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "a linear probe" in text
    assert run_lines(text, tmp_path / "out").shape == (1, 64)


def run_lines(text: str, folder: Path) -> Any:
    """What the card's three lines of Python leave in ``embeddings``."""
    lines = text.partition("```python\n")[2].partition("```")[0]
    assert len(lines.splitlines()) == 3
    names: dict[str, Any] = {"image": Image.new("RGB", (40, 30), (200, 10, 90))}
    exec(lines.replace("FOLDER", str(folder)), names)  # noqa: S102  # they are ours
    return names["embeddings"]


@pytest.fixture(scope="module")
def cards(launched: Launched, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By format, the first trial's export."""
    folder = tmp_path_factory.mktemp("cards")
    for to in ("open_clip", "hf", "timm"):
        assert launched.export("0", to, folder / to).exit_code == 0
    return {to: folder / to for to in ("open_clip", "hf", "timm")}


@pytest.mark.parametrize("to", ["open_clip", "hf", "timm"])
def test_the_lines_on_the_card_load_the_export_and_embed_a_picture(to: str, cards: dict[str, Path]) -> None:
    embeddings = run_lines((cards[to] / "README.md").read_text(), cards[to])
    assert embeddings.shape == (1, 64)
    assert embeddings.isfinite().all()


def test_the_card_says_what_was_measured_with_what_and_how_surely(cards: dict[str, Path], launched: Launched) -> None:
    text = (cards["hf"] / "README.md").read_text()
    record = launched.records["0000"]
    searched, certified = text.split("## Measured again at full strength")
    pgd = record.metrics["pgd/digits"]
    assert f"PGD, linf, eps 16/255 (steps 2, stride 0.25, random_start True) | digits | 40 | {pgd:.1%} |" in searched
    assert f"| clean | none | digits | 40 | {record.metrics['clean/digits']:.1%} |" in searched
    assert "APGD, linf, eps 16/255 (steps 100) | digits | 40 | 25.0% | 14.2% to 40.2% |" in certified
    assert "`certified_drop`: it fell by far" in certified
    assert "APGD" not in searched.partition("## Measured")[2]
    for name, sentence in record.flags.items():
        assert f"`{name}`: {sentence}" in certified


def test_the_card_is_read_by_a_hub_and_holds_the_whole_recipe(cards: dict[str, Path], launched: Launched) -> None:
    text = (cards["hf"] / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["library_name"] == "transformers"
    assert front["pipeline_tag"] == "zero-shot-image-classification"
    assert front["license"] == "unknown", "the data's licence is not known"
    assert {"clip", "tecoa"} <= set(front["tags"])
    written = yaml.safe_load(text.partition("## Recipe\n\n```yaml\n")[2].partition("```")[0])
    assert recipe_from(written) == recipe_from(launched.records["0000"].recipe)
    assert "unknown — check" in text.partition("## Licences")[2]


def test_the_card_has_the_mean_over_several_sets_and_what_is_no_accuracy() -> None:
    metrics = {"clean": 0.85, "clean/one": 0.9, "clean/two": 0.8, "worst/one": 0.1, "worst/two": 0.3, "worst": 0.2}
    others = {"drift": 1.25, "recall_at_1/image_to_text/clean/captions": 0.5, "loss": 3.0}
    record = record_of(0, metrics | others, samples={"one": 100, "two": 400})
    plain = recipe_from(recipe_plain(Path("digits.parquet"))).as_json()
    text = card("tiny", record, plain, Clip(weights="digits").load(), "open_clip")
    assert "| clean | none | one | 100 | 90.0% | 82.6% to 94.5% |\n| clean | none | two | 400 | 80.0% |" in text
    assert "| clean | none | mean |  | 85.0% | 80.7% to 87.9% |" in text
    assert "\n- `drift`: 1.25\n- `recall_at_1/image_to_text/clean/captions`: 0.5\n" in text
    assert "loss`: 3" not in text


def test_a_trial_that_was_not_certified_says_so(launched: Launched, tmp_path: Path) -> None:
    launched.export("1", "open_clip", tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "Not done: no attack but those above was run" in text
    assert "The text tower was tuned before that." in text


@pytest.mark.parametrize(
    ("trial", "to", "expected"),
    [
        ("0030", "hf", "no trial '0030' in the study, expected one of its trials: 0000 to 0005; did you mean '000"),
        ("best", "hf", "no trial 'best' in the study, expected one of its trials: 0000 to 0005"),
        ("3", "hf", "trial 0003 is failed (the training loss became nan), expected a finished one"),
        ("4", "hf", "trial 0004 is running, expected a finished one"),
        ("2", "open_clip", "open_clip has no models without a text tower; expected timm or onnx for a SimCLR"),
        ("2", "hf", "the CLIP of transformers has a text tower; expected timm or onnx for a SimCLR"),
        ("2", "timm", "timm has no resnet8 with the stem 'cifar'; expected onnx for this one"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence_and_nothing_is_left(
    trial: str, to: str, expected: str, launched: Launched, tmp_path: Path
) -> None:
    result = launched.export(trial, to, tmp_path / "out")
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(expected)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_empty_stays_as_it_is(launched: Launched, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    result = launched.export("0", "hf", tmp_path)
    assert result.exit_code == 2
    assert result.stderr == f"{tmp_path} is there already, expected a new or an empty folder\n"
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_an_earlier_checkpoint_does_not_stand_in_for_a_damaged_last_one(launched: Launched, tmp_path: Path) -> None:
    folder = launched.storage / "tiny" / "trials" / "0001" / "checkpoints"
    last = folder / "step-00000004.safetensors"
    whole = last.read_bytes()
    for content, expected in ((whole[:-1], "no checkpoint after step 2 of trial 0001 is whole in "), (b"", "no ")):
        last.write_bytes(content)
        result = launched.export("1", "hf", tmp_path / "out")
        assert result.exit_code == 2
        assert result.stderr.startswith(expected)
    last.write_bytes(whole)
    assert not (tmp_path / "out").exists()


def test_mlflow_gets_the_export_as_a_logged_model_of_the_trials_run_and_registers_it_on_request(
    launched: Launched, tmp_path: Path
) -> None:
    client = launched.client()
    assert client.search_registered_models() == []
    for trial, options in (("0", ()), ("1", ("--register",)), ("1", ("--register",))):
        out = tmp_path / f"{trial}{len(list(tmp_path.iterdir()))}"
        result = launched.export(trial, "timm", out, *options)
        assert (result.exit_code, result.stderr) == (0, "")
        model_id = result.stdout.partition("models:/")[2].split()[0].strip(",")
        model = client.get_logged_model(model_id)
        run = client.get_run(str(model.source_run_id))
        assert run.info.run_name == trial.zfill(4)
        assert model_id in [output.model_id for output in run.outputs.model_outputs]
        assert (str(model.status), model.tags["sweep.format"]) == ("READY", "timm")
        stored = {path.name: path.read_bytes() for path in Path(model.artifact_location).iterdir()}
        assert stored == {path.name: path.read_bytes() for path in out.iterdir()}
        assert not any(name.endswith((".pkl", ".pickle", ".pt")) for name in stored)
    (registered,) = client.search_registered_models()
    assert registered.name == "tiny"
    versions = client.search_model_versions("name = 'tiny'")
    assert sorted(version.version for version in versions) == [1, 2]
    assert {client.get_run(version.run_id).info.run_name for version in versions} == {"0001"}
    assert str(tmp_path) not in {version.source for version in versions}


def test_where_mlflow_does_not_answer_the_export_stands_and_no_password_is_shown(
    launched: Launched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    place = launched.storage / "tiny" / STUDY_FILE
    before = place.read_text()
    plain = json.loads(before)
    plain["study"]["mlflow"] = CLOSED
    place.write_text(json.dumps(plain))
    result = launched.export("0", "timm", tmp_path / "out", "--register")
    place.write_text(before)
    assert result.exit_code == 0
    assert "warning: MLflow at http://127.0.0.1:9 does not answer" in result.stderr
    assert f"the export in {tmp_path / 'out'} stands" in result.stderr
    assert "secret" not in result.output
    assert (tmp_path / "out" / "README.md").exists()


def test_a_store_without_the_trials_run_gets_no_model(launched: Launched, tmp_path: Path) -> None:
    client = launched.client()
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], "tags.`sweep.trial` = '0000'")
    client.delete_run(run.info.run_id)
    result = launched.export("0", "timm", tmp_path / "out")
    client.restore_run(run.info.run_id)
    assert result.exit_code == 0
    assert "warning: not in MLflow: it has no run of trial 0000" in result.stderr


def test_the_command_knows_every_format() -> None:
    (option,) = [option for option in main.commands["export"].params if option.name == "to"]
    assert tuple(option.type.choices) == FORMATS  # type: ignore[attr-defined]
    assert set(SEEN_BY) == set(FORMATS)
