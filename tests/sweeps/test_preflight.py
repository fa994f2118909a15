"""What the machines' answers mean, in sentences; real machines are asked in ``test_jobs``."""

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from robustcore.storage import Folder
from sweeps.preflight.findings import MAX_SKEW, Finding, judged
from sweeps.preflight.nodes import Node
from sweeps.preflight.probe import Look, Probe
from sweeps.preflight.services import tracking_finding
from sweeps.study import load_study
from tests.sweeps.commands import write_study

VERSIONS = {"python": "3.11", "ray": "2.60.0", "torch": "2.13.0", "robust-sweeps": "0.1.0 (12345678)"}
SOUND = [Node(f"10.0.0.{number}", number == 0, look=Look(f"host-{number}", VERSIONS), ahead=0.2) for number in range(4)]


def changed(number: int, **look: object) -> list[Node]:
    """The sound machines, one of which sees something else."""
    nodes = list(SOUND)
    seen = nodes[number].look
    assert seen is not None
    nodes[number] = replace(nodes[number], look=replace(seen, **look))  # type: ignore[arg-type]
    return nodes


def failed(nodes: list[Node], folder: Folder) -> dict[str, str]:
    return {each.question: each.sentence for each in judged(nodes, folder) if each.sentence}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "alpha"))


def test_where_all_is_well_nothing_is_said(folder: Folder) -> None:
    found = judged(SOUND, folder)
    assert [each.question for each in found] == ["machines", "storage", "data", "versions", "clocks"]
    assert not any(each.sentence for each in found)
    assert found[0].answer == "the head and 3 workers"
    assert found[1].answer == f"{folder.above.uri}, written and read by 4 machines"
    assert found[4].answer == "within 0.2 s"


def test_a_pool_without_workers_is_no_failure_and_said(folder: Folder) -> None:
    found = judged(SOUND[:1], folder)
    assert not any(each.sentence for each in found)
    assert found[0].answer == "the head; no worker is up, so none was looked at"


DIFFERENT: dict[str, tuple[Callable[[], list[Node]], str, str]] = {
    "silent": (
        lambda: [*SOUND[:3], Node("10.0.0.3", is_head=False, error="it did not answer within 120 s")],
        "machines",
        "machines: the worker 10.0.0.3: it did not answer within 120 s; look at `ray status`",
    ),
    "another disk": (
        lambda: changed(2, storage="it does not see what the head wrote"),
        "storage",
        "is not the same everywhere: the worker 10.0.0.2: it does not see what the head wrote; expected a folder that",
    ),
    "one way": (
        lambda: [SOUND[0], replace(SOUND[1], is_heard=False)],
        "storage",
        "the worker 10.0.0.1: the head does not see what it wrote",
    ),
    "no data": (
        lambda: changed(1, missing={"/data/x.parquet": "no such file or folder"}),
        "data",
        "data: /data/x.parquet cannot be read: the worker 10.0.0.1: no such file or folder; expected it there under",
    ),
    "sent data that is gone": (
        lambda: changed(0, missing={"/root/.cache/robust-sweeps/shipped/1a/x.parquet": "no such file or folder"}),
        "data",
        "it was sent with the launch: resume with the study's file",
    ),
    "another torch": (
        lambda: changed(3, versions={**VERSIONS, "torch": "2.12.0"}),
        "versions",
        "but the worker 10.0.0.3 has torch 2.12.0; expected one image for all machines",
    ),
    "another state of our code": (
        lambda: changed(3, versions={**VERSIONS, "robust-sweeps": "0.1.0 (87654321)"}),
        "versions",
        "but the worker 10.0.0.3 has robust-sweeps 0.1.0 (87654321); expected",
    ),
    "a slow clock": (
        lambda: [*SOUND[:3], replace(SOUND[3], ahead=-MAX_SKEW - 1)],
        "clocks",
        "clocks: the worker 10.0.0.3: its clock is 31 s behind the head's; expected at most 30 s",
    ),
}


@pytest.mark.parametrize(("nodes", "question", "words"), DIFFERENT.values(), ids=DIFFERENT)
def test_what_differs_is_one_sentence_that_names_the_machine(
    nodes: Callable[[], list[Node]], question: str, words: str, folder: Folder
) -> None:
    said = failed(nodes(), folder)
    assert list(said) == [question]
    assert words in said[question]
    assert "\n" not in said[question]


def test_of_many_machines_with_one_trouble_three_are_named(folder: Folder) -> None:
    nodes = [Node(f"10.0.1.{number}", is_head=False, error="it did not answer within 9 s") for number in range(40)]
    said = failed([SOUND[0], *nodes], folder)["machines"]
    assert "10.0.1.0, the worker 10.0.1.1, the worker 10.0.1.2 and 37 more: it did not" in said


def test_a_machine_tells_storage_and_data_that_are_there_from_those_that_are_not(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "alpha"))
    folder.write("question", b"question")
    there, away = str(tmp_path), str(tmp_path / "away")
    look = Probe().look(folder.uri, "question", "answer", [there, away])
    assert look.storage == ""
    assert folder.read("answer") == b"question"
    assert look.missing == {away: "no such file or folder"}
    assert Probe().look(folder.uri, "another", "answer", []).storage == "it does not see what the head wrote"
    folder.write("wrong", b"other")
    assert Probe().look(folder.uri, "wrong", "answer", []).storage == "it reads something else than the head wrote"


def test_an_mlflow_that_does_not_answer_is_a_sentence_without_its_password(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"http://me:secret@127.0.0.1:{closed.getsockname()[1]}"
        # As studies of an older version may say it.
        found = tracking_finding(replace(load_study(str(write_study(tmp_path))), mlflow=uri))
    assert found.sentence.startswith("MLflow: http://127.0.0.1:")
    assert "cannot be used from the head" in found.sentence
    assert "secret" not in found.sentence + found.answer


def test_a_study_without_a_server_of_its_own_asks_none(tmp_path: Path) -> None:
    found = tracking_finding(load_study(str(write_study(tmp_path))))
    assert found == Finding("MLflow", "a file of its own")
