"""MLflow gets every event once, through kills, refusals and servers that are away; all stores are real."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from robustcore.intervals import wilson
from sweeps import tracking
from sweeps.results.records import Evaluation
from sweeps.seeds import averaged
from sweeps.tracking import Tracker
from tests.sweeps.mlflow_store import (
    PATIENCE,
    artifact,
    check_sweep,
    history,
    longer,
    play,
    stored,
    tracker_of,
    wait_until,
)
from tests.sweeps.trials import counted, repeat, study, trial

# MLflow's own use of SQLAlchemy, in this thread where the tests look into the store.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, which take four seconds to make."""
    folder = tmp_path_factory.mktemp("store")
    tracker = Tracker(f"sqlite:///{folder}/mlflow.db", "other", folder / "spool", str(folder / "artifacts"))
    tracker.start_sweep({}, "")
    assert tracker.close("FINISHED", PATIENCE) == ""
    return folder / "mlflow.db"


@pytest.fixture
def store(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return f"sqlite:///{tmp_path}/mlflow.db"


def test_a_sweep_is_one_parent_with_one_child_a_trial(store: str, tmp_path: Path) -> None:
    records = longer(study(7))
    tracker = tracker_of(store, tmp_path)
    play(tracker, records)
    assert tracker.close("FINISHED", PATIENCE) == ""
    check_sweep(store, records)
    assert list((tmp_path / "cwd").iterdir()) == []  # no ./mlruns beside the user's files


def test_a_resumed_sweep_goes_on_in_the_same_runs(store: str, tmp_path: Path) -> None:
    running, waiting = trial(0, {"clean": 0.5}, "running"), trial(1, state="pending")
    first = tracker_of(store, tmp_path)
    first.start_sweep({"trials": 1}, "old")
    first.start_trial(running)
    first.evaluate(running, running.evaluations[0])
    first.end_trial(running)
    first.close("KILLED", PATIENCE)
    before, children = stored(store)
    assert (before.info.status, children["0000"].info.status) == ("KILLED", "KILLED")

    second = tracker_of(store, tmp_path)
    second.start_sweep({"trials": 2, "new": True}, "new")
    second.evaluate(running, running.evaluations[0])  # it reports its past again
    for record in (running, waiting):
        second.start_trial(record)
        second.evaluate(record, Evaluation(400, {"clean": 0.75}, 9.0))
        record.state = "finished"
        second.end_trial(record)
    assert second.close("FINISHED", PATIENCE) == ""
    after, later = stored(store)
    assert (after.info.run_id, after.info.status) == (before.info.run_id, "FINISHED")
    assert after.data.params == {"trials": "1", "new": "true"}  # MLflow keeps the first value for ever
    assert artifact(store, after, "study.yaml") == b"new"
    assert later["0000"].info.run_id == children["0000"].info.run_id
    assert history(store, later["0000"], "clean") == [(200, 0.5), (400, 0.75)]
    assert not (tmp_path / "spool" / "rejected.jsonl").exists()


def test_a_parent_that_is_going_is_running_again(store: str, tmp_path: Path) -> None:
    first = tracker_of(store, tmp_path)
    first.start_sweep({}, "")
    first.close("FAILED", PATIENCE)
    second = tracker_of(store, tmp_path)
    second.start_sweep({}, "")
    wait_until(lambda: not second.spool.pending())
    assert stored(store)[0].info.status == "RUNNING"
    second.close("FINISHED", PATIENCE)


def test_another_machine_goes_on_in_the_same_runs_and_tells_what_the_first_could_not(
    store: str, tmp_path: Path
) -> None:
    """The first told of a step that its storage then lost, and never sent the end of what it had finished."""
    records = longer(study(4))
    machines = [Tracker(store, "alpha_study", tmp_path / m, str(tmp_path / "artifacts"), "an-id") for m in ("a", "b")]
    first, other = machines
    first.start_sweep({"objectives": {"clean": "max"}}, "name: alpha_study\n")
    for record in records[:2]:
        first.start_trial(record)
        first.evaluate(record, record.evaluations[0])
        first.update_front([record], 0.1, 1, {})
    first.close(None, PATIENCE)

    other.start_sweep({"objectives": {"clean": "max"}}, "name: alpha_study\n")
    other.catch_up(records[:1])
    other.catch_up(records[:1])
    for record in records[1:]:
        other.start_trial(record)
        for evaluation in record.evaluations:
            other.evaluate(record, evaluation)
        other.end_trial(record)
    other.update_front(records[3:], 0.4, 4, {})
    assert other.close("FINISHED", PATIENCE) == ""

    parent, children = stored(store)
    assert parent.info.status == "FINISHED"
    assert sorted(children) == [record.trial for record in records]
    for record in records:
        assert children[record.trial].data.tags["sweep.state"] == record.state
        for name in record.metrics:
            points = [(each.step, each.metrics[name]) for each in record.evaluations]
            assert history(store, children[record.trial], name) == points
    assert [name for name, run in children.items() if run.data.tags.get("pareto") == "true"] == [records[3].trial]


def test_a_sweep_that_was_deleted_leaves_nothing_to_one_in_its_place(store: str, tmp_path: Path) -> None:
    for sweep in ("an-id", "another"):
        tracker = Tracker(store, "alpha_study", tmp_path / "spool", None, sweep)
        assert tracker.spool.pending() == []
        tracker.spool.append({"kind": "trial"})
    assert json.loads(tracker.ids_file.read_text())["sweep"] == "another"


def test_replaying_everything_again_changes_nothing(store: str, tmp_path: Path) -> None:
    records = longer(study(4))
    first = tracker_of(store, tmp_path)
    play(first, records)
    first.close("FINISHED", PATIENCE)
    ids = json.loads(first.ids_file.read_text())
    # As after a crash between the server's answer and our note of it, at every event at once.
    first.ids_file.write_text(json.dumps({"sweep": ids["sweep"]}))
    second = tracker_of(store, tmp_path)
    second.start_sweep({"trials": 4}, "name: alpha_study\n")
    assert second.close("FINISHED", PATIENCE) == ""
    check_sweep(store, records)
    assert json.loads(second.ids_file.read_text()) == ids


def test_a_sweep_killed_while_it_logs_is_replayed_without_loss_or_repeat(store: str, tmp_path: Path) -> None:
    program = (
        "import os, signal, sys, time; from pathlib import Path; from sweeps.tracking.mlflow_runs import Runs\n"
        "from tests.sweeps import mlflow_store as t; from tests.sweeps.trials import study\n"
        "note = Runs._note\n"
        "def noted(self, **changes):\n"
        "    note(self, **changes)\n"
        "    if len(self.ids['runs']) >= 4: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Runs._note = noted\n"
        "t.play(t.tracker_of(sys.argv[1], Path(sys.argv[2])), t.longer(study(12)))\n"
        "time.sleep(60)"
    )
    root = Path(__file__).parents[2]
    killed = subprocess.run([sys.executable, "-c", program, store, tmp_path], cwd=root, check=False)
    assert killed.returncode == -signal.SIGKILL
    tracker = tracker_of(store, tmp_path)
    assert 0 < len(tracker.spool.pending()) < 60
    assert tracker.close("FINISHED", PATIENCE) == ""
    check_sweep(store, longer(study(12)))


def test_what_the_server_refuses_is_put_aside_and_the_rest_goes_on(store: str, tmp_path: Path) -> None:
    record = trial(0, state="running")
    tracker = tracker_of(store, tmp_path)
    tracker.start_sweep({}, "")
    tracker.start_trial(record)
    tracker.start_trial(trial(0, state="running", knobs={"loss.alpha": 99.0}))  # no parameter changes its value
    tracker.evaluate(record, Evaluation(1, {"clean": 0.5}, 1.0))
    tracker.evaluate(record, Evaluation(2, {"x" * 300: 0.5}, 1.0))
    tracker.evaluate(record, Evaluation(3, {"clean": 0.6}, 1.0))
    record.state = "finished"
    tracker.end_trial(record)
    assert "refused 2 events" in tracker.close("FINISHED", PATIENCE)
    lines = (tmp_path / "spool" / "rejected.jsonl").read_text().splitlines()
    refused = [json.loads(line) for line in lines]
    assert [line["event"]["kind"] for line in refused] == ["trial", "evaluate"]
    assert all(line["error"] for line in refused)
    run = stored(store)[1]["0000"]
    assert history(store, run, "clean") == [(1, 0.5), (3, 0.6)]
    assert run.info.status == "FINISHED"


def test_long_many_and_oddly_named_values_are_all_taken(store: str, tmp_path: Path) -> None:
    prompts = {f"prompt {i}": "x" * 7000 for i in range(3)}
    recipe: dict[str, Any] = {
        "evaluation": {"prompts": prompts, "naïve set (v2)!": [1, None, "a"]},
        "none": None,
    }
    recipe["many"] = {f"value{i}": i for i in range(250)}
    metrics = {f"pgd/set {i}": float(i) for i in range(2500)} | {"bad": float("nan"), "top": float("inf")}
    record = trial(0, metrics, recipe=recipe, knobs={"text": "a\nb", "truth": True})
    record.reason = "x" * 9000
    tracker = tracker_of(store, tmp_path)
    tracker.start_sweep({}, "")
    tracker.start_trial(record)
    tracker.evaluate(record, record.evaluations[0])
    tracker.end_trial(record)
    assert tracker.close("FINISHED", PATIENCE) == ""
    run = stored(store)[1]["0000"]
    assert len(run.data.params) == 3 + 1 + 1 + 250 + 2
    assert len(run.data.params["evaluation.prompts.prompt 1"]) == 6000
    assert run.data.params["evaluation.prompts.prompt 1"].endswith("…")
    assert run.data.params["evaluation.naïve set _v2__"] == '[1, null, "a"]'
    assert (run.data.params["none"], run.data.params["truth"]) == ("null", "true")
    assert len(run.data.metrics) == 2502


def test_who_leaves_the_front_is_told_so(store: str, tmp_path: Path) -> None:
    records = [trial(i, {"clean": 0.5}) for i in range(3)]
    tracker = tracker_of(store, tmp_path)
    tracker.start_sweep({}, "")
    for count, members in enumerate([records[:2], records[1:]], start=1):
        tracker.update_front(members, 0.5, count, {"front.json": b"%d" % count})
        wait_until(lambda: not tracker.spool.pending())
    assert tracker.close("FINISHED", PATIENCE) == ""
    tags = {name: run.data.tags.get("pareto") for name, run in stored(store)[1].items()}
    assert tags == {"0000": "false", "0001": "true", "0002": "true"}


def test_intervals_repeats_and_flags_are_on_the_runs_of_their_trials(store: str, tmp_path: Path) -> None:
    first, other = counted([trial(0, {"clean": 0.9, "pgd": 0.6}), trial(1, {"clean": 0.8, "pgd": 0.7})])
    again = repeat(first, 1, {**first.metrics, "pgd": 0.58})
    other.flags = {"masked_gradients": "Square fools 3 images."}
    tracker = tracker_of(store, tmp_path)
    play(tracker, [first, other, again])
    tracker.note_intervals([*averaged([first, again]), other], ["clean", "pgd", "loss"])
    assert tracker.close("FINISHED", PATIENCE) == ""
    _, runs = stored(store)
    assert runs["0000.1"].data.tags["sweep.repeat_of"] == "0000"
    assert runs["0001"].data.tags["sweep.flags"] == "masked_gradients: Square fools 3 images."
    assert "sweep.flags" not in runs["0000"].data.tags
    alone = wilson(0.7, 400)
    found = {n.removeprefix("ci/"): v for n, v in runs["0001"].data.metrics.items() if n.startswith("ci/pgd")}
    assert found == {"pgd/low": pytest.approx(alone.low), "pgd/high": pytest.approx(alone.high)}
    assert runs["0000"].data.metrics["ci/pgd/mean"] == pytest.approx(0.59)
    assert runs["0000"].data.metrics["ci/pgd/low"] < 0.59 - 12.7 * 0.01  # Student's t of two seeds
    assert not [name for name in runs["0000.1"].data.metrics if name.startswith("ci/")]


def test_another_or_an_emptied_store_gets_the_whole_sweep(store: str, tmp_path: Path, empty_store: Path) -> None:
    records = longer(study(3))
    tracker = tracker_of(store, tmp_path)
    play(tracker, records)
    tracker.close("FINISHED", PATIENCE)
    shutil.copy(empty_store, tmp_path / "second.db")
    second = tracker_of(f"sqlite:///{tmp_path}/second.db", tmp_path)
    assert second.close("FINISHED", PATIENCE) == ""
    check_sweep(second.uri, records)


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def server(folder: Path, port: int) -> Iterator[None]:
    """A tracking server that starts now, answers seconds later, and is gone after the block."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--workers", "1"]
    command += ["--artifacts-destination", str(folder / "server-artifacts")]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(PATIENCE)


def test_a_server_that_was_away_gets_everything_when_it_comes_back(
    port: int,
    empty_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tracking, "LONGEST_WAIT", 2.0)
    uri = f"http://someone:hush@127.0.0.1:{port}"
    records = longer(study(3))
    first = tracker_of(uri, tmp_path)
    play(first, records)
    warning = first.close("KILLED", PATIENCE)
    assert f"http://127.0.0.1:{port} does not answer" in warning
    assert f"{len(first.spool.pending())} events wait in {first.spool.path}" in warning
    assert "sweep resume" in warning

    second = tracker_of(uri, tmp_path)
    second.start_sweep({}, "name: alpha_study\n")
    wait_until(lambda: bool(second.warning))
    assert "hush" not in warning + second.warning + second.spool.path.read_text()
    shutil.copy(empty_store, tmp_path / "server.db")
    with server(tmp_path, port):
        wait_until(lambda: not second.spool.pending() and not second.warning)
        assert second.close("FINISHED", PATIENCE) == ""
        assert "hush" not in second.ids_file.read_text()
        assert capfd.readouterr() == ("", "")
        check_sweep(uri, records)


def test_a_store_that_cannot_be_used_costs_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    tracker = tracker_of(f"sqlite:///{tmp_path}/file/mlflow.db", tmp_path)
    tracker.start_sweep({}, "")
    assert "2 events wait" in tracker.close("FINISHED", PATIENCE)


@pytest.mark.parametrize(("answers", "waits"), [(True, 2), (False, 0)])
def test_new_trials_wait_a_moment_for_a_server_that_answers_and_is_far_behind(
    answers: bool, waits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []
    monkeypatch.setattr(tracking.time, "sleep", naps.append)
    monkeypatch.setattr(tracking, "FAR_BEHIND", 1000)
    monkeypatch.setattr(Tracker, "_replay", lambda _: None)  # nothing is ever taken
    tracker = tracker_of(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)
    tracker.start_trial(trial(0))
    assert naps == []
    while tracker.spool.behind <= 1000:
        tracker.evaluate(trial(0), Evaluation(tracker.spool.behind, {"clean": 0.5}, 1.0))
    tracker.warning = "" if answers else "MLflow does not answer"
    tracker.start_trial(trial(1))
    tracker.start_trial(trial(2))
    tracker.catch_up([trial(3)])  # of what is long over
    assert naps == [tracking.BREATH] * waits
