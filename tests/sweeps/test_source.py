"""Study text: where it is found, what is not YAML, on which line each key stands, and what ``--set`` makes of it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweeps.source import Source, StudyError, named, read_source, shipped_studies
from sweeps.source.settings import STUDY_KEYS
from sweeps.study.keys import StudyFile

TEXT = """\
name: x
recipe:
  loss: {kind: fare, alpha: 4/255}
  attack: &pgd
    kind: pgd
    steps: 1e1
  evaluation:
    attacks: {pgd: {<<: *pgd, steps: 20}}
    datasets:
      cifar10.1: {kind: parquet}
knobs:
  loss.alpha: {uniform: [0, 1]}
objectives: {clean: max}
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(TEXT)
    return path


def refused(path: Path | str, *settings: str) -> str:
    with pytest.raises(StudyError) as caught:
        read_source(str(path), settings)
    return str(caught.value)


def left_over(source: Source) -> list[str]:
    return [str(problem) for problem in source.problems]


def test_values_are_as_yaml_has_them_and_quotients_stay_text(study: Path) -> None:
    data = read_source(str(study)).data
    assert data["recipe"]["loss"] == {"kind": "fare", "alpha": "4/255"}
    assert data["recipe"]["attack"] == {"kind": "pgd", "steps": 10.0}


def test_words_that_only_old_yaml_takes_for_dates_or_flags_are_text(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("a: [on, no, 2024-01-01, 1:30, 0123, true, ~, -3, 1e-5, .5]")
    values = read_source(str(path)).data["a"]
    assert values == ["on", "no", "2024-01-01", "1:30", "0123", True, None, -3, 1e-5, 0.5]


def test_a_merge_key_takes_over_what_is_not_written(study: Path) -> None:
    data = read_source(str(study)).data
    assert data["recipe"]["evaluation"]["attacks"]["pgd"] == {"kind": "pgd", "steps": 20}


@pytest.mark.parametrize("study", shipped_studies())
def test_a_shipped_study_reads_as_any_yaml_parser_reads_it(study: str) -> None:
    source = read_source(study)
    assert set(source.data) == set(yaml.safe_load(source.text))


@pytest.mark.parametrize("suffix", ["", ".yaml"])
def test_a_bare_name_is_a_shipped_study_though_a_folder_has_its_name(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alpha_study").mkdir()
    assert read_source(f"alpha_study{suffix}").data["name"] == "alpha_study"


def test_every_key_has_the_line_it_stands_on(study: Path) -> None:
    source = read_source(str(study))
    for keys, line in [
        (("recipe", "loss", "alpha"), 3),
        (("recipe", "attack", "steps"), 6),
        (("knobs", "loss.alpha"), 12),
    ]:
        place = f"{study}:{line}: {'.'.join(keys)}"
        assert str(source.problem(keys, "no")) == f"{place}: no"


def test_a_missing_key_has_the_line_of_what_should_hold_it(study: Path) -> None:
    assert read_source(str(study)).problem(("recipe", "loss", "x"), "").place == f"{study}:3: recipe.loss.x"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", ":1: expected a mapping with the keys of a study, got nothing"),
        (b"# only a comment\n", "got nothing"),
        (b"- a\n- b\n", "got a list"),
        (b"3", "got a value"),
        (b"PAR1\0\0", "a binary file"),
        ("name: ü".encode("latin-1"), ":1: expected text in UTF-8"),
        (b"name: x\nrecipe:\n\tseed: 0\n", ":3: a tab cannot indent YAML; expected spaces"),
        (b"a: b: c", ":1: not valid YAML"),
        (b"a: 1\nb: [1\n", ":3: not valid YAML"),
        (b"constraints: {clean: >= 0.6}", "text with special characters needs quotes"),
        (b"a: *nothing", "undefined alias"),
        (b"a: 1\n---\nb: 2\n", ":2: a second document"),
        (b"a: \x01", "0x1"),
        (b"a: &a [*a]", "at most 10000 values"),
        (b"[" * 5000, "deep"),
        (b"a: " + b"[" * 100 + b"]" * 100, "40 deep"),
        (
            b"a: &a [1,1,1,1,1,1,1,1,1]\n"
            + b"".join(b"%c: &%c [%s]\n" % (n, n, b",".join([b"*%c" % (n - 1)] * 9)) for n in range(98, 110)),
            "at most 10000 values",
        ),
        (b"x" * (2**20 + 1), "more than 1 MiB"),
    ],
)
def test_what_is_no_study_is_refused_with_its_line(content: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(content)
    assert expected in refused(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", ":3: a: the key stands twice, first on line 1"),
        ("k:\n  x: 1\n  x: 2\n", ":3: k.x: the key stands twice, first on line 2"),
        ("1: 2\n", ":1: expected text as a key, got 1"),
        ("? [a]\n: 3\n", ":1: expected text as a key, got a list or mapping"),
        ("a: !!python/object/apply:os.system ['true']\n", ":1: a: expected a plain value, got one with the tag"),
        ("a: !!binary aGk=\n", "expected a plain value"),
        ("a: !!int many\n", ":1: a: expected int, got 'many'"),
        ("<<: 3\n", "expected a mapping after <<"),
    ],
)
def test_smaller_mistakes_leave_the_rest_readable(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(f"{text}last: 5\n")
    source = read_source(str(path))
    assert any(expected in problem for problem in left_over(source))
    assert source.data["last"] == 5


def test_a_missing_study_is_told_its_nearest_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("a: 1")
    assert refused("alpha_studi").endswith("did you mean 'alpha_study'?")
    assert refused("mime.yaml").endswith("did you mean 'mine.yaml'?")
    assert "expected a study file, got a folder" in refused(tmp_path)
    assert "expected a study file" in refused("x" * 5000)


@pytest.mark.parametrize(
    ("setting", "keys", "value"),
    [
        ("loss.alpha=4/255", ("recipe", "loss", "alpha"), "4/255"),
        ("recipe.loss.alpha=2", ("recipe", "loss", "alpha"), 2),
        ("loss={kind: tecoa}", ("recipe", "loss"), {"kind": "tecoa"}),
        ("search.trials=3", ("search", "trials"), 3),
        ("stop_early=null", ("stop_early",), None),
        ("optim.betas=[0.8, 0.9]", ("recipe", "optim", "betas"), [0.8, 0.9]),
        ("objectives.pgd=max", ("objectives", "pgd"), "max"),
        ("constraints.clean=>= 0.6", ("constraints", "clean"), ">= 0.6"),
        ("knobs.attack.ball.eps={choice: [1, 2]}", ("knobs", "attack.ball.eps"), {"choice": [1, 2]}),
        ("evaluation.datasets.cifar10.1.limit=5", ("recipe", "evaluation", "datasets", "cifar10.1", "limit"), 5),
        ("name=", ("name",), None),
    ],
)
def test_a_setting_changes_the_value_at_its_path_and_is_its_place(
    setting: str, keys: tuple[str, ...], value: Any, study: Path
) -> None:
    source = read_source(str(study), [setting])
    assert not source.problems
    found: Any = source.data
    for key in keys:
        found = found[key]
    assert found == value
    assert str(source.problem(keys, "no")) == f"--set {setting}: no"


def test_a_later_setting_wins_and_what_is_below_it_is_its_own(study: Path) -> None:
    source = read_source(str(study), ["loss.alpha=1", "loss={kind: fare, alpha: 2}"])
    assert source.at("recipe", "loss", "alpha") == 2
    assert source.problem(("recipe", "loss", "alpha"), "").place == (
        "--set loss={kind: fare, alpha: 2}: recipe.loss.alpha"
    )


def test_setting_a_knobs_path_pins_it(study: Path) -> None:
    source = read_source(str(study), ["loss.alpha=0.3"])
    assert source.data["knobs"] == {}
    assert source.pinned == ["loss.alpha"]
    assert source.at("recipe", "loss", "alpha") == 0.3


def test_null_takes_a_knob_out_and_leaves_the_recipe(study: Path) -> None:
    for setting in ("loss.alpha=null", "knobs.loss.alpha=null"):
        source = read_source(str(study), [setting])
        assert source.data["knobs"] == {}
        assert source.at("recipe", "loss", "alpha") == "4/255"


def test_a_pinned_knob_can_be_set_free_again(study: Path) -> None:
    source = read_source(str(study), ["loss.alpha=0.3", "knobs.loss.alpha={choice: [1]}"])
    assert source.pinned == []
    assert source.data["knobs"] == {"loss.alpha": {"choice": [1]}}


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("loss.alpha", "expected PATH=VALUE"),
        ("=3", "expected PATH=VALUE"),
        ("loss..alpha=3", "expected PATH=VALUE"),
        ("loss.alpha={", "not valid YAML"),
        ("loss.alpha={a: 1, a: 2}", "stands twice"),
        ("loss.alpha.deep=3", "'recipe.loss.alpha' is a value and has no keys"),
        ("knobs.loss.alfa=null", "did you mean 'loss.alpha'?"),
        ("loss=!!python/name:os.system", "the tag"),
    ],
)
def test_a_wrong_setting_is_a_problem_at_its_own_place(setting: str, expected: str, study: Path) -> None:
    (problem,) = left_over(read_source(str(study), [setting]))
    assert problem.startswith(f"--set {setting}: ")
    assert expected in problem


def test_a_path_on_the_command_line_is_meant_from_the_current_folder(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    (here / "openai").mkdir(parents=True)
    (here / "data.parquet").touch()
    monkeypatch.chdir(here)
    settings = ["data.train={kind: parquet, path: data.parquet}", "model.weights=openai", "storage=absent"]
    data = read_source(str(study), settings).data
    assert data["recipe"]["data"]["train"]["path"] == str(here / "data.parquet")
    assert data["recipe"]["model"]["weights"] == "openai"  # a folder that holds no model is not what the tag means
    assert data["storage"] == "absent"


def test_a_password_in_a_setting_is_not_repeated(study: Path) -> None:
    source = read_source(str(study), ["storage=s3://key:secret@bucket/x"])
    assert "secret" not in str(source.problem(("storage",), "no"))


def test_a_study_is_found_by_name_without_reading_the_rest(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other one.yaml").write_text("storage: s3://b/c\nrecipe: nonsense")
    assert named(str(study)) == ("x", str(tmp_path / "runs"))
    assert named("other one.yaml") == ("other-one", "s3://b/c")
    assert named("launched-elsewhere") == ("launched-elsewhere", str(tmp_path / "runs"))
    with pytest.raises(StudyError, match="no such file"):
        named("no/such.yaml")


def test_the_study_keys_of_settings_are_those_of_the_study() -> None:
    assert set(STUDY_KEYS) == set(StudyFile.__dataclass_fields__)


def test_the_names_of_shipped_studies_cost_no_heavy_import() -> None:
    code = (
        "import sys; from sweeps.source import shipped_studies; assert 'alpha_study' in shipped_studies();"
        "heavy = {'torch', 'ray', 'pydantic', 'yaml', 'optuna', 'numpy', 'pyarrow'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
