"""What is learnt from finished trials: importances with known answers, two trials side by side, one run again."""

import copy
import json
import math
import random
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from robustcore.recipe import recipe_from
from robustcore.storage import Folder
from sweeps.cli import main
from sweeps.results import Evaluation, Results, TrialRecord
from sweeps.study import Study, load_study
from tests.sweeps.commands import write_study
from tests.sweeps.sessions import launched
from tests.sweeps.trials import counted, repeat, trial
from trainables.resources import Demand
from trainables.trial import run_here

KNOBS = "knobs={loss.alpha: {uniform: [0, 1]}, attack.stride: {uniform: [0.1, 1]}}"


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Launched, with no trials yet."""
    monkeypatch.chdir(tmp_path)
    return load_study(str(write_study(tmp_path)), [KNOBS, "search={sampler: random, trials: 40}"])


def saved(study: Study, records: list[TrialRecord]) -> None:
    launched(study)
    results = Results(Folder(study.storage).at(study.name).at("results.parquet").uri)
    results.records = {record.trial: record for record in records}
    results.save()


def sweep(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def answered(count: int, **fields: Any) -> list[TrialRecord]:
    """Clean depends on alpha alone, pgd on the stride alone."""
    draw = random.Random(0)  # noqa: S311  # no secret
    records = []
    for number in range(count):
        alpha, stride = draw.random(), draw.uniform(0.1, 1)
        metrics = {"clean": 0.5 + 0.4 * alpha, "pgd": 0.6 - 0.5 * abs(stride - 0.4)}
        records.append(trial(number, metrics, knobs={"loss.alpha": alpha, "attack.stride": stride}, **fields))
    return records


def test_a_knob_matters_for_the_objective_that_it_decides(study: Study) -> None:
    records = answered(60)
    records += [trial(60, None, "failed", {"loss.alpha": 0.5, "attack.stride": 0.5})]
    records += [trial(61, records[0].metrics, knobs=records[0].knobs, copy_of="0000")]
    records += [repeat(records[1], 1, {"clean": 0.0, "pgd": 1.0})]
    records += [trial(62, {"clean": 0.0, "pgd": 0.0}, knobs={"loss.alpha": 7.0, "attack.stride": 0.5})]
    saved(study, records)
    found = json.loads(sweep("importance", study.path, "--format", "json").stdout)
    assert found["trials"] == 60
    for objective, (decides, other) in {
        "clean": ("loss.alpha", "attack.stride"),
        "pgd": ("attack.stride", "loss.alpha"),
    }.items():
        shares = found["importance"][objective]
        assert shares[decides] > 0.7 > 0.3 > shares[other] >= 0
        assert sum(shares.values()) == pytest.approx(1)
    lines = sweep("importance", study.path).stdout.splitlines()
    share = f"{100 * found['importance']['clean']['loss.alpha']:.0f} %"
    assert any("loss.alpha" in line and share in line for line in lines)


def test_importances_agree_with_optuna_asked_directly(study: Study) -> None:
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    records = answered(80)
    saved(study, records)
    found = json.loads(sweep("importance", study.path, "--format", "json").stdout)["importance"]["pgd"]
    told = optuna.create_study(direction="minimize")
    distributions = {path: knob.distribution() for path, knob in study.knobs.items()}
    for record in records:
        value = -record.metrics["pgd"]
        told.add_trial(optuna.create_trial(value=value, params=record.knobs, distributions=distributions))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=0.1)
    assert found == pytest.approx(get_param_importances(told, evaluator=evaluator))


@pytest.mark.parametrize(("count", "code"), [(9, 2), (10, 0)])
def test_too_few_trials_are_a_sentence(count: int, code: int, study: Study) -> None:
    saved(study, answered(count))
    done = sweep("importance", study.path)
    assert done.exit_code == code
    assert ("has 9 different finished trials, expected at least 10" in done.stderr) == (code == 2)


def test_equal_results_weigh_all_knobs_the_same(study: Study) -> None:
    records = answered(20)
    for record in records:
        record.evaluations[0].metrics.update(clean=0.5, pgd=math.nan if record.trial == "0003" else 0.5)
    saved(study, records)
    found = json.loads(sweep("importance", study.path, "--format", "json").stdout)["importance"]
    assert all(shares == pytest.approx({"loss.alpha": 0.5, "attack.stride": 0.5}) for shares in found.values())


def pair(study: Study) -> list[TrialRecord]:
    records = counted(
        [
            trial(0, {"clean": 0.95, "pgd": 0.60, "loss": 0.4}, recipe=study.recipe_at({"loss.alpha": 0.0})),
            trial(1, {"clean": 0.90, "pgd": 0.65}, recipe=study.recipe_at({"loss.alpha": 0.5, "attack.stride": 0.4})),
        ]
    )
    records[1].flags = {"square": "Square beats the gradients"}
    records[1].state, records[1].reason = "stopped", "among the worse at step 200"
    return records


def test_diff_shows_what_differs_and_nothing_else(study: Study) -> None:
    saved(study, pair(study))
    found = json.loads(sweep("diff", study.path, 0, "0001", "--format", "json").stdout)
    assert found["trials"] == ["0000", "0001"]
    assert found["states"] == ["finished", "stopped"]
    assert found["recipe"] == {"loss.alpha": [0.0, 0.5], "attack.stride": [0.25, 0.4]}
    assert found["metrics"]["pgd"]["values"] == [0.6, 0.65]
    assert found["metrics"]["pgd"]["difference"] == pytest.approx(0.05)
    (low, high), _ = found["metrics"]["pgd"]["intervals"]
    assert low < 0.6 < high
    assert found["metrics"]["loss"] == {"values": [0.4, None]}
    assert found["flags"] == [{}, {"square": "Square beats the gradients"}]
    shown = sweep("diff", study.path, 0, 1).stdout
    for words in ("loss.alpha", "attack.stride", "+5.0 points", "among the worse", "Square beats the gradients"):
        assert words in shown
    assert "optim" not in shown
    assert "the recipes are the same" in sweep("diff", study.path, 0, 0).stdout


def test_diff_names_the_nearest_trial(study: Study) -> None:
    saved(study, pair(study))
    done = sweep("diff", study.path, 0, "001")
    assert done.exit_code == 0
    unknown = sweep("diff", study.path, 0, 7)
    assert unknown.exit_code == 2
    assert "no trial '7' in the study, expected one of its trials: 0000 to 0001" in unknown.stderr


def rerunnable(study: Study) -> TrialRecord:
    """As a sweep would have left it: the recipe's own numbers, with the sweep's versions and device."""
    recipe, cache = study.recipe_at({"loss.alpha": 0.5}), Path(study.storage) / "original_embeddings"
    record = trial(0, recipe=recipe, device="cpu", versions={"torch": version("torch")})
    record.evaluations = [
        Evaluation(each.step, each.metrics, each.seconds) for each in run_here(recipe_from(recipe), Demand(), cache)
    ]
    return record


def test_a_trial_run_again_agrees_bit_for_bit_or_says_where_it_differs(study: Study) -> None:
    record = rerunnable(study)
    stopped, other = copy.deepcopy(record), copy.deepcopy(record)
    stopped.trial, stopped.state, stopped.evaluations = "0001", "stopped", stopped.evaluations[:1]
    other.trial, other.versions, other.device = "0002", {"torch": "1.0"}, "cuda:0"
    other.evaluations[0].metrics["pgd"] += 0.25
    other.evaluations[1].metrics["pgd"] += 0.125
    other.evaluations[1].metrics["of the past"] = 1.0
    saved(study, [record, stopped, other, trial(3, None, "failed", reason="the loss became nan")])

    agreed = sweep("trial", "--from", "tiny:0")
    count = sum(len(evaluation.metrics) for evaluation in record.evaluations)
    assert agreed.exit_code == 0
    assert agreed.stdout.splitlines()[-1] == (
        f"trial 0000 agrees: all {count} numbers of 2 evaluations are bit for bit the same"
    )
    assert json.loads(sweep("trial", "--from", "tiny:1", "--format", "json").stdout)["evaluations"] == 1

    done = sweep("trial", "--from", f"{study.path}:2", "--format", "json")
    found = json.loads(done.stdout)
    assert (done.exit_code, found["agrees"]) == (1, False)
    assert found["differences"].keys() == {"pgd", "of the past"}
    assert found["differences"]["pgd"] == pytest.approx(
        {"difference": 0.25, "step": 2, "was": other.evaluations[0].metrics["pgd"],
         "is": other.evaluations[0].metrics["pgd"] - 0.25}
    )  # fmt: skip
    assert [note.split(" is ")[0] for note in found["notes"]] == ["torch", "the device"]

    refused = sweep("trial", "--from", "tiny:3")
    assert refused.exit_code == 2
    assert "trial 0003 is failed (the loss became nan), expected a finished or a stopped one" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "expected a STUDY"),
        (["tiny.yaml", "--from", "tiny:0"], "expected a STUDY"),
        (["--from", "tiny:0", "--set", "seed=1"], "expected a STUDY"),
        (["--from", "tiny"], "--from tiny: expected STUDY:TRIAL, such as alpha_study:7"),
        (["--from", "tiny:0"], "no results in"),
    ],
)
def test_a_request_to_run_again_that_cannot_be_meant_is_refused(
    arguments: list[str], expected: str, study: Study
) -> None:
    done = sweep("trial", *arguments)
    assert done.exit_code == 2
    assert expected in done.stderr
