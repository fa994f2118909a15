"""Every shipped study: `check` passes, and the trials of those on the embedded digits run to their end."""

from pathlib import Path

import pytest
import torch

from robustcore.models.resnets import resnet
from robustcore.process import Process
from sweeps.check import check_study
from sweeps.source import read_source, shipped_studies
from sweeps.study import load_study
from tests.support import write_digits
from tests.sweeps.sessions import session
from trainables.resources import this_machine
from trainables.worker import results

FULL_SIZE = [study for study in shipped_studies() if study.endswith("_imagenet")]
EMBEDDED = [study for study in shipped_studies() if study not in (*FULL_SIZE, "cifar10_alpha")]
# As little work as has every part in it: two steps, one evaluation, one step of its attack.
TINY = {
    "optim.steps": 2,
    "optim.warmup": 0,
    "evaluation.every": 2,
    "evaluation.attacks.pgd.steps": 1,
    "attack.steps": 1,
    "data.batch_size": 16,
    "search.sampler": "random",
    "search.trials": 2,
}
TEXT = {"text.optim.steps": 2, "text.optim.warmup": 0}


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Images and weights of the right form, for the studies whose own are not here."""
    folder = tmp_path_factory.mktemp("stand-ins")
    images = write_digits(folder / "images.parquet", 400, 20)
    weights = folder / "simclr.pth"
    tensors = resnet("resnet50", "imagenet").state_dict()
    torch.save({"state_dict": {f"backbone.{name}": value for name, value in tensors.items()}}, weights)
    return {"images": images, "weights": weights}


def test_the_studies_of_the_field_are_there_each_with_its_full_size() -> None:
    assert [
        *("alpha_study", "epsilon_study", "joint_front", "lora_rank", "simclip_vs_fare", "simclr_alpha"),
        "tima_margins",
    ] == EMBEDDED
    assert [f"{study}_imagenet" for study in EMBEDDED] == FULL_SIZE


@pytest.mark.parametrize("study", shipped_studies())
def test_a_study_begins_with_its_question(study: str) -> None:
    comment = read_source(study).text.split("name:")[0]
    assert comment.startswith("# ")
    assert "?" in comment.split(". ")[0]


@pytest.mark.parametrize("study", EMBEDDED)
def test_a_study_of_the_embedded_digits_passes_its_check_as_it_stands(study: str) -> None:
    checked, problems, notes = check_study(study, nodes=[this_machine()])
    assert (problems, notes) == ([], [])
    assert checked is not None
    assert checked.num_trials() >= 10


@pytest.mark.parametrize("study", FULL_SIZE)
def test_a_full_size_study_passes_its_check_with_images_and_weights_given(
    study: str, stand_ins: dict[str, Path]
) -> None:
    given: dict[str, object] = {
        "data.train.path": stand_ins["images"],
        "evaluation.datasets.imagenet.path": stand_ins["images"],
        "evaluation.datasets.imagenet.split": "test",
    }
    if study == "simclr_alpha_imagenet":
        given["model.weights"] = stand_ins["weights"]
    checked, problems, notes = check_study(
        study, [f"{path}={value}" for path, value in given.items()], [this_machine()]
    )
    assert problems == []
    assert checked is not None
    assert checked.recipe.optim.steps >= 5000
    assert ("downloaded by the first trial" in " ".join(notes)) == (study != "simclr_alpha_imagenet")


@pytest.mark.parametrize("study", EMBEDDED)
def test_two_tiny_trials_of_a_study_of_the_embedded_digits_finish(study: str, tmp_path: Path) -> None:
    text = TEXT if "\n  text:" in read_source(study).text else {}
    settings = [f"{path}={value}" for path, value in (TINY | text | {"storage": tmp_path}).items()]
    only = session(load_study(study, settings))
    for assignment in iter(only.sweep.next_assignment, None):
        only.sweep.started(assignment.trial)
        for result in results(assignment, Process(cache=Path(assignment.cache))):
            assert only.sweep.goes_on(assignment.trial, result)
            only.sweep.evaluated(assignment.trial, result)
        only.sweep.ended(assignment.trial)
    only.sweep.close()
    assert [(record.state, record.reason) for record in only.on_disk.values()] == [("finished", "")] * 2
    for record in only.on_disk.values():
        assert {"clean", "pgd", "worst", "loss", "zero_gradient/pgd"} <= record.metrics.keys()
