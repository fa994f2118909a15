"""One small sweep on a real Ray with a real MLflow store, and everything that must be true of it afterwards."""

import csv
import io
import json
import math
import subprocess

import pyarrow.parquet as pq
import pytest
from mlflow.tracking import MlflowClient

from robustcore.finetune import finetune
from robustcore.recipe import recipe_from
from robustcore.storage import Folder
from sweeps.conclusion import conclude
from sweeps.insight.rerun import rerun
from sweeps.launch import Outcome
from sweeps.lock import locked
from sweeps.study import load_study
from sweeps.tracking.place import tracker_of
from tests.chaos import Chaos, drawn, facts
from tests.sweeps import faults
from tests.sweeps.commands import STUDY, answer, status, sweep, write_study
from tests.sweeps.sessions import session
from tests.sweeps.sockets import listening

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow 3.17 with SQLAlchemy 2.1

# Eight questions to four different recipes: two of them diverge, and some are asked twice. The best get two seeds.
DIVERGING = STUDY.replace("sampler: grid, trials: 2", "sampler: random, trials: 8, seed: 1, seeds: 2").replace(
    "loss.alpha: {choice: [0, 1]}", "loss.alpha: {choice: [0, 1]}\n  optim.lr: {choice: [1e-3, 1e30]}"
)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The study, its storage and the command's outcome."""
    folder = tmp_path_factory.mktemp("swept")
    study = write_study(folder, DIVERGING)
    certify = ["--certify", "--attack", "{kind: apgd, steps: 1}", "--samples", 20]
    return study, folder / "runs", sweep("launch", study, "--storage", folder / "runs", *certify, code=1)


@pytest.fixture(scope="module")
def trials(swept):
    return status(*swept[:2])


def asked(trials):
    return [trial for trial in trials if "repeat_of" not in trial]


def runs(storage):
    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    found = client.search_runs([experiment.experiment_id])
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    children = {run.info.run_name: run for run in found if "mlflow.parentRunId" in run.data.tags}
    assert len(parents) + len(children) == len(found), "a trial has two runs"
    return client, parents, children


def test_every_trial_ends_although_some_of_them_diverge(trials):
    assert len(asked(trials)) == 8
    assert {trial["state"] for trial in trials} == {"finished", "failed"}
    for trial in trials:
        assert (trial["state"] == "failed") == (trial["knobs"]["optim.lr"] == 1e30)


def test_a_diverged_trial_says_in_one_sentence_why(trials):
    reasons = [trial["reason"] for trial in trials if trial["state"] == "failed"]
    assert all("loss became" in reason and "optim.lr" in reason for reason in reasons)


def test_a_launch_that_certifies_ends_with_certificates_of_the_front(swept, trials):
    members = json.loads(answer("front", swept[0], "--storage", swept[1], "--format", "json").stdout)
    certified = {trial["trial"]: trial["certificate"] for trial in trials if "certificate" in trial}
    assert {member["trial"] for member in members} <= set(certified)
    for certificate in certified.values():
        assert certificate["samples"] == {"digits": 20}
        assert certificate["attacks"]["pgd"]["kind"] == "apgd"
    assert "pgd under apgd (1 steps)" in swept[2].stdout


def test_the_same_knobs_are_not_paid_for_twice(trials):
    copies = [trial for trial in trials if trial.get("copy_of")]
    assert copies
    by_name = {trial["trial"]: trial for trial in trials}
    for copy in copies:
        source = by_name[copy["copy_of"]]
        assert copy["knobs"] == source["knobs"]
        assert copy["metrics"] == source["metrics"]
        assert f"trial {source['trial']}" in copy["reason"]
    finished = {json.dumps(trial["knobs"]) for trial in trials if trial["state"] == "finished"}
    assert sum(t["state"] == "finished" and not t.get("copy_of") for t in asked(trials)) == len(finished)


def test_metrics_are_those_of_the_same_recipe_run_alone(swept, trials):
    trial = next(trial for trial in trials if trial["state"] == "finished" and not trial.get("copy_of"))
    recipe = recipe_from(load_study(str(swept[0])).recipe_at(trial["knobs"]))
    *_, last = finetune(recipe)
    assert trial["metrics"] == last.metrics
    assert trial["step"] == last.step
    again = rerun(Folder(str(swept[1] / "tiny")), trial["trial"], None)
    assert again.agrees
    assert (again.evaluations, again.numbers) == (2, 2 * len(last.metrics))


def test_the_best_of_the_search_run_again_with_another_seed(swept, trials):
    repeats = {trial["repeat_of"]: trial for trial in trials if "repeat_of" in trial}
    printed = json.loads(answer("front", swept[0], "--storage", swept[1], "--format", "json").stdout)
    assert printed
    for member in printed:
        seeds = [next(t for t in trials if t["trial"] == member["trial"]), repeats[member["trial"]]]
        assert list(member["seeds"]) == [member["trial"], f"{member['trial']}.1"]
        assert member["metrics"]["pgd"] == pytest.approx(sum(seed["metrics"]["pgd"] for seed in seeds) / 2)
        assert member["intervals"]["pgd"][0] < member["metrics"]["pgd"] < member["intervals"]["pgd"][1]
    again = repeats[printed[0]["trial"]]
    *_, last = finetune(recipe_from(load_study(str(swept[0]), ["recipe.seed=1"]).recipe_at(again["knobs"])))
    assert again["metrics"] == last.metrics
    assert "seed=1" in swept[2].stdout


def test_results_hold_every_evaluation_with_recipe_seed_versions_and_device(swept):
    table = pq.read_table(swept[1] / "tiny" / "results.parquet").to_pylist()
    finished = [row for row in table if row["state"] == "finished"]
    assert {row["step"] for row in finished} == {2, 4}
    for row in finished:
        assert json.loads(row["recipe"])["optim"]["steps"] == 4
        assert len(row["recipe_hash"]) == 64
        assert row["seed"] == (1 if row["repeat_of"] else 0)
        assert row["device"] == "cpu"
        assert row["seconds"] > 0
        assert json.loads(row["versions"])["torch"]
        assert math.isclose(row["pgd"], row["pgd/digits"])


def test_the_front_is_what_no_finished_trial_beats(swept, trials):
    printed = json.loads(answer("front", swept[0], "--storage", swept[1], "--format", "json").stdout)
    seeds = {trial["repeat_of"]: trial["metrics"] for trial in trials if "repeat_of" in trial}
    finished = [
        {
            name: (value + seeds.get(trial["trial"], trial["metrics"])[name]) / 2
            for name, value in trial["metrics"].items()
        }
        for trial in asked(trials)
        if trial["state"] == "finished" and not trial.get("copy_of")
    ]
    assert printed
    for member in printed:
        assert not any(
            other["clean"] >= member["metrics"]["clean"]
            and other["pgd"] >= member["metrics"]["pgd"]
            and (other["clean"], other["pgd"]) != (member["metrics"]["clean"], member["metrics"]["pgd"])
            for other in finished
        )
    rows = list(csv.DictReader(io.StringIO(answer("front", swept[0], "--storage", swept[1], "--format", "csv").stdout)))
    assert [row["trial"] for row in rows] == [member["trial"] for member in printed]


@pytest.mark.parametrize("suffix", ["png", "html", "csv", "json"])
def test_the_front_is_written_as_what_the_file_is_called(swept, tmp_path, suffix):
    answer("front", swept[0], "--storage", swept[1], "--out", tmp_path / f"front.{suffix}")
    beginning = (tmp_path / f"front.{suffix}").read_bytes()[:15]
    assert beginning.lower().startswith(
        {"png": b"\x89png", "html": b"<!doctype html>", "csv": b"trial,", "json": b"["}[suffix]
    )


def test_an_unknown_kind_of_picture_is_refused_and_named(swept, tmp_path):
    refused = answer("front", swept[0], "--storage", swept[1], "--out", tmp_path / "front.gif", code=2)
    assert ".png" in refused.stderr
    assert not (tmp_path / "front.gif").exists()


def test_launching_again_is_refused_and_names_resume(swept):
    refused = answer("launch", swept[0], "--storage", swept[1], code=2)
    assert "sweep resume" in refused.stderr


def test_mlflow_has_one_run_for_the_sweep_and_one_for_each_trial(swept, trials):
    client, parents, children = runs(swept[1])
    assert [run.info.status for run in parents] == ["FINISHED"]
    assert sorted(children) == sorted(trial["trial"] for trial in trials)
    for trial in trials:
        run = children[trial["trial"]]
        assert run.info.status == {"finished": "FINISHED", "failed": "FAILED"}[trial["state"]]
        assert float(run.data.params["loss.alpha"]) == trial["knobs"]["loss.alpha"]
        for name, value in trial["metrics"].items():
            assert run.data.metrics[name] == value
    assert "hypervolume" in parents[0].data.metrics
    assert parents[0].data.metrics["spent/hours"] > 0
    names = {file.path.split("/")[-1] for file in client.list_artifacts(parents[0].info.run_id)}
    assert {"front.png", "front.html", "front.json"} <= names


def test_mlflow_marks_the_front(swept):
    printed = json.loads(answer("front", swept[0], "--storage", swept[1], "--format", "json").stdout)
    _, _, children = runs(swept[1])
    marked = {name for name, run in children.items() if run.data.tags.get("pareto") == "true"}
    assert marked == {member["trial"] for member in printed}
    for member in printed:
        metrics = children[member["trial"]].data.metrics
        assert [metrics[f"ci/pgd/{end}"] for end in ("low", "high")] == member["intervals"]["pgd"]


def test_piped_output_is_plain_lines(swept):
    assert "\x1b" not in swept[2].stdout
    assert "trial 0000 started" in swept[2].stdout
    assert "mlflow ui --backend-store-uri" in swept[2].stdout
    assert "front.png" in swept[2].stdout


def test_extending_keeps_every_earlier_trial_and_makes_no_second_runs(swept, trials):
    grown = sweep("resume", swept[0], "--storage", swept[1], "--trials", 9, "--set", "search.sampler=tpe", code=1)
    assert 'changed  search.sampler: "random" -> "tpe"' in grown.stdout.replace("'", '"')
    extended = status(*swept[:2])
    assert extended[: len(trials)] == trials
    assert len(asked(extended)) == 9
    _, parents, children = runs(swept[1])
    assert len(parents) == 1
    assert len(children) == len(extended)


class Observed(Chaos):
    """Also looks at what the sweep does before it is disturbed, and at what is left; then it damages that too."""

    def suffer(self, life: subprocess.Popen[str], kind: str) -> None:
        addresses = listening(life.pid)
        assert addresses, "Ray listens somewhere"
        assert addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, "only this machine may reach a local sweep"
        super().suffer(life, kind)
        if life.poll() is not None:
            assert "sweep resume" in answer("status", self.study, "--storage", self.storage).stdout
            assert faults.damage(self.folder, self.draw)


def test_a_sweep_that_is_killed_and_damaged_goes_on_where_it_was_as_if_nothing_had_happened(tmp_path):
    study = write_study(tmp_path, STUDY.replace("steps: 4}", "steps: 32}").replace("every: 2", "every: 4"))
    observed = Observed(study, tmp_path / "runs", drawn(0), every=4)
    observed.run(["actor", "gcs_server"], reports=16)
    assert [fault.kind for fault in observed.faults] == ["actor", "gcs_server"]
    trials = status(study, observed.storage)
    assert [trial["state"] for trial in trials] == ["finished", "finished"]
    for happened in ("its process was lost", "it went on from step"):
        assert any(happened in note for trial in trials for note in trial.get("notes", []))
    tracked = facts(observed.storage)["mlflow"]
    assert sorted(tracked) == ["0000", "0001", "tiny"]
    table = pq.read_table(observed.storage / "tiny" / "results.parquet").to_pylist()
    for trial in trials:
        plain = load_study(str(study)).recipe_at(trial["knobs"])
        alone = {progress.step: progress.metrics for progress in finetune(recipe_from(plain))}
        rows = {row["step"]: row for row in table if row["trial"] == trial["trial"]}
        assert {step: {name: row[name] for name in alone[step]} for step, row in rows.items()} == alone
        run = tracked[trial["trial"]]
        assert run["status"] == "FINISHED"
        for name in trial["metrics"]:
            assert run["points"][name] == [(step, metrics[name]) for step, metrics in alone.items()]


def test_a_study_that_is_running_is_not_started_twice(tmp_path):
    study = write_study(tmp_path)
    with locked(Folder(str(tmp_path / "runs" / "tiny")), "tiny"):
        refused = answer("launch", study, "--storage", tmp_path / "runs", code=2)
    assert "another process runs the study 'tiny'" in refused.stderr


def test_a_dead_mlflow_server_costs_a_warning_and_nothing_else(tmp_path, capsys):
    settings = [f"storage={tmp_path / 'runs'}", "mlflow=http://127.0.0.1:9"]
    study = load_study(str(write_study(tmp_path)), settings)
    tracker = tracker_of(study)
    tracker.start_sweep({}, study.text)
    only = session(study, tracker=tracker)
    for trial in only.assignments():
        only.run(trial)
    only.sweep.close()
    assert conclude(Outcome(only.sweep, tracker.uri, tracker.close("FINISHED")), None, "local") == 0
    said = capsys.readouterr().err
    assert "warning" in said
    assert "sweep resume" in said
    assert {record.state for record in only.on_disk.values()} == {"finished"}
