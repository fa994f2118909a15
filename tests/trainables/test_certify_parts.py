"""A part of a certificate: what keeps it from being measured is a sentence, and nothing is written then."""

from dataclasses import replace

import pytest

from robustcore.process import Process
from robustcore.recipe import recipe_from
from robustcore.storage import Folder
from tests.support import recipe_plain, write_digits
from trainables.certify import Part, measure
from trainables.worker import Assignment, results


@pytest.fixture(scope="module")
def part(tmp_path_factory) -> Part:
    """Of a trial that has run."""
    folder = tmp_path_factory.mktemp("part")
    plain = recipe_plain(write_digits(folder / "digits.parquet", train=32, test=16))
    assignment = Assignment("0000", plain, str(folder / "trial"), str(folder / "cache"))
    assert list(results(assignment, Process()))[-1]["final"]
    return Part(
        trial="0000",
        recipe=plain,
        fingerprint=recipe_from(plain).fingerprint(),
        folder=assignment.folder,
        place=str(folder / "certified"),
        cache=assignment.cache,
        dataset="digits",
        count=16,
        samples=8,
        first=2,
        end=6,
    )


def test_a_part_is_measured_once_and_its_file_says_who_survived(part: Part) -> None:
    assert part.found() is None
    assert measure(part) == ("", "")
    found = part.found()
    assert found is not None
    assert set(found["survived"]) == {"clean", "pgd"}
    for clean, pgd in zip(found["survived"]["clean"], found["survived"]["pgd"], strict=True):
        assert pgd <= clean


def test_data_that_have_changed_since_the_search_are_a_sentence(part: Part) -> None:
    failure, trace = measure(replace(part, count=17, place=f"{part.place}-other"))
    assert "measured on 17 images, and now there are 16" in failure
    assert trace == ""


def test_a_checkpoint_that_is_damaged_is_a_sentence_and_an_earlier_one_does_not_stand_in(part: Part) -> None:
    checkpoints = Folder(part.folder).at("checkpoints")
    last = max(name for name in checkpoints.names() if name.endswith(".safetensors"))
    lost = replace(part, folder=f"{part.folder}-lost", place=f"{part.place}-lost")
    for name in checkpoints.names():
        content = checkpoints.read(name)
        Folder(lost.folder).at("checkpoints").write(name, content[:-1] if name == last else content)
    failure, trace = measure(lost)
    assert failure.startswith("no final checkpoint that is whole in ")
    assert trace == ""
    assert lost.found() is None
