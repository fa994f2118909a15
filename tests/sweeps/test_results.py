"""Results outlive the process: what is saved comes back exactly, and no kill loses any of it."""

import json
import math
import random
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from sweeps.results import Evaluation, Results, TrialRecord, Value
from tests.sweeps.trials import study, trial


def saved(path: str | Path, records: list[TrialRecord]) -> Results:
    results = Results(str(path))
    results.records = {record.trial: record for record in records}
    results.save()
    return results


def content(records: dict[str, TrialRecord]) -> str:
    """As text, in which NaN equals NaN and 1 differs from 1.0."""
    return json.dumps({name: asdict(record) for name, record in records.items()}, sort_keys=True)


KNOBS: dict[str, list[Value]] = {
    "floats": [0.1, -0.0, 1e300, math.nan, math.inf],
    "integers": [1, -7, 2**53 + 1, 0, 5],
    "integers beyond 64 bits": [2**70, 1, 2, 3, 4],
    "texts": ["a", "", "ü\n\t", '"quoted"', "null"],
    "broken text": ["\udcff", "a", "b", "c", "d"],
    "truths": [True, False, True, True, False],
    "integers and floats": [1, 1.0, 2, 2.5, 0],
    "truths and integers": [True, 1, False, 0, 2],
    "numbers and None": [None, 1.5, None, 2.5, 3.5],
    "only None": [None, None, None, None, None],
    "everything": [None, 1, 1.0, "1", True],
}


@pytest.mark.parametrize("kind", KNOBS)
@pytest.mark.parametrize("path", ["loss.alpha", "seed", "state", "recipe", "clean"])
def test_knobs_of_any_kind_and_name_come_back_as_they_were(tmp_path: Path, kind: str, path: str) -> None:
    records = [trial(i, {"clean": 0.5}, knobs={path: value}) for i, value in enumerate(KNOBS[kind])]
    records.append(trial(5, {"clean": 0.5}, knobs={}))
    before = saved(tmp_path / "results.parquet", records)
    assert content(Results.read(before.uri).records) == content(before.records)


@pytest.mark.parametrize("seed", range(5))
def test_random_sweeps_come_back_as_they_were(tmp_path: Path, seed: int) -> None:
    random_ = random.Random(seed)  # noqa: S311 (no secret)
    records = study(40, seed)
    for record in records:
        record.seed = random_.randrange(2**40)
        record.started = random_.choice([None, 1.7e9 + random_.random()])
        record.sampler = random_.choice([{}, {"params": {"x": [1, None, 0.5]}}])
        record.versions = random_.choice([{}, {"torch": "2.13.0"}])
        record.copy_of = random_.choice(["", "0001"])
        record.device = "NVIDIA H100"
        names = ["clean", "pgd/digits", "step", "seconds", "loss.alpha", "state"]
        numbers = [0.5, math.nan, math.inf, -math.inf, 1e-300]
        for step in range(201, 201 + random_.randrange(4)):
            metrics = {name: random_.choice(numbers) for name in random_.sample(names, random_.randrange(7))}
            record.record(Evaluation(step, metrics, random_.random()))
    before = saved(tmp_path / "results.parquet", records)
    assert content(Results.read(before.uri).records) == content(before.records)


def test_an_empty_sweep_comes_back_empty(tmp_path: Path) -> None:
    assert Results.read(saved(tmp_path / "results.parquet", []).uri).records == {}


def test_a_row_is_one_evaluation_with_a_column_for_each_knob_and_metric(tmp_path: Path) -> None:
    first = trial(0, {"clean": 0.9, "pgd/digits": 0.5}, knobs={"loss.alpha": 0.3, "optim.steps": 5, "seed": 0})
    first.record(Evaluation(400, {"clean": 0.95}, 60.0))
    second = trial(1, state="running", knobs={"loss.alpha": 0.4, "optim.steps": 6, "seed": 0})
    saved(tmp_path / "results.parquet", [first, second])
    table = parquet.read_table(tmp_path / "results.parquet")
    assert table["trial"].to_pylist() == ["0000", "0000", "0001"]
    assert table["step"].to_pylist() == [200, 400, 0]
    assert table["loss.alpha"].to_pylist() == [0.3, 0.3, 0.4]
    assert table["clean"].to_pylist() == [0.9, 0.95, None]
    assert table["pgd/digits"].to_pylist() == [0.5, None, None]
    assert table.schema.field("optim.steps").type == pa.int64()
    assert table.schema.field("clean").type == pa.float64()
    assert table.column_names.count("seed") == 1
    assert json.loads(table["recipe"][0].as_py()) == first.recipe


def test_a_path_and_its_uri_are_the_same_file(tmp_path: Path) -> None:
    before = saved(f"file://{tmp_path}/sub/results.parquet", study(3))
    assert content(Results.read(f"{tmp_path}/sub/results.parquet").records) == content(before.records)


def test_other_file_systems_get_the_same_bytes(tmp_path: Path) -> None:
    local = saved(tmp_path / "results.parquet", study(3))
    remote = saved("mock:///results.parquet", study(3))  # pyarrow's own file system in memory
    with remote.filesystem.open_input_file(remote.path) as file:
        assert file.read() == Path(local.uri).read_bytes()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.parquet"):
        Results.read(str(tmp_path / "nowhere.parquet"))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9, 0.99])
def test_a_truncated_file_is_refused_in_one_sentence(tmp_path: Path, share: float) -> None:
    path = tmp_path / "results.parquet"
    saved(path, study(30))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"results\.parquet: expected the results of a sweep.*\.$"):
        Results.read(str(path))


def test_damage_anywhere_is_refused_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "results.parquet"
    saved(path, study(5))
    whole = path.read_bytes()
    for position in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:position] + b"\xff\x00\xff\x00" + whole[position + 4 :])
        try:
            assert len(Results.read(str(path)).records) <= 5
        except ValueError as error:
            assert "results.parquet" in str(error)  # noqa: PT017 (most damage is refused, some hits padding)


def test_a_table_of_someone_else_is_refused(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"label": [1, 2]}), tmp_path / "cifar10.parquet")
    with pytest.raises(ValueError, match=r"cifar10\.parquet: .* was not written by a sweep\.$"):
        Results.read(str(tmp_path / "cifar10.parquet"))


def test_a_save_that_fails_leaves_the_file_before_it_and_nothing_else(tmp_path: Path) -> None:
    results = saved(tmp_path / "results.parquet", study(3))
    before = content(results.records)
    results.records["0009"] = trial(9, recipe={"no": {"json"}})
    with pytest.raises(TypeError):
        results.save()
    assert content(Results.read(results.uri).records) == before
    assert [path.name for path in tmp_path.iterdir()] == ["results.parquet"]


@pytest.mark.parametrize("quick", [3600, 0], ids=["table", "journal"])
def test_a_kill_in_the_middle_of_saving_loses_nothing_that_was_saved(tmp_path: Path, quick: float) -> None:
    path = tmp_path / "results.parquet"
    program = (
        "import sys; from sweeps.results import Results; from tests.sweeps.trials import study\n"
        "results = Results(sys.argv[1]); results.quick = float(sys.argv[2])\n"
        "for record in study(1000):\n"
        "    results.records[record.trial] = record; results.save([record]); print(len(results.records), flush=True)"
    )
    arguments = [sys.executable, "-c", program, path, str(quick)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        counts = [int(process.stdout.readline()) for _ in range(300 if quick == 0 else 40)]
        process.send_signal(signal.SIGKILL)
    assert len(Results.read(str(path)).records) >= counts[-1] >= 40
    assert (tmp_path / "results.journal").exists() == (quick == 0)


def journalled(path: Path, records: list[TrialRecord]) -> Results:
    """The first three in the table, each of the others in the journal, as if the table were slow to write."""
    results = saved(path, records[:3])
    results.quick = 0
    for record in records[3:]:
        results.records[record.trial] = record
        results.save([record])
    return results


@pytest.mark.parametrize("seed", range(3))
def test_changes_of_any_order_and_size_read_as_the_whole(tmp_path: Path, seed: int) -> None:
    random_ = random.Random(seed)  # noqa: S311 (no secret)
    results = journalled(tmp_path / "results.parquet", study(12, seed))
    numbers = [0.5, math.nan, math.inf, -0.0, 1e-300]
    for step in range(1000, 1300):
        changed = random_.sample(list(results.records.values()), random_.randrange(1, 4))
        for record in changed:
            record.record(Evaluation(step, {"clean": random_.choice(numbers)}, float(step)))
            record.state, record.reason = random_.choice([("failed", "ü\n"), ("finished", "")])
        results.save(changed)
        if step % 10 == 0:  # the table is written anew in between
            assert content(Results.read(results.uri).records) == content(results.records)
    results.save()
    assert [path.name for path in tmp_path.iterdir()] == ["results.parquet"]


def test_a_journal_grows_to_a_multiple_of_the_trials_and_no_further(tmp_path: Path) -> None:
    results = journalled(tmp_path / "results.parquet", study(300))
    journal, most = tmp_path / "results.journal", 0
    for record in 5 * list(results.records.values()):
        results.save([record])
        most = max(most, len(journal.read_bytes().splitlines()) if journal.exists() else 0)
    assert 500 < most <= 602


def test_a_line_that_a_kill_left_unfinished_is_passed_over(tmp_path: Path) -> None:
    results = journalled(tmp_path / "results.parquet", study(6))
    journal = tmp_path / "results.journal"
    journal.write_bytes(journal.read_bytes()[:-5])
    assert list(Results.read(results.uri).records) == list(results.records)[:5]


def test_any_other_damage_to_a_journal_is_refused_in_one_sentence(tmp_path: Path) -> None:
    results = journalled(tmp_path / "results.parquet", study(6))
    journal = tmp_path / "results.journal"
    first, second, *rest = journal.read_bytes().split(b"\n")
    for position in range(0, len(second), 40):
        journal.write_bytes(b"\n".join([first, second[:position] + b"\xff" + second[position + 1 :], *rest]))
        with pytest.raises(ValueError, match=r"results\.journal:2: expected a line of a sweep's journal.*damaged\.$"):
            Results.read(results.uri)


def test_a_journal_says_nothing_beside_another_table(tmp_path: Path) -> None:
    results = journalled(tmp_path / "results.parquet", study(6))
    journal = (tmp_path / "results.journal").read_bytes()
    others = saved(results.uri, study(2, seed=1))
    (tmp_path / "results.journal").write_bytes(journal)  # as a kill between the two leaves it
    assert content(Results.read(results.uri).records) == content(others.records)


def test_a_journal_that_is_lost_is_made_up_for_by_the_table(tmp_path: Path) -> None:
    results = journalled(tmp_path / "results.parquet", study(6))
    (tmp_path / "results.journal").unlink()
    results.records["0000"].notes.append("seen")
    results.save([results.records["0000"]])
    assert content(Results.read(results.uri).records) == content(results.records)


def test_a_change_is_not_written_over_the_place_of_a_disk_that_is_not_mounted(tmp_path: Path) -> None:
    folder, records = tmp_path / "study", study(6)
    results = journalled(folder / "results.parquet", records)
    folder.rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError):
        results.save([records[0]])
    assert not folder.exists()
    (tmp_path / "away").rename(folder)
    results.save([records[0]])
    assert content(Results.read(results.uri).records) == content(results.records)


def test_a_resumed_trial_reports_its_past_once() -> None:
    record = trial(0)
    steps = [100, 200, 300, 200, 300, 400, 400]
    news = [record.record(Evaluation(step, {"clean": 0.5}, 1.0)) for step in steps]
    assert news == [True, True, True, False, False, True, False]
    assert [evaluation.step for evaluation in record.evaluations] == [100, 200, 300, 400]


def test_the_public_form_has_the_documented_keys_and_is_strict_json() -> None:
    plain = trial(0, {"clean": 0.9}).as_json()
    assert list(plain) == ["trial", "state", "knobs", "metrics", "step"]
    copied = trial(1, {"clean": math.nan}, reason="The same knobs as trial 0000.", copy_of="0000").as_json()
    assert list(copied)[5:] == ["reason", "copy_of"]
    assert copied["metrics"] == {"clean": None}
    assert json.loads(json.dumps([plain, copied], allow_nan=False))
    assert trial(2, state="pending").as_json()["step"] == 0
