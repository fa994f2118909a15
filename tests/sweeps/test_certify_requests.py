"""What can be certified, and what is refused with a sentence before anything starts; no Ray runs here."""

import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from robustcore.evaluation.flags import blank
from robustcore.recipe import recipe_from
from robustcore.storage import Folder
from sweeps.certify.claims import AT_ONCE, Claim, claim_of, images
from sweeps.certify.display import CertifyDisplay
from sweeps.certify.strength import read_strength
from sweeps.cli import main
from sweeps.results import Certificate, Results, TrialRecord
from sweeps.study import Study, load_study
from tests.sweeps.commands import STUDY, write_study
from tests.sweeps.sessions import session
from tests.sweeps.trials import trial

BALLS = STUDY.replace(
    "attacks: {pgd: {kind: pgd, ball: {kind: linf, eps: 16/255}, steps: 1}}",
    "attacks: {pgd: {kind: pgd, ball: {kind: linf, eps: 16/255}}, far: {kind: pgd, ball: {kind: l2, eps: 2}}}",
)
METRICS = {"clean": 0.9, "pgd": 0.5, "worst": 0.5}


def launched(folder: Path, text: str = STUDY, state: str = "finished") -> tuple[Study, Path]:
    """A study with one trial that was never run: enough for whoever is refused."""
    path = write_study(folder, text)
    study = load_study(str(path), [f"storage={folder / 'runs'}"])
    place = Folder(study.storage).at(study.name)
    place.write("study.json", json.dumps(study.as_json()).encode())
    results = Results(place.at("results.parquet").uri)
    results.records["0000"] = record_of(study, state=state)
    results.save()
    return study, path


def record_of(study: Study, **fields) -> TrialRecord:
    fields = {"samples": {"digits": 400}, "recipe_hash": "hash", **fields}
    return trial(0, METRICS, recipe=study.plain_recipe, **fields)


def refused(*arguments: object) -> str:
    """The sentence of a command that finds the request wrong."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    return result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("attack", "expected"),
    [
        ("autoatack", "got 'autoatack'; did you mean 'autoattack'?"),
        ("{kind: autoattack, version: custom, stages: []}", "stages"),
        ("apgdd", "kind: unknown kind, expected one of "),
        ("apgdd", "got 'apgdd'; did you mean 'apgd'?"),
        ("{kind: apgd, stepz: 3}", "stepz: unknown key; did you mean 'steps'?"),
        ("{kind: apgd, steps: many}", "steps: expected a"),
        ("{kind: apgd, ball: {kind: linf, eps: 1}}", "expected no 'ball'"),
        ("{steps: 3}", "kind: missing key"),
        ("universal", "for training only"),
        ("[apgd, pgd]", "expected the name of an attack, or a mapping"),
        ("{kind: apgd", "--attack {kind: apgd: "),
        ("", "expected the name of an attack, or a mapping"),
    ],
)
@pytest.mark.parametrize("verb", [("certify",), ("resume", "--certify")])
def test_an_attack_that_is_none_is_refused_before_anything_starts(
    verb: tuple[str, ...], attack: str, expected: str, tmp_path: Path
) -> None:
    _, path = launched(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    sentence = refused(*verb, path, "--storage", tmp_path / "runs", "--attack", attack)
    assert sentence.startswith("--attack")
    assert expected in sentence
    assert sorted(tmp_path.rglob("*")) == before


def test_what_cannot_be_certified_is_a_sentence(tmp_path: Path) -> None:
    storage = ("--storage", tmp_path / "runs")
    assert "`sweep launch` starts a study" in refused("certify", write_study(tmp_path), *storage)
    _, path = launched(tmp_path, state="running")
    assert "no finished trial of 'tiny' is on the front" in refused("certify", path, *storage)
    assert "0 is not in the range x>=1" in refused("certify", path, *storage, "--samples", 0)
    assert "expected --certify too" in refused("resume", path, *storage, "--samples", 3)
    _, path = launched(tmp_path, STUDY.replace("{clean: max, pgd: max}", "{clean: max, loss: min}"))
    sentence = refused("certify", path, *storage)
    assert "no objective of 'tiny' is about an attack" in sentence
    assert "expected one of pgd, worst among clean, loss" in sentence


@pytest.mark.parametrize(
    ("objectives", "attacked"),
    [
        ("{clean: max, pgd: max}", ["pgd"]),
        ("{far/digits: max}", ["far"]),
        ("{clean: max, worst: max}", ["pgd", "far"]),
        ("{clean: max}\nconstraints: {pgd: '>= 0.1'}", ["pgd"]),
    ],
)
def test_what_the_study_asks_about_is_attacked_again_in_its_own_ball(
    objectives: str, attacked: list[str], tmp_path: Path
) -> None:
    study, _ = launched(tmp_path, BALLS.replace("{clean: max, pgd: max}", objectives))
    claim = claimed(study, attack="{kind: apgd, steps: 7}")
    assert list(claim.attacks) == attacked
    for name, attack in claim.attacks.items():
        assert (attack["kind"], attack["steps"]) == ("apgd", 7)
        assert attack["ball"] == study.recipe.as_json()["evaluation"]["attacks"][name]["ball"]


def test_two_attacks_that_are_the_same_now_are_run_once_and_have_both_names(tmp_path: Path) -> None:
    twice = BALLS.replace("{kind: l2, eps: 2}", "{kind: linf, eps: 16/255}, steps: 3")
    study, _ = launched(tmp_path, twice.replace("{clean: max, pgd: max}", "{worst: max}"))
    claim = claimed(study, samples=2)
    (part,) = claim.parts
    ran = recipe_from(part.recipe).evaluation.attacks
    assert list(claim.attacks) == ["pgd", "far"]
    assert list(ran) == ["pgd"]
    whole = {"survived": {"clean": "11", "pgd": "10"}, "evidence": blank(ran), "classes": 10, "seconds": 2.0}
    Folder(part.place).write(part.file, json.dumps(whole).encode())
    certificate = claim.certificate()
    assert certificate is not None
    assert (certificate.metrics["pgd"], certificate.metrics["far"], certificate.metrics["worst"]) == (0.5, 0.5, 0.5)


def claimed(study: Study, attack: str | None = None, samples: int | None = None, **fields) -> Claim:
    folder = Folder(study.storage).at(study.name)
    return claim_of(study, folder, record_of(study, **fields), read_strength(attack, samples))


@pytest.mark.parametrize(("samples", "attacked"), [(None, 400), (1, 1), (250, 250), (1000, 400)])
def test_parts_cover_each_image_once(samples: int | None, attacked: int, tmp_path: Path) -> None:
    study, _ = launched(tmp_path)
    claim = claimed(study, samples=samples)
    covered = [image for part in claim.parts for image in range(part.first, part.end)]
    assert covered == list(range(attacked))
    assert claim.samples == {"digits": attacked}
    assert max(images([part]) for part in claim.parts) <= AT_ONCE


def test_images_are_counted_where_results_are_too_old_to_say(tmp_path: Path) -> None:
    study, _ = launched(tmp_path)
    folder = Folder(study.storage).at(study.name)
    claim = claim_of(study, folder, record_of(study, samples={}), read_strength(None, None))
    assert claim.samples == {"digits": 400}


def test_another_attack_trial_or_number_of_images_has_other_files(tmp_path: Path) -> None:
    study, _ = launched(tmp_path)
    claims = [claimed(study), claimed(study, "pgd"), claimed(study, samples=100), claimed(study, recipe_hash="other")]
    assert len({claim.parts[0].place for claim in claims}) == 4
    assert claimed(study, samples=400) == claimed(study, samples=10**6) == claimed(study), "all images are all images"


def test_a_file_that_is_damaged_counts_as_missing(tmp_path: Path) -> None:
    study, _ = launched(tmp_path)
    claim = claimed(study, samples=5)
    (part,) = claim.parts
    for content in (b"", b"{", b"[]", b'{"survived": {"clean": "111"}}', b'{"survived": {}}'):
        Folder(part.place).write(part.file, content)
        assert claim.missing() == [part]
        assert claim.certificate() is None
    evidence = blank(recipe_from(part.recipe).evaluation.attacks)
    bits = {"clean": "11110", "pgd": "10010"}
    whole = {"survived": bits, "evidence": evidence, "classes": 10, "seconds": 2.0}
    Folder(part.place).write(part.file, json.dumps(whole).encode())
    certificate = claim.certificate()
    assert certificate is not None
    found = {"clean": 0.8, "pgd": 0.4, "worst": 0.4}
    assert certificate.metrics == found | {f"{name}/digits": share for name, share in found.items()}


def test_a_sweep_that_goes_on_keeps_its_certificates(tmp_path: Path) -> None:
    study, _ = launched(tmp_path)
    going = session(study)
    certificate = Certificate({"pgd": 0.25}, {"pgd": {"kind": "apgd"}}, {"digits": 9}, {"certified_drop": "Deep."}, 2.0)
    going.sweep.results.records["0000"].certificate = certificate
    going.run(going.begin())
    assert going.on_disk["0000"].certificate == certificate


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_in_a_pipe_is_plain_lines_and_not_too_many() -> None:
    file, clock = io.StringIO(), Clock()
    with CertifyDisplay("tiny", 400, 100, 3, Console(file=file, width=40), clock) as display:
        for _ in range(20):
            clock.now += 1
            display.saw(5)
        display.ended("0000", "certified: pgd 25.0 %")
        display.ended("0001", "failed: no weights", left_out=150)
    assert file.getvalue().splitlines() == [
        "100 of 400 images were attacked before",
        "155 of 400 images attacked, 0 of 3 trials done; 11 s elapsed, 49 s left",
        "trial 0000 certified: pgd 25.0 %",
        "200 of 400 images attacked, 1 of 3 trials done; 20 s elapsed, 40 s left",
        "trial 0001 failed: no weights",
        "200 of 250 images attacked, 2 of 3 trials done; 20 s elapsed, 10 s left",
    ]


def test_progress_on_a_terminal_is_a_panel() -> None:
    file = io.StringIO()
    console = Console(file=file, width=100, height=30, force_terminal=True, legacy_windows=False, _environ={})
    with CertifyDisplay("tiny", 400, 0, 3, console, Clock()) as display:
        display.saw(400)
    shown = file.getvalue()
    assert "tiny: attacked again" in shown
    assert "400 of 400 images attacked, 0 of 3 trials done" in shown
