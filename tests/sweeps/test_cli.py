"""The `sweep` command: what it says and refuses, and that asking it costs nothing; sweeps themselves run elsewhere."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from sweeps.cli import main
from sweeps.results import Results
from sweeps.source import shipped_studies
from sweeps.study import load_study
from tests.sweeps.commands import COMMAND, STUDY, write_study
from tests.sweeps.trials import counted, trial

HEAVY = ("torch", "ray", "mlflow", "pyarrow", "optuna", "pydantic", "matplotlib", "plotly", "numpy", "rich", "yaml")
VERBS = sorted(main.commands)
TAKE_A_STUDY = [verb for verb in VERBS if verb not in ("schema", "simulate", "evaluate", "cluster")]
STARTING = ("check", "trial", "launch")  # they read the study file
READING = ("status", "front", "resume")  # they read what a launch left

# One mistake each in three parts of the file.
PLANTED = (
    STUDY.replace("alpha: 0}", "alpha: zero}")
    .replace("optim: {lr: 1e-3", "optim: {lrr: 1, lr: 1e-3")
    .replace("clean: max", "clear: max")
)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def sweep(*arguments: object) -> Result:
    """One command in this process; an exception that is not an exit would be a bug, and is raised."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert "Traceback" not in result.output
    return result


def refused(*arguments: object) -> list[str]:
    """The lines on stderr of a command that must find the request wrong, and say nothing else."""
    result = sweep(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    return result.stderr.splitlines()


def completions(*words: str) -> list[str]:
    """What the shell is told for the last of ``words``."""
    done = subprocess.run(
        COMMAND,
        env={
            **os.environ,
            "_SWEEP_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(["sweep", *words]),
            "COMP_CWORD": str(len(words)),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def everything_in(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_what_it_does_and_explains_its_options(verb: str) -> None:
    result = sweep(verb, "--help")
    assert result.exit_code == 0
    usage, _, rest = result.stdout.partition("\n")
    assert usage.startswith(f"Usage: main {verb} [OPTIONS]" + (" STUDY" if verb in TAKE_A_STUDY else ""))
    assert re.search(r"^  \w.*\.$", rest, re.MULTILINE)
    assert sweep(verb, "-h").stdout == result.stdout


def test_the_command_lists_every_verb_with_a_sentence() -> None:
    printed = sweep("--help").stdout
    for verb in VERBS:
        assert re.search(rf"^  {verb} +\w.*\.", printed, re.MULTILINE)


@pytest.mark.parametrize("arguments", [["--help"], ["launch", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    run = [sys.executable, "-X", "importtime", *COMMAND, *arguments]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert {"click", "sweeps"} <= imported
    assert imported.isdisjoint(HEAVY)


def test_the_shell_completes_verbs_shipped_studies_and_files() -> None:
    assert {f"plain,{verb}" for verb in VERBS} <= set(completions(""))
    for verb in ("launch", "status"):
        offered = completions(verb, "")
        assert [line for line in offered if line.startswith("plain,")] == [f"plain,{s}" for s in shipped_studies()]
        assert any(line.startswith("file,") for line in offered)
    assert "plain,alpha_study" not in completions("launch", "cif")


@pytest.mark.parametrize("verb", STARTING)
def test_every_planted_mistake_is_one_line_and_nothing_is_created(verb: str, tmp_path: Path) -> None:
    study = write_study(tmp_path, PLANTED)
    before = everything_in(tmp_path)
    lines = refused(verb, study)
    assert [line.removeprefix(f"{study}:").split(": ")[1] for line in lines] == [
        "recipe.loss.alpha",
        "recipe.optim.lrr",
        "objectives.clear",
    ]
    assert all(re.match(rf"{re.escape(str(study))}:\d+: ", line) for line in lines)
    assert "expected a number" in lines[0]
    assert "unknown key; did you mean 'lr'?" in lines[1]
    assert "did you mean 'clean'?" in lines[2]
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize("verb", STARTING)
@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("los.alpha=1", "unknown key; did you mean 'loss'?"),
        ("optim.steps=many", "expected a number"),
        ("search.sampler=tpee", "did you mean 'tpe'?"),
        ("alpha", "expected PATH=VALUE"),
        ("resources.cpus=1000000", "1e+06 CPUs"),
        ("storage=/proc/none", "/proc/none"),
    ],
)
def test_a_wrong_setting_is_named_and_nothing_is_created(
    verb: str, setting: str, expected: str, tmp_path: Path
) -> None:
    study = write_study(tmp_path)
    before = everything_in(tmp_path)
    (line,) = refused(verb, study, "--set", setting)
    assert line.startswith(f"--set {setting}")
    assert expected in line
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize("verb", STARTING)
@pytest.mark.parametrize(
    ("study", "expected"),
    [
        ("alpha_stuby", "no such file; expected a path or one of the shipped studies"),
        ("alpha_stuby", "did you mean 'alpha_study'?"),
        ("cifar10_alfa.yaml", "did you mean 'cifar10_alpha.yaml'?"),
        (".", "expected a study file, got a folder"),
    ],
)
def test_an_unknown_study_is_told_the_nearest_name(verb: str, study: str, expected: str) -> None:
    (line,) = refused(verb, study)
    assert line.startswith(f"{study}: ")
    assert expected in line


@pytest.mark.parametrize("verb", READING)
@pytest.mark.parametrize("given", ["path", "shipped", "unknown"])
def test_a_study_that_was_never_launched_has_nothing_to_read(verb: str, given: str, tmp_path: Path) -> None:
    study = {"path": str(write_study(tmp_path)), "shipped": "alpha_study", "unknown": "beta_study"}[given]
    before = everything_in(tmp_path)
    (line,) = refused(verb, study, "--storage", tmp_path / "runs")
    assert line.startswith(f"no results in {tmp_path}/runs/{'tiny' if given == 'path' else study}")
    assert "`sweep launch`" in line
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize("verb", READING)
def test_a_study_file_that_cannot_be_read_is_a_sentence_for_readers_too(verb: str, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("name: [unclosed")
    assert all(line.startswith("broken.yaml:") for line in refused(verb, "broken.yaml"))


@pytest.mark.parametrize("verb", READING)
def test_results_that_are_damaged_are_a_sentence(verb: str, tmp_path: Path) -> None:
    study = write_study(tmp_path)
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    (folder / "study.json").write_text(json.dumps(load_study(str(study)).as_json()))
    (folder / "results.parquet").write_bytes(b"PAR1 but not for long")
    (line,) = refused(verb, study)
    assert "results.parquet: expected the results of a sweep" in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["lunch", "alpha_study"],
        ["launch"],
        ["launch", "alpha_study", "again"],
        ["launch", "alpha_study", "--trials", "0"],
        ["launch", "alpha_study", "--trails", "3"],
        ["launch", "alpha_study", "--address", "nonsense"],
        ["resume", "alpha_study", "--address", "ftp://127.0.0.1:6379"],
        ["launch", "alpha_study", "--address", "http://me:secret@127.0.0.1:8265"],
        ["attach", "alpha_study", "--address", "auto"],
        ["stop", "alpha_study"],
        ["check", "alpha_study", "--format", "xml"],
        ["front", "alpha_study", "--out", "."],
    ],
)
def test_a_request_that_is_no_request_shows_the_usage(arguments: list[str]) -> None:
    lines = refused(*arguments)
    assert lines[0].startswith("Usage: main")
    assert lines[-1].startswith("Error: ")


@pytest.mark.parametrize("sampler", ["random", "grid"])
def test_check_prints_the_plan_for_programs(sampler: str, tmp_path: Path) -> None:
    study = write_study(tmp_path)
    before = everything_in(tmp_path)
    settings = ["--set", f"search={{sampler: {sampler}, trials: 7}}", "--set", "resources.at_once=1"]
    result = sweep("check", study, *settings, "--format", "json")
    assert result.exit_code == 0
    plan = json.loads(result.stdout)
    assert plan["trials"] == (2 if sampler == "grid" else 7)
    assert plan["at_once"] == 1
    assert plan["knobs"] == {"loss.alpha": {"choice": [0, 1]}}
    assert plan["objectives"] == {"clean": "max", "pgd": "max"}
    assert plan["recipe"]["attack"]["ball"]["eps"] == 16 / 255
    # 4 steps of 32 images, then 2 evaluations of 400 digits, one gradient each
    assert plan["cost"]["attack_steps"] == {"least": 4 * 32 + 2 * 400, "most": 4 * 32 + 2 * 400}
    assert plan["notes"] == []
    assert everything_in(tmp_path) == before


def test_check_prints_the_plan_for_people(tmp_path: Path) -> None:
    result = sweep("check", write_study(tmp_path), "--set", "optim.steps=8")
    assert result.exit_code == 0
    assert "eps: 16/255" in result.stdout
    plan = yaml.safe_load(result.stdout)
    assert (plan["trials"], plan["recipe"]["optim"]["steps"]) == (2, 8)
    assert plan["cost of each trial"]["steps"] == 8


@pytest.mark.parametrize("study", shipped_studies())
def test_a_shipped_study_passes_the_check_or_names_what_must_be_given(study: str) -> None:
    result = sweep("check", study)
    missing = [line for line in result.stderr.splitlines() if "no such" not in line]
    assert not missing
    assert result.exit_code == (2 if result.stderr else 0)


def test_trial_ends_with_exactly_the_metrics_of_the_evaluation(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    before = everything_in(tmp_path)
    result = sweep("trial", study, "--format", "json")
    assert result.exit_code == 0
    metrics = json.loads(result.stdout.splitlines()[-1])
    assert sorted(metrics) == sorted(load_study(str(study)).recipe.metrics())
    assert all(0 <= value <= 1 for name, value in metrics.items() if name != "loss")
    left = {path.relative_to(tmp_path).parts[:2] for path in everything_in(tmp_path) - before}
    assert left <= {("runs",), ("runs", "original_embeddings")}
    # The same numbers again, one line an evaluation.
    lines = sweep("trial", study).stdout.splitlines()
    assert [line.split(" of ")[0].split() for line in lines] == [["step", "2"], ["step", "4"]]
    for name in ("clean", "pgd", "worst", "loss"):
        assert f"{name} {metrics[name]:.4f}" in lines[-1]


def test_a_trial_that_diverges_has_failed_and_the_request_was_right(tmp_path: Path) -> None:
    result = sweep("trial", write_study(tmp_path), "--set", "optim.lr=1e30")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "the training loss became" in line
    assert "smaller optim.lr" in line


def test_a_front_with_confidence_keeps_whom_noise_does_not_separate_from_it(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    folder = tmp_path / "runs" / "tiny"
    results = Results(str(folder / "results.parquet"))
    points = [(0.95, 0.60), (0.94, 0.58), (0.93, 0.30)]
    records = counted([trial(number, {"clean": c, "pgd": p}) for number, (c, p) in enumerate(points)])
    results.records = {record.trial: record for record in records}
    results.save()
    (folder / "study.json").write_text(json.dumps(load_study(str(path)).as_json()))

    def members(*options: object) -> list[str]:
        printed = sweep("front", path, "--storage", tmp_path / "runs", "--format", "json", *options)
        return [record["trial"] for record in json.loads(printed.stdout)]

    assert members() == ["0000"]
    assert members("--confidence", 0.95) == ["0001", "0000"]
    assert members("--confidence", 0.05) == ["0000"]
    for wrong in (0, 1, 95):
        assert "not in the range" in refused("front", path, "--confidence", wrong)[-1]
