"""A study: what it is once loaded, and everything its text can have wrong, each at its line and all at once."""

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from robustcore.recipe import recipe_from
from sweeps.conclusion import _called
from sweeps.study import Search, StudyError, json_schema, load_study, shipped_studies, study_from
from sweeps.study.keys import Constraint, read_constraint
from sweeps.study.schema import known_keys, known_paths
from tests.sweeps.questions import line_of, written


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "question.yaml"


def problems(study: str, *settings: str) -> list[str]:
    with pytest.raises(StudyError) as caught:
        load_study(study, settings)
    return str(caught.value).replace(str(Path(study).parent) + "/", "").splitlines()


@pytest.mark.parametrize("name", shipped_studies())
def test_a_shipped_study_loads_and_its_recipe_is_valid_as_it_stands(name: str) -> None:
    study = load_study(name)
    assert study.name == name
    assert recipe_from(study.recipe_at({})) == study.recipe


@pytest.mark.parametrize("name", shipped_studies())
def test_a_study_survives_the_round_trip_through_json(name: str) -> None:
    study = load_study(name, ["constraints.clean=>= 0.5", "seed=3"])
    assert study_from(json.loads(json.dumps(study.as_json()))) == study


def test_a_changed_study_is_plain_as_changed(path: Path) -> None:
    study = dataclasses.replace(load_study(written(path)), search=Search(trials=99))
    assert study_from(study.as_json()).search.trials == 99


def test_a_saved_study_that_no_longer_reads_says_where(path: Path) -> None:
    saved = load_study(written(path)).as_json()
    saved["study"]["search"]["samplers"] = 3
    with pytest.raises(StudyError, match=r"as it was launched: search.samplers: unknown key; did you mean 'sampler'"):
        study_from(saved)


def test_without_a_name_a_study_has_its_files(path: Path) -> None:
    assert load_study(written(path)).name == "question"
    assert load_study(written(path.with_name("my question.v2.yaml"))).name == "my-question.v2"


def test_knobs_put_their_values_into_the_recipe_and_nothing_else(path: Path) -> None:
    study = load_study(written(path))
    recipe = study.recipe_at({"loss.alpha": 0.25, "attack.stride": 0.5})
    assert recipe["loss"]["alpha"] == 0.25
    assert recipe["attack"] == {**study.plain_recipe["attack"], "stride": 0.5}
    assert {key: recipe[key] for key in recipe if key not in ("loss", "attack")} == {
        key: value for key, value in study.plain_recipe.items() if key not in ("loss", "attack")
    }
    assert study.recipe_at({})["loss"]["alpha"] == 0


def test_numbers_in_the_plain_recipe_are_numbers(path: Path) -> None:
    recipe = load_study(written(path)).plain_recipe
    assert recipe["attack"]["ball"]["eps"] == 4 / 255
    assert recipe["optim"]["lr"] == 1e-3


def test_paths_in_the_file_are_relative_to_it_and_storage_to_where_one_works(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    study = load_study(written(path, ("train: {kind: digits}", "train: {kind: parquet, path: a/b.parquet}")))
    assert study.plain_recipe["data"]["train"]["path"] == str(tmp_path / "a/b.parquet")
    assert study.storage == str(tmp_path / "elsewhere" / "runs")


def test_paths_that_a_knob_chooses_between_are_beside_the_study_as_those_of_the_recipe(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one.pt", "two.pt"):
        (tmp_path / name).touch()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    knobs = "knobs.model.weights={choice: [one.pt, two.pt, tag-of-the-library]}"
    study = load_study(written(path), [knobs, "search={trials: 4, points: [{model.weights: two.pt}]}"])
    one, two = str(tmp_path / "one.pt"), str(tmp_path / "two.pt")
    assert study.knobs["model.weights"].grid() == (one, two, "tag-of-the-library")
    assert study.search.points == ({"model.weights": two},)
    assert study.recipe_at({"model.weights": two})["model"]["weights"] == two


def test_a_uri_stays_as_it_is(path: Path) -> None:
    data = ("train: {kind: digits}", "train: {kind: parquet, path: 's3://b/c.parquet'}")
    study = load_study(written(path, data, ("storage: runs", "storage: s3://bucket/x")))
    assert study.plain_recipe["data"]["train"]["path"] == "s3://b/c.parquet"
    assert study.storage == "s3://bucket/x"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], 4),
        (["knobs=null"], 1),
        (["search.sampler=grid", "knobs.loss.alpha={choice: [0, 1, 2]}"], 3),
        (["search={sampler: grid, trials: 2}", "knobs.loss.alpha={choice: [0, 1, 2]}"], 2),
        (["knobs.loss.alpha={choice: [0, 1, 2]}"], 4),
    ],
)
def test_a_grid_ends_where_it_is_covered(settings: list[str], expected: int, path: Path) -> None:
    assert load_study(written(path), settings).num_trials() == expected


@pytest.mark.parametrize("written_as", [">= 0.6", ">=0.6", "  <= 1/2 "])
def test_a_constraint_holds_exactly_where_it_is_not_violated(written_as: str) -> None:
    constraint = dataclasses.replace(read_constraint(written_as), metric="clean")
    for share in (0.0, 0.5, 0.6, 1.0):
        holds = share >= constraint.bound if constraint.sign == ">=" else share <= constraint.bound
        assert constraint.holds({"clean": share}) == holds
        assert (constraint.violation({"clean": share}) <= 0) == holds
    assert not constraint.holds({})
    assert not constraint.holds({"clean": float("nan")})
    assert read_constraint(str(constraint)) == Constraint(constraint.sign, constraint.bound)


def test_a_study_is_feasible_where_every_constraint_holds(path: Path) -> None:
    study = load_study(written(path), ["constraints={clean: '>= 0.6', pgd: '<= 0.5'}"])
    assert study.feasible({"clean": 0.7, "pgd": 0.5})
    assert not study.feasible({"clean": 0.7, "pgd": 0.6})


def test_stopping_of_kind_none_is_no_stopping(path: Path) -> None:
    assert load_study(written(path), ["stop_early.kind=none"]).stop_early is None
    assert load_study(written(path), ["stop_early={kind: none}"]).stop_early is None


# What is planted, and at which key of which line it is found.
MISTAKES: list[tuple[str, str, str, str]] = [
    ("steps: 2\n", "stepz: 2\n", "recipe.attack.stepz", "unknown key; did you mean 'steps'?"),
    ("storage: runs", "storag: runs", "storag", "unknown key; did you mean 'storage'?"),
    ("storage: runs", "optim: {}", "optim", "unknown key; did you mean 'recipe.optim'?"),
    ("lr: 1e-3, ", "", "recipe.optim.lr", "missing key, expected a number"),
    ("lr: 1e-3", "lr: fast", "recipe.optim.lr", "such as 0.1, 1e-5 or 4/255, got 'fast'"),
    ("lr: 1e-3", "lr: [1]", "recipe.optim.lr", "expected a number, got [1]"),
    ("lr: 1e-3", "lr: .inf", "recipe.optim.lr", "expected a finite number"),
    ("lr: 1e-3", "lr: 0", "recipe.optim.lr", "expected a number above 0, got 0"),
    ("steps: 20", "steps: 1.5", "recipe.optim.steps", "expected a whole number, got 1.5"),
    ("batch_size: 32", "batch_size: true", "recipe.data.batch_size", "expected a number, got true"),
    ('prompts: ["a {}."]', "prompts: a photo", "recipe.evaluation.prompts", "expected a list, got 'a photo'"),
    ('prompts: ["a {}."]', "prompts: [a photo]", "recipe.evaluation.prompts.0", "expected a prompt with {}"),
    ("{kind: fare, alpha: 0}", "fare", "recipe.loss", "expected a mapping, got 'fare'"),
    ("{kind: fare, alpha: 0}", "{kind: fair}", "recipe.loss.kind", "got 'fair'; did you mean 'fare'?"),
    ("kind: fare, alpha: 0", "alpha: 0", "recipe.loss.kind", "missing key, expected one of 'fare',"),
    ("split: test", "split: tests", "recipe.evaluation.datasets.digits.split", "did you mean 'test'?"),
    ("ball: {kind: linf, eps: 4/255}\n", "ball: {kind: linf, eps: 4}\n", "recipe.attack.ball.eps", "4/255?"),
    ("steps: 2\n", "random_start: false\n", "recipe.attack", "expected one with a random start"),
    ("warmup: 5", "warmup: 50", "recipe.optim.warmup", "optim.warmup (50) exceeds optim.steps (20)"),
    ("loss.alpha: {", "loss.alfa: {", "knobs.loss.alfa", "unknown path into the recipe; did you mean 'loss.alpha'?"),
    ("loss.alpha: {", "alpha: {", "knobs.alpha", "unknown path into the recipe; did you mean 'loss.alpha'?"),
    ("loss.alpha: {", "los.alpha: {", "knobs.los.alpha", "did you mean 'loss.alpha'?"),
    ("uniform: [0, 1]", "uniform: [-1, 1]", "knobs.loss.alpha", "not valid at -1.0: expected a number of at least 0"),
    (
        "loss.alpha: {uniform: [0, 1]}",
        "optim.lr: {uniform: [0, 1]}",
        "knobs.optim.lr",
        "at 0.0: expected a number above 0",
    ),
    ("loss.alpha: {uniform", "attack.steps: {uniform", "knobs.attack.steps", "at 0.0: expected a number of at least 1"),
    ("loss.alpha: {uniform: [0", "attack.steps: {uniform: [9", "knobs.attack.steps.uniform", "lower to a higher"),
    ("loss.alpha: {uniform: [0, 1]}", "attack.steps: {uniform: [1, 9]}", "knobs.attack.steps", "expected integer"),
    ("loss.alpha: {uniform: [0, 1]}", "optim.steps: {integer: [2, 90]}", "knobs.optim.steps", "warmup (5) exceeds"),
    ("loss.alpha: {uniform: [0, 1]}", "loss.kind: {choice: [fare, f]}", "knobs.loss.kind", "at 'f': unknown kind"),
    (
        "loss.alpha: {uniform: [0, 1]}",
        "attack.random_start: {choice: [true, false]}",
        "knobs.attack.random_start",
        "random start",
    ),
    ("loss.alpha: {uniform: [0, 1]}", "recipe.loss: {uniform: [0, 1]}", "knobs.recipe.loss", "expected a mapping"),
    ("pgd: max", "pdg: max", "objectives.pdg", "produces no such metric; did you mean 'pgd'?"),
    ("pgd: max", "pgd: up", "objectives.pgd", "expected 'max' or 'min', got 'up'"),
    ("{clean: max, pgd: max}", "{}", "objectives", "expected at least 1 entries"),
    ("digits: {kind: digits, split", "clean: {kind: digits, split", "recipe.evaluation.datasets.clean", "is taken"),
    ("attacks:\n", "attacks:\n      seed: {kind: clean}\n", "recipe.evaluation.attacks.seed", "'seed' is taken"),
    ("attacks:\n", "attacks:\n      p/d: {kind: clean}\n", "recipe.evaluation.attacks.p/d", "letters, digits"),
    ("sampler: random", "sampler: rand", "search.sampler", "did you mean 'random'?"),
    ("sampler: random", "sampler: grid", "knobs.loss.alpha", "expected choice or integer"),
    ("trials: 4", "trials: 0", "search.trials", "expected a number of at least 1, got 0"),
    ("{after: 10}", "{after: 11}", "stop_early.after", "stops no trial"),
    ("{after: 10}", "{after: 10, keep: 1}", "stop_early.keep", "expected a number below 1, got 1"),
    ("{after: 10}", "{after: 10, kind: asha}", "stop_early.kind", "got 2 (clean, pgd); expected 'moasha'"),
    ("{after: 10}", "{after: 10, kind: median}", "stop_early.kind", "got 2 (clean, pgd); expected 'moasha'"),
    ("{after: 10}", "{after: 10, brackets: 2}", "stop_early.brackets", "at most one for each rung"),
    ("{after: 10}", "{after: 10, kind: mosha}", "stop_early.kind", "did you mean 'moasha'?"),
    ("{workers: 2}", "{workers: 33}", "recipe.data.batch_size", "each of the 33 workers, got 32"),
    ("{workers: 2}", "{gpus: 1.5}", "resources.gpus", "a whole number of them, got 1.5"),
    ("{workers: 2}", "{workers: 2, gpus: 1/4}", "resources.gpus", "a whole number of GPUs for each of 2 workers, got"),
    ("storage: runs", "storage: ''", "storage", "expected a folder or a URI, got nothing"),
    ("storage: runs", 'storage: "a\\0b"', "storage", "expected a folder or a URI, got 'a\\x00b'"),
    ("storage: runs", "storage: s3://key:secret@bucket/x", "storage", "expected no password or key in an address"),
    ("storage: runs", "storage: s4://bucket/x", "storage", "did you mean 's3://'?"),
    ("storage: runs", "mlflow: http://me:secret@host:5000", "mlflow", "put it in MLFLOW_TRACKING_USERNAME and"),
    ("storage: runs", "mlflow: localhost", "mlflow", "expected the address of a tracking server"),
    ("storage: runs", "name: a/b", "name", "expected letters, digits"),
    ("storage: runs", "constraints: {clean: '> 0.6'}", "constraints.clean", "expected '>= NUMBER' or '<= NUMBER'"),
    ("storage: runs", "constraints: {clean: '>= 60'}", "constraints.clean", "between 0 and 1, got 60"),
    ("storage: runs", "constraints: {cleen: '>= 0.6'}", "constraints.cleen", "did you mean 'clean'?"),
]

# Where the place is not what was planted but what suffers from it.
ELSEWHERE = {
    ("lr: 1e-3, ", "recipe.optim.lr"): "optim:",
    ("steps: 2\n", "recipe.attack"): "attack:",
    ("sampler: random", "knobs.loss.alpha"): "loss.alpha:",
    ("{workers: 2}", "recipe.data.batch_size"): "batch_size:",
    ("{clean: max, pgd: max}", "objectives"): "objectives:",
}


@pytest.mark.parametrize(("old", "new", "key", "expected"), MISTAKES, ids=[f"{m[2]}-{m[3][:24]}" for m in MISTAKES])
def test_a_mistake_is_found_alone_at_its_line(old: str, new: str, key: str, expected: str, path: Path) -> None:
    (problem,) = problems(written(path, (old, new)))
    place, _, sentence = problem.partition(f": {key}: ")
    planted = ELSEWHERE.get((old, key)) or new.strip().splitlines()[-1]
    assert place == f"question.yaml:{line_of(planted, path.read_text())}"
    assert expected in sentence


@pytest.mark.parametrize(
    "given", ["asha, protect_front: false", "median, keep: 1/2", "median, brackets: 1", "forecast, keep: 1/2"]
)
def test_a_stopping_rule_that_compares_one_objective_refuses_the_keys_of_others(given: str, path: Path) -> None:
    kind, key = given.split(":")[0].split(", ")
    changes = ("{clean: max, pgd: max}", "{clean: max}"), ("{after: 10}", f"{{after: 10, kind: {given}}}")
    (problem,) = problems(written(path, *changes))
    assert f"stop_early.{key}: unknown key of the kind '{kind}'" in problem


@pytest.mark.parametrize(
    ("kind", "steps", "every", "rungs"),
    [
        ("moasha", 100, 10, [60]),
        ("moasha", 20, 10, [10]),  # at its end no trial is stopped
        ("median", 80, 40, [40]),
        ("forecast", 100, 10, [10, 15, 22, 34, 51, 76]),
    ],
)
def test_a_rule_that_says_no_more_than_its_kind_begins_before_the_end(
    kind: str, steps: int, every: int, rungs: list[int], path: Path
) -> None:
    changes = ("{clean: max, pgd: max}", "{clean: max}"), ("{after: 10}", f"{{kind: {kind}}}")
    study = load_study(written(path, *changes), [f"optim.steps={steps}", f"evaluation.every={every}"])
    assert study.stop_early is not None
    assert study.stop_early.rungs(steps, every) == rungs


def test_a_rule_is_refused_where_there_is_nothing_but_the_end(path: Path) -> None:
    (problem,) = problems(written(path, ("{after: 10}", "{kind: moasha}")), "evaluation.every=20")
    assert "stop_early: stops no trial" in problem


def test_two_knobs_of_one_path_are_one_too_many(path: Path) -> None:
    again = ("storage: runs", "storage: runs"), ("  loss.alpha:", "  recipe.loss.alpha: {choice: [1]}\n  loss.alpha:")
    (problem,) = problems(written(path, *again))
    assert "knobs.loss.alpha: a second knob of the path 'loss.alpha', expected one" in problem


def test_a_recipe_that_is_wrong_as_a_whole_hides_no_mistake_of_its_knobs(path: Path) -> None:
    knobs = ("loss.alpha: {uniform: [0, 1]}", "attack.stepz: {choice: [1]}\n  attack.steps: {choice: [0]}")
    found = problems(written(path, ("steps: 2\n", "random_start: false\n"), knobs))
    assert [problem.split(": ")[1] for problem in found] == [
        "recipe.attack",
        "knobs.attack.stepz",
        "knobs.attack.steps",
    ]


def test_knobs_inside_a_part_of_no_known_kind_wait_for_it(path: Path) -> None:
    (problem,) = problems(written(path, ("{kind: fare, alpha: 0}", "{kind: fair, alpha: 0}")))
    assert "recipe.loss.kind: unknown kind" in problem


def test_knobs_that_only_fail_together_are_found_together(path: Path) -> None:
    knobs = "optim.steps: {integer: [10, 30]}\n  optim.warmup: {integer: [0, 20]}"
    (problem,) = problems(written(path, ("loss.alpha: {uniform: [0, 1]}", knobs), ("warmup: 5", "warmup: 0")))
    assert "knobs.optim.steps: the recipe is not valid at optim.steps 10, optim.warmup 20" in problem


def test_a_knob_may_put_right_what_another_needs(path: Path) -> None:
    """Every trial has a warm-up of at most 3, so that few steps are enough, whatever the recipe says alone."""
    knobs = "optim.steps: {integer: [4, 30]}\n  optim.warmup: {integer: [0, 3]}"
    study = load_study(written(path, ("loss.alpha: {uniform: [0, 1]}", knobs)))
    assert set(study.knobs) == {"optim.steps", "optim.warmup"}


def test_all_mistakes_are_found_at_once_in_the_order_of_the_file(path: Path) -> None:
    planted = [
        ("architecture", "architektur"),
        ("train: {kind: digits}", "train: {kind: numbers}"),
        ("alpha: 0}", "alpha: x}"),
        ("steps: 2\n", "steps: 2\n    random_start: false\n"),
        ("lr: 1e-3, ", ""),
        ("warmup: 5", "warmup: 50"),
        ("every: 10", "every: 0"),
        ("loss.alpha: {", "los.alpha: {"),
        ("clean: max", "klean: max"),
        ("sampler: random", "sampler: randon"),
        ("{workers: 2}", "{wokers: 2}"),
        ("storage: runs", "storage: runs\nstorage: again"),
    ]
    found = problems(written(path, *planted), "search.trials=-1", "nonsense")
    keys = [problem.split(": ")[1] for problem in found]
    assert keys == [
        "recipe.model.architektur",
        "recipe.data.train.kind",
        "recipe.loss.alpha",
        "recipe.attack",
        "recipe.optim.lr",
        "recipe.optim.warmup",
        "recipe.evaluation.every",
        "knobs.los.alpha",
        "objectives.klean",
        "search.sampler",
        "resources.wokers",
        "storage",
        "expected PATH=VALUE, such as loss.alpha=0.3",
        "expected a number of at least 1, got -1",
    ]


@pytest.mark.parametrize(
    "section", ["recipe", "knobs", "objectives", "search", "stop_early", "resources", "constraints"]
)
@pytest.mark.parametrize("value", [3, "text", [], [1], {}, {"x": {}}, None, True])
def test_no_shape_of_any_section_is_a_traceback(section: str, value: Any, path: Path) -> None:
    with contextlib.suppress(StudyError):
        assert load_study(written(path), [f"{section}={json.dumps(value)}"])


@pytest.mark.parametrize(
    "part", ["model", "data", "data.train", "loss", "attack", "attack.ball", "optim", "evaluation"]
)
@pytest.mark.parametrize("value", [3, "text", [], [1], {"kind": "pgd"}, {"kind": []}, None, 10**400])
def test_no_shape_of_any_part_of_the_recipe_is_a_traceback(part: str, value: Any, path: Path) -> None:
    assert problems(written(path), f"{part}={json.dumps(value)}")


def test_the_schema_describes_every_key_and_admits_quotients() -> None:
    schema = json_schema()
    assert schema["$schema"].endswith("2020-12/schema")
    assert set(schema["properties"]) == set(known_keys({}, ()))
    assert schema["required"] == ["recipe", "objectives"]
    kinds = {entry.get("type") for entry in schema["$defs"]["Linf"]["properties"]["eps"]["anyOf"]}
    assert kinds == {"number", "string"}
    assert not {"ge", "gt", "le", "lt"} & set(json.dumps(schema).replace('"', " ").split())
    assert "Climb the loss" in schema["$defs"]["PGD"]["description"]


def test_every_known_path_of_a_recipe_takes_a_knob(path: Path) -> None:
    study = load_study(written(path))
    paths = known_paths(study.plain)
    assert {"loss.alpha", "attack.ball.eps", "attack.stride", "evaluation.attacks.pgd.steps", "seed"} <= set(paths)
    for known in ("attack.stride", "optim.weight_decay", "evaluation.attacks.pgd.ball.eps"):
        assert load_study(written(path), [f"knobs.{known}={{uniform: [0.1, 0.2]}}"]).knobs[known]


@pytest.mark.parametrize("knob", ["seed", "recipe.seed"])
def test_a_knob_for_the_seed_and_repeats_with_other_seeds_exclude_each_other(knob: str, path: Path) -> None:
    both = ("trials: 4", "trials: 4, seeds: 2"), ("  loss.alpha:", f"  {knob}: {{integer: [0, 3]}}\n  loss.alpha:")
    (problem,) = problems(written(path, *both))
    assert "search.seeds: repeats trials with other seeds, and the seed is a knob" in problem
    assert f"expected 1, or no knob '{knob}', got 2" in problem


def test_a_study_that_was_renamed_on_the_command_line_is_gone_on_with_by_its_name(path: Path) -> None:
    file = str(written(path))
    assert _called(load_study(file)) == file
    assert _called(load_study(file, ["name=another"])) == "another"
