"""The simulator: its bookkeeping on a hand-made surface, its decisions beside a sweep's own, surfaces of any origin."""

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from robustcore.errors import InputError
from sweeps.cli import main
from sweeps.cube import Array, Knobs, from_cube, to_cube
from sweeps.results import Evaluation, Results, TrialRecord
from sweeps.simulate import Surface, recorded
from sweeps.simulate.compare import Run, rows, run, yardstick
from sweeps.simulate.policies import STANDARD, Policy, read_policy
from sweeps.simulate.simulator import Ended, simulate
from sweeps.simulate.surfaces import SHIPPED, surface_at
from sweeps.study import StopEarly, Study, load_study
from tests.sweeps.sessions import Session, result, session

STEPS = (10, 20, 30, 40)
KNOBS = "knobs={loss.alpha: {uniform: [0, 1]}, attack.ball.eps: {uniform: [0, 1]}}"
SETTINGS = [KNOBS, "recipe.optim.steps=40", "recipe.evaluation.every=10", "name=made"]


def made_study(*settings: str) -> Study:
    return load_study("alpha_study", [*SETTINGS, "search={sampler: random, trials: 40}", *settings])


def made_curves(recipes: Sequence[Knobs]) -> Array:
    """Both objectives grow linearly to (alpha, 1 - alpha), less what the radius takes."""
    ends = np.array([[knobs["loss.alpha"], 1 - float(knobs["loss.alpha"])] for knobs in recipes])  # type: ignore[arg-type]
    ends *= 1 - 0.5 * np.array([[knobs["attack.ball.eps"]] for knobs in recipes])
    return ends[:, None, :] * (np.array(STEPS) / 40)[:, None]


def made(noise: float = 0.0) -> Surface:
    """What a file of a user's own would hold."""
    return Surface(made_study(), STEPS, made_curves, noise)


def played(surface: Surface, study: Study, slots: int = 3, budget: float = 12.0) -> list[Ended]:
    return list(simulate(surface, study, slots, budget))


def stopping(study: Study, **keys: object) -> Study:
    return dataclasses.replace(study, stop_early=StopEarly(**{"after": 10, **keys}))  # type: ignore[arg-type]


def test_without_stopping_slots_are_never_idle_and_every_trial_costs_one() -> None:
    ended = played(made(), made_study())
    assert [each.record.state for each in ended] == ["finished"] * 12
    assert [each.time for each in ended] == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert [each.record.trial for each in ended] == [f"{number:04d}" for number in range(12)]
    assert ended[-1].spent == 12  # the others have just begun


def test_compute_is_what_was_reported_of_all_trials_and_stopped_ones_free_their_slot() -> None:
    ended = played(made(), stopping(made_study(), keep=0.5), slots=1)
    assert {each.record.state for each in ended} == {"finished", "stopped"}
    for before, after in pairwise([0.0, *(each.spent for each in ended)]):
        assert after > before
    for each, before in zip(ended, [0.0, *(each.spent for each in ended)], strict=False):
        assert each.spent - before == pytest.approx(each.record.step / 40)  # alone, a trial spends what it reports
        assert each.time == pytest.approx(each.spent)


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2", "gp"])
def test_a_seed_decides_everything(sampler: str) -> None:
    search = dataclasses.replace(made_study().search, sampler=sampler)
    one, again = (played(made(0.05), stopping(dataclasses.replace(made_study(), search=search))) for _ in range(2))
    assert one == again
    other = dataclasses.replace(search, seed=1)
    assert one != played(made(0.05), stopping(dataclasses.replace(made_study(), search=other)))


def test_who_decides_cannot_look_ahead() -> None:
    """Curves that are changed after a moment change nothing that ended before it."""

    def bent(recipes: Sequence[Knobs]) -> Array:
        curves = made_curves(recipes)
        curves[:, 2:] = 1 - curves[:, 2:]
        return curves

    study = stopping(made_study("search.sampler=tpe"), keep=0.5)
    straight, other = (played(Surface(study, STEPS, curves), study, 12) for curves in (made_curves, bent))
    early = [each for each in straight if each.time < 0.75]  # nobody has come to the third evaluation
    assert len(early) >= 3
    assert other[: len(early)] == early
    assert straight != other


@pytest.mark.parametrize("seed", [0, 1])
def test_decisions_are_those_of_a_sweep_that_hears_the_same(seed: int, tmp_path: Path) -> None:
    surface = made(0.05)
    study = stopping(made_study(f"search.seed={seed}", f"storage={tmp_path}", "search.sampler=tpe"), keep=0.5)
    ended = played(surface, study)
    sweep = session(study, total=1000)
    for trial, report in events(ended, slots=3, begin=sweep):
        outcome = result(report.step, final=report.step == 40) | {"metrics": report.metrics}
        goes_on = sweep.sweep.goes_on(trial, outcome)
        sweep.sweep.evaluated(trial, outcome)
        if not goes_on or outcome["final"]:
            sweep.sweep.ended(trial)
    told = {record.trial: (record.state, record.step, record.knobs) for record in sweep.records}
    assert len(ended) > 12
    for each in ended:
        assert told[each.record.trial] == (each.record.state, each.record.step, each.record.knobs)


def events(ended: list[Ended], slots: int, begin: Session) -> Iterator[tuple[str, Evaluation]]:
    """The reports of the trials that ended, as they came in time; each freed slot begins the sweep's next trial."""
    records = {each.record.trial: each.record for each in ended}
    starts = {begin.begin(): 0.0 for _ in range(slots)}
    for each in ended:
        starts[f"{len(starts):04d}"] = each.time
    reports = sorted(
        (starts[trial] + report.seconds, trial, report) for trial, record in records.items()
        for report in record.evaluations
    )  # fmt: skip
    for _, trial, report in reports:
        yield trial, report
        if report is records[trial].evaluations[-1]:
            begin.begin()


def test_the_same_knobs_are_not_paid_for_twice() -> None:
    study = made_study("knobs={loss.alpha: {choice: [0.25, 0.5, 0.75]}}")

    def curves(recipes: Sequence[Knobs]) -> Array:
        return made_curves([{**knobs, "attack.ball.eps": 0.0} for knobs in recipes])

    ended = played(Surface(study, STEPS, curves), study, slots=2, budget=50)
    assert sorted(str(each.record.knobs["loss.alpha"]) for each in ended) == ["0.25", "0.5", "0.75"]


def test_hypervolume_is_a_share_of_the_best_known_front() -> None:
    """The best recipes lie on clean + pgd = 1; a quarter of the random ones is below the reference in each."""
    measure = yardstick(made())
    corner = measure.reference
    assert corner == pytest.approx([0.17, 0.17], abs=0.02)
    assert measure.best == pytest.approx((1 - corner.sum()) ** 2 / 2, rel=0.02)
    one = run(made(), measure, Policy("random", "random"), 0, 3, 30.0)
    assert one.trials == 30
    assert list(one.shares) == sorted(one.shares)
    assert 0.3 < one.shares[-1] <= 1.01


def test_the_table_counts_from_the_first_moment_at_the_target() -> None:
    plain = [Run(seed, 10, (1.0, 20.0, 40.0), (0.5, 0.9, 0.96)) for seed in range(3)]
    better = [Run(seed, 10, (1.0, 10.0), (0.1, 0.97)) for seed in range(3)]
    found = {row.policy: row for row in rows("made", {"tpe": plain, "random": plain, "new": better}, 2, 64.0)}
    assert (found["tpe"].best.quartiles, found["new"].best.quartiles) == ((40.0,) * 3, (10.0,) * 3)
    assert found["new"].best.ratio == 4
    assert found["new"].behind == pytest.approx(0.4)  # before its good one has finished
    assert math.isinf(rows("made", {"tpe": plain}, 2, 64.0)[0].best.quartiles[0]) is False
    never = [dataclasses.replace(one, shares=(0.1, 0.2, 0.3)) for one in plain]
    beside = rows("made", {"tpe": never, "new": better}, 2, 64.0)[1]
    assert beside.best.is_least
    assert beside.plain is not None
    assert beside.plain.quartiles == (10.0,) * 3  # of 95% of 0.3, which TPE needs its whole budget for
    assert (beside.plain.ratio, beside.plain.is_least) == (4, False)


def study_with_results(folder: Path) -> Results:
    """A finished study of 30 trials, with one of other steps, one that failed and a copy."""
    study = made_study(f"storage={folder}")
    results = Results(f"{folder}/made/results.parquet")
    places = from_cube(study.knobs, np.random.default_rng(0).random((33, 2)))
    for number, knobs in enumerate(places):
        record = TrialRecord(f"{number:04d}", knobs, study.recipe_at(knobs), f"{number}", 0, "finished")
        for report in made().reports(knobs, (0, number)):
            record.record(report)
        results.records[record.trial] = record
    results.records["0030"].evaluations.pop(1)
    results.records["0031"].state, results.records["0032"].copy_of = "failed", "0000"
    results.save()
    (folder / "made" / "study.json").write_text(json.dumps(study.as_json()))
    return results


@pytest.mark.parametrize("place", ["{}/made", "{}/made/results.parquet"])
def test_the_results_of_a_study_are_a_surface(place: str, tmp_path: Path) -> None:
    results = study_with_results(tmp_path)
    surface = surface_at(place.format(tmp_path))
    assert surface.steps == STEPS
    assert surface.sentence == "30 recorded trials of made"
    known = list(results.records.values())[:30]
    found = surface.curves([record.knobs for record in known])
    told = np.array([[[e.metrics[n] for n in ("clean", "pgd")] for e in record.evaluations] for record in known])
    assert np.abs(found - told).max() < 0.25  # mixed with the neighbours
    assert np.abs(found - told).mean() < 0.06
    near = to_cube(surface.study.knobs, [known[0].knobs]) * (1 - 1e-7)
    moved = surface.curves(from_cube(surface.study.knobs, near))
    assert moved == pytest.approx(found[:1], abs=1e-4)


def test_too_few_trials_are_no_surface(tmp_path: Path) -> None:
    results = study_with_results(tmp_path)
    results.records = dict(list(results.records.items())[:5])
    with pytest.raises(InputError, match="at least 8 finished trials that were evaluated at the same steps, got 5"):
        recorded(made_study(), results)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_surfaces_are_accuracies_of_their_own_study(name: str) -> None:
    surface = SHIPPED[name]()
    recipes = from_cube(surface.study.knobs, np.random.default_rng(0).random((64, len(surface.study.knobs))))
    curves = surface.curves(recipes)
    assert curves.shape == (64, len(surface.steps), 2)
    assert (curves >= 0).all()
    assert (curves <= 1).all()
    assert surface.steps[-1] == surface.study.recipe.optim.steps
    assert np.ptp(curves[:, -1], axis=0).min() > 0.2  # knobs matter


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("tpee", "no sampler 'tpee'; did you mean 'tpe'?"),
        ("tpe+[", "expected SAMPLER\\+moasha or keys of stop_early"),
        ("tpe+{keeep: 0.5}", "keys of stop_early"),
        ("tpe+{keep: 2}", "keys of stop_early"),
    ],
)
def test_a_policy_that_is_none_is_a_sentence(policy: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_policy(policy)


def test_policies_stop_as_they_say() -> None:
    plans = [read_policy(policy).stop_early() for policy in (*STANDARD, "tpe+{keep: 1/4, after: 30}")]
    assert plans[:2] == [None, StopEarly()]
    assert plans[-1] == StopEarly(after=30, keep=0.25)


def test_the_command_prints_a_table_and_draws_it_for_surfaces_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("from tests.sweeps.test_simulate import made\n")
    table, figure = tmp_path / "table.md", tmp_path / "figure.png"
    arguments = ["simulate", "--surface", f"{tmp_path}/own.py:made", "--policy", "random", "--policy", "tpe+moasha"]
    outs = ["--out", str(table), "--out", str(figure)]
    done = CliRunner().invoke(
        main, [*arguments, "--seeds", "1", "--slots", "2", "--budget", "6", "--processes", "1", *outs]
    )
    assert done.exit_code == 0, done.output
    assert table.read_text() in done.stdout + "\n"
    lines = table.read_text().splitlines()
    assert [line.split("|")[2].strip() for line in lines[2:]] == ["random", "tpe+moasha"]
    assert figure.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--surface", "nowhere.py:it"], "there is no file nowhere.py"),
        (["--surface", "smoooth"], "smoooth"),
        (["--out", "a.gif"], "expected a file that ends in .png or .md"),
    ],
)
def test_what_cannot_be_simulated_is_a_sentence(arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(main, ["simulate", *arguments])
    assert done.exit_code == 2
    assert words in done.stderr
    assert "Traceback" not in done.output
