"""``check``: what a study names is opened, every mistake is found at once, and nothing is left behind."""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from robustcore.recipe import recipe_from
from sweeps import check
from sweeps.check import check_study
from sweeps.check.plan import plan, plan_text
from sweeps.check.probe import why_not_writable
from sweeps.study import Study, load_study
from tests.robustcore.layouts import in_folders
from tests.robustcore.test_webdataset import write_tar
from tests.sweeps.questions import line_of, written
from trainables.resources import Node

DIGITS = "train: {kind: digits}"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "question.yaml"


def png(seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (16, 16, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def parquet(path: Path, images: Sequence[bytes | None], labels: Sequence[Any]) -> None:
    schema = {"class_names": '["a", "b"]'}
    kind = pa.int64() if all(isinstance(label, int) for label in labels) else pa.string()
    table = pa.table({"image": pa.array(images, pa.binary()), "label": pa.array(labels, kind)})
    table = table.replace_schema_metadata(schema)
    pq.write_table(table, path, row_group_size=16)


def problems(study: str, *settings: str, nodes: Sequence[Node] | None = None) -> list[str]:
    _, found, _ = check_study(study, settings, nodes)
    return [str(problem).replace(f"{Path(study).parent}/", "") for problem in found]


def with_train(path: Path, train: str) -> str:
    return written(path, (DIGITS, f"train: {train}"))


def test_a_sound_study_passes_and_leaves_nothing_behind(path: Path) -> None:
    study, found, notes = check_study(written(path), nodes=[Node(2, 0)])
    assert isinstance(study, Study)
    assert (found, notes) == ([], [])
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_what_cannot_be_read_at_all_is_a_problem_and_no_exception() -> None:
    study, (problem,), _ = check_study("no/such.yaml")
    assert study is None
    assert str(problem).startswith("no/such.yaml: no such file")


SETS = {
    "missing": (None, "recipe.data.train.path", "no such file or folder: "),
    "not parquet": (lambda p: p.write_bytes(b"hello"), "recipe.data.train.path", "is not a readable Parquet file"),
    "cut short": (
        lambda p: (parquet(p, [png()] * 40, [0, 1] * 20), p.write_bytes(p.read_bytes()[:-50])),
        "recipe.data.train.path",
        "is not a readable Parquet file",
    ),
    "empty": (
        lambda p: parquet(p, [], []),
        "recipe.data.train",
        "has no images",
    ),
    "another column": (
        lambda p: pq.write_table(pa.table({"picture": [png()], "label": [0]}), p),
        "recipe.data.train.image",
        "has no column 'image', expected one with the images; its columns are picture, label",
    ),
    "labels as text": (
        lambda p: parquet(p, [png()] * 40, ["a"] * 40),
        "recipe.data.train.label",
        "column 'label' holds string, expected integers",
    ),
    "label outside": (
        lambda p: parquet(p, [png()] * 40, [0, 1] * 19 + [1, 7]),
        "recipe.data.train.label",
        "image 39 has label 7, expected one of the 2 classes 0 to 1",
    ),
    "corrupt images": (
        lambda p: parquet(p, [png()] * 20 + [b"no image", None, png()[:60]] + [png()] * 20, [0] * 43),
        "recipe.data.train.path",
        "row 20: cannot decode the image in column 'image'",
    ),
    "smaller than a batch": (
        lambda p: parquet(p, [png()] * 31, [0] * 31),
        "recipe.data.batch_size",
        "expected at most 31, the number of training images",
    ),
}


@pytest.mark.parametrize("name", SETS)
def test_a_training_set_that_will_not_do_is_found(name: str, path: Path) -> None:
    make, key, expected = SETS[name]
    if make is not None:
        make(path.with_name("set.parquet"))
    found = problems(with_train(path, "{kind: parquet, path: set.parquet}"))
    assert re.match(rf"question.yaml:\d+: {key}", found[0])
    assert expected in found[0]
    assert all("batch_size" in other for other in found[1:])


def test_corrupt_images_are_one_problem_that_counts_them(path: Path) -> None:
    make, _, _ = SETS["corrupt images"]
    assert make is not None
    make(path.with_name("set.parquet"))
    (problem,) = problems(with_train(path, "{kind: parquet, path: set.parquet}"))
    assert problem.endswith("(and 2 more images of this set)")


def test_of_a_large_set_an_even_sample_is_decoded_and_a_note_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "MAX_DECODED", 10)
    parquet(path.with_name("set.parquet"), [png()] * 99 + [b"the last"], [0] * 100)
    _, (problem,), notes = check_study(with_train(path, "{kind: parquet, path: set.parquet}"))
    assert "row 99" in problem.message
    assert notes[0].endswith("set.parquet: 10 of its 100 images were decoded, an even sample")


def test_a_folder_with_a_damaged_image_names_the_file(path: Path) -> None:
    for name in ("a/1.png", "b/1.png", "b/2.png"):
        file = path.parent / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png() if name != "b/1.png" else b"oops")
    found = problems(with_train(path, "{kind: folder, path: images}"), "data.batch_size=2")
    assert len(found) == 1
    assert "images/b/1.png: cannot decode the image" in found[0]


@pytest.mark.parametrize(
    ("model", "key", "expected"),
    [
        (
            "{architecture: tiny-clip-17}",
            "architecture",
            "unknown architecture 'tiny-clip-17'; did you mean 'tiny-clip-16'?",
        ),
        ("{architecture: ViT-B-23}", "architecture", "did you mean 'ViT-B-32'?"),
        ("{architecture: ViT-B-32, weights: opneai}", "weights", "neither a file nor a tag; did you mean 'openai'?"),
        ("{weights: nowhere.safetensors}", "weights", "no such weights"),
        ("{weights: question.yaml, architecture: tiny-clip-16}", "weights", "is not a readable checkpoint"),
        ("{weights: bad.safetensors}", "weights", "is not a readable safetensors file"),
    ],
)
def test_a_model_that_is_not_there_is_found(model: str, key: str, expected: str, path: Path) -> None:
    path.with_name("bad.safetensors").write_bytes(b"nothing of the kind")
    (problem,) = problems(written(path, ("{kind: clip, architecture: tiny-clip-16}", model)))
    assert problem.startswith(f"question.yaml:2: recipe.model.{key}: ")
    assert expected in problem


def test_a_tag_is_looked_up_and_not_downloaded(path: Path) -> None:
    model = "{architecture: ViT-B-32-quickgelu, weights: openai}"
    study, found, notes = check_study(written(path, ("{kind: clip, architecture: tiny-clip-16}", model)))
    assert study is not None
    assert found == []
    assert notes == ["the weights 'openai' of ViT-B-32-quickgelu are downloaded by the first trial"]


def test_components_that_only_a_knob_names_are_opened_too(path: Path) -> None:
    knobs = "model.architecture: {choice: [tiny-clip-16, tiny-clip-61]}"
    (problem,) = problems(written(path, ("loss.alpha: {uniform: [0, 1]}", knobs)))
    assert "knobs.model.architecture: at 'tiny-clip-61': unknown architecture" in problem


def test_the_largest_batch_of_a_knob_must_fit(path: Path) -> None:
    knobs = "data.batch_size: {choice: [16, 4096]}"
    (problem,) = problems(written(path, ("loss.alpha: {uniform: [0, 1]}", knobs)))
    assert "knobs.data.batch_size: expected at most 1397" in problem
    assert problem.endswith("got 4096")


@pytest.mark.parametrize(
    ("resources", "nodes", "expected"),
    [
        ("{cpus: 3}", [Node(2, 0)], "resources.cpus: a trial needs 3 CPUs, expected no more than this machine has: 2"),
        (
            "{workers: 2, cpus: 2}",
            [Node(3, 0)],
            "a trial needs 2 x 2 = 4 CPUs, expected no more than this machine has: 3",
        ),
        ("{gpus: 1}", [Node(2, 0)], "resources.gpus: a trial needs 1 GPUs"),
        (
            "{workers: 3, gpus: 2}",
            [Node(8, 2), Node(8, 2)],
            "3 x 2 = 6 GPUs, expected no more than the 2 machines have: 4",
        ),
        ("{cpus: 3}", None, ""),
        ("{workers: 2, cpus: 2}", [Node(2, 0), Node(2, 0)], ""),
    ],
)
def test_more_than_the_machines_can_ever_give_is_found(
    resources: str, nodes: list[Node] | None, expected: str, path: Path
) -> None:
    found = problems(written(path, ("{workers: 2}", resources)), nodes=nodes)
    assert len(found) == bool(expected)
    assert expected in "".join(found)


def test_every_kind_of_source_says_what_is_wrong_at_its_own_key(path: Path) -> None:
    """A corrupt image, a shard that is cut off, a set that is missing, and one that does not exist."""
    root = path.parent
    in_folders(root / "eurosat" / "2750", ["Forest", "River"])
    (root / "eurosat" / "2750" / "River" / "image_0002.jpg").write_bytes(b"nothing")
    shard = write_tar(root / "a.tar", {"a.png": png(), "a.cls": b"0"})
    shard.write_bytes(shard.read_bytes()[:700])
    sources = (
        "a: {kind: torchvision, dataset: EuroSAT, root: .}",
        "b: {kind: webdataset, path: a.tar, classes: [a, b]}",
        "c: {kind: huggingface, path: nothing}",
        "d: {kind: torchvision, dataset: DTD, root: .}",
        "e: {kind: torchvision, dataset: STL-10, root: .}",
    )
    found = problems(written(path, ("digits: {kind: digits, split: test}", "\n      ".join(sources))))
    places = [re.sub(r"^.*?datasets\.", "", problem).partition(": ")[0] for problem in found]
    assert places == ["a.root", "b.path", "c.path", "d.root", "e.dataset"], found
    for problem, sentence in zip(
        found,
        ("image_0002.jpg: cannot", "a.tar is not a whole", "no such folder", "DTD is not in", "did you mean 'STL10'?"),
        strict=True,
    ):
        assert sentence in problem


def test_every_missing_set_of_a_suite_is_named_with_how_to_get_it(path: Path) -> None:
    suite = "    suite: {name: clip14, root: sets, only: [pets, dtd]}"
    retrieval = "    retrieval: {said: {path: said.parquet}}"
    changes = (
        ("    datasets", f"{suite}\n{retrieval}\n    datasets"),
        ("{clean: max, ", "{clean/pets: max, drift: min, "),
    )
    study = written(path, *changes)
    found = problems(study)
    assert [problem.split(": ")[1] for problem in found if "objectives" in problem] == ["objectives.drift"]
    said = "\n".join(found)
    assert all(f"{name}: no such folder" in said and "get it with" in said for name in ("pets", "dtd"))
    assert "recipe.evaluation.retrieval.said.path: no such file or folder" in said


def test_all_kinds_of_mistakes_are_found_at_once(path: Path) -> None:
    path.with_name("file").touch()
    study = written(
        path,
        ("architecture: tiny-clip-16", "architecture: tiny-clip-61"),
        (DIGITS, "train: {kind: parquet, path: nowhere.parquet}"),
        ("steps: 2\n", "stepz: 2\n"),
        ("loss.alpha: {uniform: [0, 1]}", "loss.alpha: {uniform: [-1, 1]}"),
        ("pgd: max", "pdg: max"),
        ("{workers: 2}", "{workers: 2, gpus: 4}"),
        ("storage: runs", "storage: file/runs"),
    )
    found = problems(study, nodes=[Node(2, 0)])
    keys = ["model.architecture", "data.train.path", "attack.stepz"]
    assert [problem.split(": ")[1] for problem in found] == [
        *(f"recipe.{key}" for key in keys),
        "knobs.loss.alpha",
        "objectives.pdg",
        "resources.gpus",
        "storage",
    ]
    text = path.read_text()
    words = ["tiny-clip-61", "nowhere", "stepz", "loss.alpha", "pdg", "gpus", "storage"]
    assert [int(problem.split(":")[1]) for problem in found] == [line_of(word, text) for word in words]


def test_a_writable_place_is_writable_and_untouched(tmp_path: Path) -> None:
    for storage in (str(tmp_path), str(tmp_path / "a" / "b"), tmp_path.as_uri(), "mock:///bucket/x"):
        assert why_not_writable(storage) == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("storage", "expected"),
    [
        ("/proc/nowhere", "cannot write to /proc/nowhere"),
        ("/dev/null/x", "got the file /dev/null"),
        ("file:///dev/null/x", "got the file /dev/null"),
        ("ftp://user:secret@host/x", "expected a folder or an address such as s3://"),
    ],
)
def test_a_place_that_cannot_be_written_says_why(storage: str, expected: str) -> None:
    reason = why_not_writable(storage)
    assert expected in reason
    assert "secret" not in reason


def test_the_plan_counts_what_the_recipes_own_numbers_say(path: Path) -> None:
    study = load_study(written(path, ("loss.alpha: {uniform: [0, 1]}", "attack.steps: {integer: [3, 7]}")))
    described = plan(study, [Node(8, 0)])
    for end, steps in (("least", 3), ("most", 7)):
        recipe = recipe_from(study.recipe_at({"attack.steps": steps}))
        cost = {name: ends[end] for name, ends in described["cost"].items()}
        assert cost["attack_steps_of_training"] == recipe.gradients() == 20 * 32 * steps
        assert cost["attack_steps_of_evaluation"] == 2 * 400 * recipe.evaluation.gradients()
        assert cost["attack_steps"] == cost["attack_steps_of_training"] + cost["attack_steps_of_evaluation"]
    assert described["trials"] == 4
    assert described["at_once"] == 4


def test_the_plan_reads_as_the_study_was_written(path: Path) -> None:
    text = plan_text(plan(load_study(written(path), ["loss.alpha=1/2", "storage=s3://bucket/x"])))
    for words in ("eps: 4/255", "alpha: 0.5", "pinned: [loss.alpha]", "lr: 0.001", "at_once: as many as fit"):
        assert words in text


def test_the_plan_says_how_many_repeats_there_may_be(path: Path) -> None:
    repeated = plan(load_study(written(path), ["search.seeds=3"]))
    assert repeated["repeats_at_most"] == 2 * repeated["trials"]
    assert f"up to {2 * repeated['trials']} repeats with other seeds" in plan_text(repeated)
    assert "repeat" not in plan_text(plan(load_study(written(path))))
