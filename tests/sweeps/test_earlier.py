"""``warm_start`` and ``points`` from the file to the sweep: what is checked, what is kept, what counts as a trial."""

import dataclasses
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from robustcore.storage import Folder
from sweeps.check import check_study
from sweeps.cli import main
from sweeps.earlier import KEPT, read_advice
from sweeps.stored import RequestError
from sweeps.study import Study, load_study
from sweeps.study.space import Uniform
from tests.sweeps.commands import write_study
from tests.sweeps.questions import line_of, written
from tests.sweeps.sessions import launched, session


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Six trials of the study 'tiny', one of them stopped."""
    monkeypatch.chdir(tmp_path)
    settings = ["search={sampler: random, trials: 6}", "knobs.loss.alpha={uniform: [0, 2]}"]
    study = load_study(str(write_study(tmp_path)), settings)
    first = launched(study)
    for number, trial in enumerate(first.assignments()):
        first.run(trial, "stopped" if number == 3 else "finished")
    return study


def follower(earlier: Study, *warm_start: str, trials: int = 6) -> Study:
    search = dataclasses.replace(earlier.search, sampler="tpe", trials=trials, warm_start=warm_start)
    return dataclasses.replace(earlier, name="follower", search=search, knobs={"loss.alpha": Uniform((0, 2))})


def test_earlier_trials_guide_the_sampler_and_are_no_trials_of_the_sweep(earlier: Study) -> None:
    only = session(follower(earlier, "tiny"))
    for trial in only.assignments():
        only.run(trial)
    assert list(only.on_disk) == [f"{number:04d}" for number in range(6)]
    assert set(only.heard.by_trial) == set(only.on_disk)
    alone = session(dataclasses.replace(follower(earlier), name="alone"))
    for trial in alone.assignments():
        alone.run(trial)
    assert [record.knobs for record in only.records] != [record.knobs for record in alone.records]


def test_a_recipe_that_an_earlier_study_finished_begins_where_that_ended(earlier: Study) -> None:
    stopped = session(earlier).records[3]
    finished = session(earlier).records[4]
    points = (finished.knobs, stopped.knobs, {"loss.alpha": 0.123})
    study = follower(earlier, "tiny")
    study = dataclasses.replace(study, search=dataclasses.replace(study.search, points=points))
    for _ in range(2):  # also in the sweep's next life
        sweep = session(dataclasses.replace(study, name="follower")).sweep
        folders = [assignment.earlier for assignment in (sweep.next_assignment() for _ in range(3)) if assignment]
        assert folders == [Folder(earlier.storage).at("tiny/trials/0004").uri, "", ""]


@pytest.mark.parametrize("named", ["tiny", "runs/tiny"])
def test_a_resumed_sweep_asks_as_before_though_the_other_study_has_grown(
    earlier: Study, named: str, tmp_path: Path
) -> None:
    undisturbed = session(dataclasses.replace(follower(earlier, named), name="undisturbed"))
    for _ in range(6):
        undisturbed.run(undisturbed.begin())
    killed = session(follower(earlier, named))
    for _ in range(3):
        killed.run(killed.begin())
    grown = session(dataclasses.replace(earlier, search=dataclasses.replace(earlier.search, trials=12)), 12)
    for trial in grown.assignments():
        grown.run(trial)
    assert len(read_advice(named, earlier.storage)) == 11
    resumed = session(follower(earlier, named))
    for _ in range(3):
        resumed.run(resumed.begin())
    assert [record.knobs for record in resumed.records] == [record.knobs for record in undisturbed.records]
    kept = json.loads((tmp_path / "runs" / "follower" / KEPT).read_text())
    assert {name: len(trials) for name, trials in kept.items()} == {named: 5}


def test_advice_that_is_read_later_leaves_what_was_read_before(earlier: Study) -> None:
    session(follower(earlier, "tiny"))
    other = launched(dataclasses.replace(earlier, name="other"))
    other.run(other.begin())
    session(follower(earlier, "tiny", "other"))
    kept = json.loads(Folder(earlier.storage).at("follower").read(KEPT))
    assert {name: len(trials) for name, trials in kept.items()} == {"tiny": 5, "other": 1}


def test_check_says_how_many_earlier_trials_it_will_use(earlier: Study, tmp_path: Path) -> None:
    settings = ["name=follower", "search.warm_start=[tiny]", "search.sampler=tpe", "knobs.loss.alpha={uniform: [0, 1]}"]
    arguments = [word for setting in settings for word in ("--set", setting)]
    done = CliRunner().invoke(main, ["check", earlier.path, *arguments, "--format", "json"], catch_exceptions=False)
    inside = [record.knobs["loss.alpha"] <= 1 for record in session(earlier).records if record.state == "finished"]  # type: ignore[operator]
    assert 0 < sum(inside) < 5
    assert json.loads(done.stdout)["earlier_trials"] == {"tiny": {"finished": 5, "used": sum(inside)}}
    shown = CliRunner().invoke(main, ["check", earlier.path, *arguments], catch_exceptions=False)
    assert f"tiny: {{finished: 5, used: {sum(inside)}}}" in shown.stdout
    assert not (tmp_path / "runs" / "follower").exists()


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("tinny", "no study was launched in {runs}/tinny; did you mean 'tiny'?"),
        ("nothing-like-it", "expected one of: tiny"),
        ("no/such/folder", "no study was launched in {here}/no/such/folder"),
        ("question", "'question' is this study itself, expected another one"),
    ],
)
def test_an_unknown_earlier_study_is_named_with_the_nearest_one(
    named: str, expected: str, earlier: Study, tmp_path: Path
) -> None:
    path = tmp_path / "question.yaml"
    study = written(path, ("trials: 4}", f"trials: 4, warm_start: [{named}]}}"))
    _, problems, _ = check_study(study)
    (problem,) = map(str, problems)
    assert problem.startswith(f"{study}:{line_of('search:', path.read_text())}: search.warm_start.0: ")
    assert expected.format(runs=tmp_path / "runs", here=tmp_path) in problem


def test_an_earlier_study_without_readable_results_is_a_sentence(earlier: Study, tmp_path: Path) -> None:
    (tmp_path / "runs" / "tiny" / "results.parquet").write_bytes(b"PAR1 but not for long")
    with pytest.raises(RequestError, match=r"search.warm_start: 'tiny': .*expected the results of a sweep"):
        session(follower(earlier, "tiny"))


@pytest.mark.parametrize(
    ("points", "place", "expected"),
    [
        ("[{loss.alpho: 1}]", "search.points.0.loss.alpho", "no knob of this study; did you mean 'loss.alpha'?"),
        ("[{loss.alpha: 1}, {loss.alpha: 3/2}]", "search.points.1.loss.alpha", "a value from 0 to 1"),
        ("[{loss.alpha: some}]", "search.points.0.loss.alpha", "expected a number"),
        ("[{loss.alpha: [1]}]", "search.points.0.loss.alpha", "expected"),
        ("[{}]", "search.points.0", "expected at least 1 entries"),
        ("{loss.alpha: 1}", "search.points", "expected a list"),
        ("[{loss.alpha: 1}, {loss.alpha: 1}, {loss.alpha: 1}, {loss.alpha: 0}, {loss.alpha: 0}]", "search.points",
         "expected no more points than trials, of which there are 4, got 5"),
        ("[{loss.alpha: 1}, 3]", "search.points.1", "expected a mapping, got 3"),
    ],
)  # fmt: skip
def test_a_wrong_point_is_named_by_line_and_key(points: str, place: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "question.yaml"
    study = written(path, ("trials: 4}", f"trials: 4, points: {points}}}"))
    _, problems, _ = check_study(study)
    (problem,) = map(str, problems)
    assert problem.startswith(f"{study}:{line_of('search:', path.read_text())}: {place}: ")
    assert expected in problem


def test_a_point_whose_values_do_not_go_together_is_found(tmp_path: Path) -> None:
    path = tmp_path / "question.yaml"
    knobs = "optim.steps: {integer: [5, 20]}\n  optim.warmup: {integer: [0, 5]}"
    study = written(
        path,
        ("loss.alpha: {uniform: [0, 1]}", knobs),
        ("trials: 4}", "trials: 4, points: [{optim.steps: 5, optim.warmup: 5}]}"),
        ("stop_early: {after: 10}\n", ""),
    )
    assert check_study(study)[1] == []
    wrong = load_study(study)
    assert wrong.search.points == ({"optim.steps": 5, "optim.warmup": 5},)


def test_both_are_looked_for_in_search(tmp_path: Path) -> None:
    path = tmp_path / "question.yaml"
    study = written(path, ("storage: runs", "storage: runs\nwarm_start: [tiny]\npoints: [{loss.alpha: 1}]"))
    found = [str(problem).split(": ", 1)[1] for problem in check_study(study)[1]]
    assert found == [f"{key}: unknown key; did you mean 'search.{key}'?" for key in ("warm_start", "points")]
