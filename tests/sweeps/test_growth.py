"""``resume --set``: what may change does, in the study that later resumes find; the rest is refused with its reason."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from robustcore.storage import Folder
from sweeps.cli import main
from sweeps.growth import changes, grown, total_trials
from sweeps.source import StudyError
from sweeps.stored import RequestError, launched_study
from sweeps.study import Study, load_study
from sweeps.study.space import Choice, Integer, Uniform
from tests.sweeps.commands import write_study
from tests.sweeps.sessions import launched, session


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Five questions at random, of which four were answered and one is running."""
    monkeypatch.chdir(tmp_path)
    settings = ["search={sampler: tpe, trials: 5}", f"storage={tmp_path}/runs", "knobs.loss.alpha={uniform: [0, 1]}"]
    asked = load_study(str(write_study(tmp_path)), settings)
    first = launched(asked)
    for _ in range(4):
        first.run(first.begin())
    first.begin()
    return asked


def test_what_may_change_changes_and_settings_add_up(study: Study) -> None:
    settings = [
        "search.trials=9",
        "search.sampler=nsga2",
        "knobs.loss.alpha={uniform: [1/2, 2]}",
        "knobs.optim.warmup={integer: [0, 2]}",
        "stop_early.after=2",
        "stop_early.kind=moasha",
        "budget.hours=1/2",
        "resources.at_once=1",
        "constraints.clean=>= 0.5",
        "mlflow=http://127.0.0.1:9",
    ]
    new = grown(study, settings)
    assert (new.search.trials, new.search.sampler, new.resources.at_once) == (9, "nsga2", 1)
    assert new.knobs == {"loss.alpha": Uniform((0.5, 2)), "optim.warmup": Integer((0, 2))}
    assert new.budget is not None
    assert new.budget.hours == 0.5
    assert new.stop_early is not None
    assert not new.feasible({"clean": 0.4})
    kept = ("recipe", "plain_recipe", "objectives", "name", "storage", "path", "text")
    assert [getattr(new, name) for name in kept] == [getattr(study, name) for name in kept]
    assert grown(grown(study, settings[:4]), settings[4:]) == new
    assert grown(study, []) == study


@pytest.mark.parametrize("place", ["moved", "./moved", "{here}/moved", "file://{here}/moved"])
def test_a_study_that_was_moved_goes_on_where_it_is_found(place: str, study: Study, tmp_path: Path) -> None:
    Path(study.storage).rename(tmp_path / "moved")
    found = launched_study(Folder(place.format(here=tmp_path)).at("tiny"))
    assert Folder(found.storage).at("tiny").local == tmp_path / "moved" / "tiny"
    assert dataclasses.replace(found, storage=study.storage) == study
    resumed = session(dataclasses.replace(found, storage=str(tmp_path / "moved")))
    assert resumed.begin() == "0004"
    assert not Path(study.storage).exists()


@pytest.mark.parametrize("plan", ["{after: 2, kind: asha}", "{after: 2, kind: median}", "{after: 2, brackets: 1}"])
def test_every_plan_of_a_launched_study_can_be_read_again(plan: str, study: Study) -> None:
    """What is as by default was not written, and so is no key that another kind must not have."""
    single = load_study(study.path, ["objectives={clean: max}", "stop_early=" + plan, "optim.steps=8"])
    assert grown(single, ["search.trials=7"]).stop_early == single.stop_early


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("loss.kind=tecoa", "'recipe' cannot change on resume: the trials so far ran this recipe"),
        ("recipe.optim.steps=8", "those of another one could not be compared"),
        ("objectives={clean: max}", "'objectives' cannot change on resume: the trials so far were chosen by these"),
        ("name=other", "'name' cannot change on resume: the results are kept under this name"),
        ("storage=elsewhere", "'storage' cannot change on resume: the results are kept there"),
        ("serch.trials=9", "unknown key; did you mean 'search'?"),
        ("search.trails=9", "unknown key; did you mean 'trials'?"),
        ("search.trials=many", "expected a number"),
        ("knobs.loss.alpha={uniform: [0, -1]}", "from a lower to a higher number"),
        ("knobs.loss.alpho={uniform: [0, 1]}", "unknown path into the recipe; did you mean 'loss.alpha'?"),
        ("budget.gpu_hours=1", "no trial takes a GPU"),
        ("search.trials", "expected PATH=VALUE"),
        ("search.trials=3", "already has 5 trials, expected more, got 3"),
        ("search.warm_start=[nowhere]", "'nowhere': no results in"),
    ],
)
def test_what_may_not_change_is_refused_by_its_key_and_nothing_changes(
    setting: str, expected: str, study: Study, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock"}
    done = CliRunner().invoke(main, ["resume", study.path, "--set", setting], catch_exceptions=False)
    (line,) = done.stderr.splitlines()
    assert done.exit_code == 2
    assert expected in line
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock"}
    assert after == before


def test_everything_that_is_wrong_is_said_at_once(study: Study) -> None:
    with pytest.raises(StudyError) as wrong:
        grown(study, ["search.trials=0", "resources.cpus=none"])
    assert len(wrong.value.problems) == 2
    with pytest.raises(StudyError) as refused:
        grown(study, ["loss.kind=tecoa", "name=other", "search.trials=9"])
    assert [problem.place for problem in refused.value.problems] == ["--set loss.kind=tecoa", "--set name=other"]


def test_a_pinned_knob_is_searched_no_more_and_stays_pinned(study: Study) -> None:
    pinned = grown(study, ["loss.alpha=0.5"])
    assert (pinned.knobs, pinned.pinned) == ({}, ("loss.alpha",))
    assert pinned.recipe_at({})["loss"]["alpha"] == 0.5
    with pytest.raises(StudyError, match="'recipe' cannot change"):
        grown(pinned, ["loss.alpha=0.7"])
    again = grown(pinned, ["knobs.loss.alpha={uniform: [0, 2]}"])
    assert (list(again.knobs), again.pinned) == (["loss.alpha"], ())


def test_changes_are_named_with_what_was_and_what_is(study: Study) -> None:
    records = list(session(study).sweep.results.records.values())
    high = max(float(record.knobs["loss.alpha"]) for record in records)  # type: ignore[arg-type]
    new = grown(study, ["search.trials=9", f"knobs.loss.alpha={{uniform: [{high}, 2]}}", "budget.hours=2"])
    lines = changes(study, new, records)
    assert "search.trials: 5 -> 9" in lines
    assert f"knobs.loss.alpha.uniform: [0.0, 1.0] -> [{high}, 2.0]" in lines
    assert "budget.hours: null -> 2.0" in lines
    assert "4 of 5 trials lie outside the changed knobs and guide the sampler no more" in lines
    assert changes(study, study, records) == []


def test_a_changed_sweep_asks_in_its_new_ranges_and_keeps_what_it_has(study: Study) -> None:
    before = session(study).on_disk
    new = grown(study, ["search.trials=8", "knobs.loss.alpha={uniform: [2, 3]}"])
    resumed = launched(new)
    for trial in resumed.assignments():
        resumed.run(trial)
    after = resumed.on_disk
    assert list(after) == [f"{number:04d}" for number in range(8)]
    assert {trial: record.knobs for trial, record in after.items() if trial in before} == {
        trial: record.knobs for trial, record in before.items()
    }
    assert all(2 <= record.knobs["loss.alpha"] <= 3 for trial, record in after.items() if trial not in before)  # type: ignore[operator]
    assert {record.state for record in after.values()} == {"finished"}
    assert launched_study(Folder(study.storage).at(study.name)) == new


def test_a_grid_grows_by_what_is_new_in_it(study: Study) -> None:
    def grid(*values: Any) -> Study:
        search = dataclasses.replace(study.search, sampler="grid", trials=99)
        return dataclasses.replace(study, name="grid", search=search, knobs={"loss.alpha": Choice(values)})

    first = launched(grid(0, 1, 2))
    for trial in first.assignments():
        first.run(trial)
    wider = grid(1, 2, 3, 4)
    total = total_trials(wider, first.records, None)
    resumed = launched(wider, total)
    for trial in resumed.assignments():
        resumed.run(trial)
    assert total == 5
    assert sorted(record.knobs["loss.alpha"] for record in resumed.records) == [0, 1, 2, 3, 4]  # type: ignore[type-var]
    with pytest.raises(RequestError, match="has only 5 different trials"):
        total_trials(wider, resumed.records, 6)
