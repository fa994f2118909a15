"""The front under attack again, on a real Ray: killed half-way, run again, and compared with doing it all at once."""

import io
import json
import time
from pathlib import Path

import pytest
import ray
import torch
from click.testing import CliRunner
from mlflow.tracking import MlflowClient
from rich.console import Console

from robustcore.attacks import AutoAttack, Linf
from robustcore.data import Digits
from robustcore.evaluation import Evaluation, Outcome, Suite
from robustcore.process import Process
from robustcore.recipe import recipe_from
from robustcore.storage import Folder
from robustcore.trained import load_trained
from sweeps.certify.claims import claim_of
from sweeps.certify.strength import read_strength
from sweeps.cli import main
from sweeps.driver import Sweep
from sweeps.progress import Display
from sweeps.results import Results
from sweeps.stored import launched_study
from sweeps.study import Study, load_study
from sweeps.tracking.place import tracker_of
from tests.sweeps.commands import STUDY, start, status, sweep, write_study
from tests.sweeps.faults import command
from tests.sweeps.sockets import family
from trainables.certify import measure
from trainables.checkpoints import load_checkpoint
from trainables.worker import in_place

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow 3.17 with SQLAlchemy 2.1

FIRST = "{kind: apgd, steps: 1}"
SECOND = "{kind: autoattack, version: custom, stages: [apgd_ce, square], steps: 3, queries: 20}"
BALL = {"kind": "linf", "eps": 16 / 255}
# Three trials that hardly differ, so that noise separates none of them from the front.
THREE = STUDY.replace("loss.alpha: {choice: [0, 1]}", "loss.alpha: {choice: [0, 0.1, 1]}").replace(
    "trials: 2", "trials: 3"
)


class Story:
    """A study that was run and certified, one checkpoint lost, and certified again by a process that is killed."""

    def __init__(self, folder: Path) -> None:
        self.study, self.storage = write_study(folder, THREE), folder / "runs"
        self.folder = self.storage / "tiny"
        run(load_study(str(self.study), [f"storage={self.storage}"]))
        self.first = self.without_ray()
        self.at_first = self.records()
        self.picture = (self.folder / "front.png").read_bytes()
        for file in (self.folder / "trials" / "0002" / "checkpoints").iterdir():
            file.unlink()
        self.left = self.killed(folder / "log")
        arguments = ["--storage", self.storage, "--attack", SECOND, "--format", "json"]
        self.again = sweep("certify", self.study, *arguments, code=1)
        self.printed = {trial["trial"]: trial for trial in json.loads(self.again.stdout)}

    def without_ray(self) -> str:
        """What certifying by the first attack prints, every part of it having been measured before, in this process."""
        study, folder = launched_study(Folder(str(self.folder))), Folder(str(self.folder))
        for record in self.records().values():
            for part in claim_of(study, folder, record, read_strength(FIRST, 30)).missing():
                assert measure(part) == ("", "")
        arguments = ["certify", self.study, "--storage", self.storage, "--attack", FIRST, "--samples", 30]
        done = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert not ray.is_initialized()
        return done.stdout

    def records(self):
        return Results.read(str(self.folder / "results.parquet")).records

    def files(self) -> dict[str, bytes]:
        """What the tasks wrote, by place."""
        found = sorted(self.folder.glob("certified/*/*.json"))
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in found}

    def killed(self, log: Path) -> dict[str, bytes]:
        """Certify until the first file of this attack is there, kill the command, and say what there is then."""
        before = self.files()
        process = start("certify", self.study, "--storage", self.storage, "--attack", SECOND, log=log)
        deadline = time.monotonic() + 240
        while not self.files().keys() - before.keys():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        # Ray's agents notice only after a minute, and hold nothing.
        members = [member for member in family(process.pid) if "Agent" not in command(member)]
        process.kill()
        process.wait()
        assert len(members) > 3, "Ray has servers and workers"
        while any(lives(member) for member in members):
            assert time.monotonic() < deadline, "Ray outlives the command"
            time.sleep(0.1)
        return self.files()


def run(study: Study) -> None:
    """Every trial, in this process, as a driver sees it."""
    Folder(study.storage).at(study.name).write("study.json", json.dumps(study.as_json()).encode())
    tracker, display = tracker_of(study), Display(study.name, 3, study.objectives, console=Console(file=io.StringIO()))
    tracker.start_sweep({}, study.text)
    running = Sweep(study, Results(f"{study.storage}/{study.name}/results.parquet"), 3, tracker, display)
    for assignment in iter(running.next_assignment, None):
        running.started(assignment.trial)
        for result in in_place(assignment):
            running.evaluated(assignment.trial, result)
        running.ended(assignment.trial)
    running.close()
    assert tracker.close("FINISHED", timeout=120) == ""


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def story(tmp_path_factory) -> Story:
    return Story(tmp_path_factory.mktemp("story"))


def at_once(story: Story, trial: str) -> Outcome:
    """The final weights under the second attack, all images in one go and no Ray: what a certificate must say."""
    record = story.records()[trial]
    recipe = recipe_from(record.recipe)
    saved = load_checkpoint(Folder(str(story.folder / "trials" / trial / "checkpoints")), record.recipe_hash)
    assert saved is not None
    trained = load_trained(recipe, saved.state.weights, Process())
    attack = AutoAttack(Linf(16 / 255), "custom", ("apgd_ce", "square"), steps=3, queries=20)
    evaluation = Evaluation(datasets={"digits": Digits("test")}, attacks={"pgd": attack})
    suite = Suite(evaluation, trained.classifier_of, trained.loaded.preprocessing, recipe.seed, torch.float32)
    return suite(trained.loaded.encoder, Process())


def test_each_contender_has_both_numbers_and_the_attack_is_named(story: Story) -> None:
    for record in story.at_first.values():
        assert record.certificate is not None
        assert record.certificate.samples == {"digits": 30}
        assert record.samples == {"digits": 400}
        assert record.certificate.attacks["pgd"]["steps"] == 1
        assert record.certificate.attacks["pgd"]["ball"] == BALL
        assert record.trial in story.first
    assert "pgd under apgd (1 steps)" in story.first
    assert "Certified on 30 of 400 images of digits." in story.first


def test_the_picture_is_drawn_anew(story: Story) -> None:
    assert (story.folder / "front.png").read_bytes() != story.picture


def test_what_was_killed_half_way_says_the_same_as_what_never_was(story: Story) -> None:
    for trial in ("0000", "0001"):
        certificate = story.records()[trial].certificate
        assert certificate is not None
        whole = at_once(story, trial)
        assert certificate.metrics == {name: whole.metrics[name] for name in certificate.metrics}
        assert certificate.flags.items() >= whole.flags.items()
        assert certificate.samples == {"digits": 400}


def test_what_is_there_is_not_paid_for_again(story: Story) -> None:
    assert story.left.items() <= story.files().items()
    assert len(story.left) < len(story.files())


def test_the_searched_numbers_stay_beside_the_certified_ones(story: Story) -> None:
    for trial in status(story.study, story.storage):
        assert trial["metrics"] == story.at_first[trial["trial"]].metrics
        if trial["trial"] in story.printed:
            assert trial["certificate"].items() <= story.printed[trial["trial"]]["certificate"].items()


def test_a_trial_whose_weights_are_lost_is_a_sentence_and_the_others_go_on(story: Story) -> None:
    (line,) = [line for line in story.again.stderr.splitlines() if "could not be certified" in line]
    assert line.startswith("trial 0002 could not be certified: no checkpoint that is whole in ")
    assert set(story.printed) == {"0000", "0001"}
    assert story.records()["0002"].certificate is None, "the old one is of another attack"


def test_a_number_that_falls_by_more_than_two_points_is_flagged(story: Story) -> None:
    drops = [trial["metrics"]["pgd"] - trial["certificate"]["metrics"]["pgd"] for trial in story.printed.values()]
    flags = [trial["certificate"]["flags"] for trial in story.printed.values()]
    assert ["certified_drop" in found for found in flags] == [drop > 0.02 for drop in drops]
    assert any(flags)


def test_mlflow_has_the_certified_numbers_on_the_runs_of_the_sweep(story: Story) -> None:
    client = MlflowClient(f"sqlite:///{story.storage / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert sorted(runs) == ["0000", "0001", "0002", "tiny"], "no run is there twice"
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    for trial, printed in story.printed.items():
        run, certificate = runs[trial].data, printed["certificate"]
        assert {name: run.metrics[f"certified/{name}"] for name in certificate["metrics"]} == certificate["metrics"]
        assert json.loads(run.tags["certified.attack"]) == certificate["attacks"]
        assert run.tags["certified.flagged"] == ("true" if certificate["flags"] else "false")
        assert run.tags["certified.fallen"] == (printed["fallen"] or "no")
    drawn = client.download_artifacts(runs["tiny"].info.run_id, "front.png")
    assert Path(drawn).read_bytes() == (story.folder / "front.png").read_bytes()


def test_an_attack_that_was_run_before_costs_nothing_even_where_the_weights_are_gone(story: Story) -> None:
    """Last of all: it puts the first certificates back."""
    again = story.without_ray()
    assert again == story.first
    assert {trial: record.certificate for trial, record in story.records().items()} == {
        trial: record.certificate for trial, record in story.at_first.items()
    }
