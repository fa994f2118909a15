"""The front as people and programs get it: tables, CSV, JSON, PNG and HTML of every kind of sweep."""

import csv
import io
import json
import math
import re
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console
from rich.table import Table

from robustcore.intervals import wilson
from sweeps import wording
from sweeps.pareto import Objectives, front
from sweeps.report import MOST_ROWS, front_csv, front_json, front_table, page, picture, status_table, write_front
from sweeps.report.depiction import smallest_of_decades
from sweeps.results.records import TrialRecord, Value
from tests.sweeps.trials import certify, counted, repeat, study, trial

BOTH: Objectives = {"clean": "max", "pgd": "max"}
OBJECTIVES: dict[str, Objectives] = {
    "one minimised": {"loss": "min"},
    "two with one minimised": {"loss": "min", "pgd": "max"},
    "three": {"clean": "max", "pgd": "max", "loss": "min"},
}
EVIL = "<script>alert('x')</script>[red]$x_1$"

SWEEPS: dict[str, list[TrialRecord]] = {
    "nothing": [],
    "nothing finished": [
        trial(0, state="pending"),
        trial(1, {"clean": 0.5, "pgd": 0.1, "loss": 1.0}, "stopped"),
    ],
    "one trial": [trial(0, {"clean": 0.5, "pgd": 0.1, "worst": 0.1, "loss": 1.0})],
    "no knobs": [trial(i, {"clean": 0.5 + i / 9, "pgd": 0.1, "worst": 0.0, "loss": 1.0}, knobs={}) for i in range(3)],
    "a sweep": study(12),
    "knobs of every kind": [
        trial(i, {"clean": 0.5 + i / 20, "pgd": 0.5 - i / 20, "worst": 0.1, "loss": 1.0}, knobs={EVIL: value})
        for i, value in enumerate([None, True, "text", 0, 1e-9, 1e9, math.nan, math.inf, -3])
    ],
    "a certified sweep": [
        certify(record, record.metrics["pgd"] - 0.01 * number) if record.state == "finished" else record
        for number, record in enumerate(counted(study(6)))
    ],
    "repeats": [
        *(few := counted(study(4))),
        *(
            repeat(record, seed, {n: v + 0.01 * seed for n, v in record.metrics.items()})
            for record in few
            for seed in (1, 2)
        ),
    ],
    "numbers that are none": [
        trial(i, {"clean": value, "pgd": 0.5, "worst": value, "loss": value})
        for i, value in enumerate([math.nan, math.inf, -math.inf, 0.0])
    ],
    "users' text": [
        trial(
            0,
            {"clean": 0.9, "pgd": 0.1, "worst": 0.1, "loss": 1.0, EVIL: 0.5},
            knobs={"a": EVIL},
            device=EVIL,
        ),
        trial(1, None, "failed", knobs={"a": "学習"}, reason=f"{EVIL}\x1b[31m\nnext line"),
    ],
}


def text(table: Table, width: int = 250) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(table)
    return console.export_text()


@pytest.mark.parametrize("sweep", SWEEPS)
@pytest.mark.parametrize("objectives", OBJECTIVES)
def test_every_sweep_has_its_picture_page_and_tables(sweep: str, objectives: str) -> None:
    records, goals = SWEEPS[sweep], OBJECTIVES[objectives]
    members = front(records, goals)
    image = Image.open(io.BytesIO(picture(records, members, goals, "alpha_study")))
    assert image.format == "PNG"
    assert len(image.convert("RGB").getcolors(maxcolors=10**6) or ()) > 10  # not blank
    html = page(records, members, goals, "alpha_study")
    assert html.count("<tr>") == len(members) + 1
    assert all(record.trial in text(front_table(records, members, goals)) for record in members)
    assert all(record.trial in text(status_table(records, goals)) for record in records)


def test_the_front_table_shows_knobs_percent_and_the_states_of_all_trials() -> None:
    records = [
        trial(0, {"clean": 0.9625, "pgd": 0.5, "loss": 0.25, "pgd/digits": 0.5}, knobs={"loss.alpha": 0.123456}),
        trial(1, None, "failed"),
    ]
    shown = text(front_table(records, records[:1], BOTH))
    for words in ("loss.alpha", "clean", "pgd", "loss", "0.1235", "96.2 %", "50.0 %", "0.25"):
        assert words in shown
    assert "pgd/digits" not in shown
    assert "2 trials: 1 finished, 1 failed" in shown


def test_the_status_table_has_one_line_a_trial_and_says_why() -> None:
    records = [*study(12), trial(12, {"clean": 0.5}, copy_of="0003")]
    lines = text(status_table(records, BOTH)).splitlines()
    for record in records:
        (line,) = [line for line in lines if f" {record.trial} " in line and line.split()[1] == record.trial]
        assert record.state in line
        assert record.reason in line
    assert any("a copy of 0003" in line for line in lines)


def test_markup_and_control_characters_of_users_stay_text() -> None:
    shown = text(status_table(SWEEPS["users' text"], BOTH), width=400)
    assert shown.count(EVIL) >= 2
    assert "\x1b" not in shown


def test_the_page_needs_no_network_and_escapes_what_users_wrote() -> None:
    records = SWEEPS["users' text"]
    for objectives in OBJECTIVES.values():
        html = page(records, front(records, objectives), objectives, EVIL)
        assert EVIL not in html
        assert "<script>alert" not in html
        assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=", html)
        assert "alert(&#x27;x&#x27;)" in html
        assert 'name="viewport"' in html


def test_hovering_over_a_point_names_its_trial_with_every_knob_and_metric() -> None:
    records = [trial(7, {"clean": 0.9, "pgd": 0.5, "pgd/digits": 0.5}, knobs={"loss.alpha": 0.3, "kind": "fare"})]
    html = page(records, records, BOTH, "alpha_study")
    for words in ("trial 0007, finished", "loss.alpha = 0.3", "kind = fare", "pgd/digits: 50.0 %"):
        assert words in html.replace("\\u002f", "/")


def test_an_empty_front_says_why() -> None:
    assert "no finished trial yet" in page([], [], BOTH, "alpha_study")
    assert "no finished trial meets the constraints" in page(study(5), [], BOTH, "alpha_study")


def test_a_picture_depends_only_on_what_it_shows() -> None:
    records = study(24)
    members = front(records, BOTH)
    assert picture(records, members, BOTH, "a") == picture(records, members, BOTH, "a")
    assert picture(records, members, BOTH, "a") != picture(records, members[:-1], BOTH, "a")


@pytest.mark.parametrize("suffix", ["png", "PNG", "html", "csv", "json"])
def test_a_front_is_written_in_the_format_of_its_suffix(tmp_path: Path, suffix: str) -> None:
    records = study(12)
    path = tmp_path / "new folder" / f"front.{suffix}"
    write_front(str(path), records, front(records, BOTH), BOTH, "alpha_study")
    starts = {"png": b"\x89PNG", "html": b"<!doctype html>", "csv": b"trial,", "json": b"["}
    assert path.read_bytes().startswith(starts[suffix.lower()])


@pytest.mark.parametrize("name", ["front.pdf", "front", "front.png.gz"])
def test_another_suffix_is_refused_and_the_four_are_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"expected a file that ends in \.png, \.html, \.csv or \.json"):
        write_front(str(tmp_path / name), [], [], BOTH, "alpha_study")


def test_csv_and_json_hold_every_knob_and_metric_at_full_precision() -> None:
    members = front(study(24), BOTH)
    assert json.loads(front_json(members)) == [record.as_json() for record in members]  # nothing says how sure
    rows = list(csv.DictReader(io.StringIO(front_csv(members))))
    for row, record in zip(rows, members, strict=True):
        assert row["trial"] == record.trial
        for name, value in {**record.knobs, **record.metrics}.items():
            assert float(row[name]) == value


SCALES: list[tuple[list[float], float | None]] = [
    ([], None),
    ([1.0], None),
    ([1.0, 100.0], None),
    ([1.0, 101.0], 1.0),
    ([0.0, 1.0, 101.0], 1.0),
    ([0.0, 0.0], None),
    ([-1.0, 1.0, 1000.0], None),
]


@pytest.mark.parametrize(("numbers", "smallest"), SCALES)
def test_colours_are_logarithmic_over_more_than_two_positive_decades(
    numbers: list[float], smallest: float | None
) -> None:
    assert smallest_of_decades(numbers) == smallest


DURATIONS = {0: "0 s", 8.4: "8 s", 59.6: "1 min", 130: "2 min 10 s", 11100: "3 h 5 min", 187200: "2 d 4 h"}


@pytest.mark.parametrize("seconds", DURATIONS)
def test_durations_read_as_people_say_them(seconds: float) -> None:
    assert wording.duration(seconds) == DURATIONS[seconds]


VALUES: list[tuple[Value, str]] = [
    (0.123456, "0.1235"),
    (1e-5, "1e-05"),
    (12, "12"),
    (True, "True"),
    (None, "None"),
    ("a\nb", "a b"),
]


@pytest.mark.parametrize(("value", "words"), VALUES)
def test_values_are_short_and_on_one_line(value: Value, words: str) -> None:
    assert wording.value(value) == words


@pytest.mark.parametrize(
    ("name", "number", "words"),
    [
        ("clean", 0.9625, "96.2 %"),
        ("pgd/digits", 1.0, "100.0 %"),
        ("loss", 0.5, "0.5"),
        ("train.loss", 0.5, "0.5"),
        ("lr", 1e-5, "1e-05"),
        ("clean", math.nan, "nan"),
        ("distance", 3.14159, "3.142"),
    ],
)
def test_shares_read_as_percent_and_other_metrics_as_numbers(name: str, number: float, words: str) -> None:
    assert wording.metric(name, number) == words


def example() -> list[TrialRecord]:
    """Three on the front: one repeated, one that certification takes off it, one that beats that one."""
    clean = {"0000": (0.90, 0.60), "0001": (0.91, 0.59), "0002": (0.95, 0.40)}
    records = counted([trial(i, {"clean": c, "pgd": p, "loss": 1.0}) for i, (c, p) in enumerate(clean.values())])
    certify(records[0], 0.50)
    certify(records[1], 0.58)
    records[2].flags = {"masked_gradients": "Square fools 3 images that APGD does not."}
    return [*records, *counted([repeat(records[2], 1, {"clean": 0.93, "pgd": 0.42, "loss": 1.0})])]


WILSON = {name: wilson(value, 400) for name, value in {"clean": 0.91, "pgd": 0.59, "certified": 0.58}.items()}


def test_the_front_table_shows_searched_and_certified_with_intervals_and_why_a_number_may_not_hold() -> None:
    records = example()
    shown = text(front_table(records, front(records, BOTH), BOTH))
    lines = {line.split()[1]: line for line in shown.splitlines() if line.startswith("│")}
    assert "clean again" not in shown  # on the same images it could not differ
    assert "pgd under autoattack (standard)" in shown
    assert all(f"[{100 * each.low:.1f}, {100 * each.high:.1f}]" in lines["0001"] for each in WILSON.values())
    assert "94.0 % [" in lines["0002"]
    assert re.search(r"2 │ +masked_gradients", lines["0002"])
    assert re.search(r"1 │ fell off, certified_drop", lines["0000"])
    for sentence in (
        "In brackets: 95 % intervals.",
        "Trial 0000 fell off the front: certified at clean 90.0 %, pgd 50.0 %, it is beaten by trial 0001",
        "Trial 0000, certified_drop: pgd falls from 60.0 % to 50.0 % when attacked again.",
        "Trial 0002, masked_gradients: Square fools 3 images",
    ):
        assert sentence in shown


def test_on_a_narrow_terminal_no_digit_is_lost() -> None:
    records = example()
    for table in (front_table(records, front(records, BOTH), BOTH), status_table(records, BOTH)):
        shown = text(table, width=80)
        assert "…" not in shown
        for each in WILSON.values():
            assert f"{100 * each.low:.1f}" in shown


def test_of_a_long_sweep_the_status_shows_the_newest_and_whatever_still_runs() -> None:
    records = [TrialRecord(f"{number:04d}", {}, {}, "", 0, "finished") for number in range(MOST_ROWS + 20)]
    records[3].state = "running"
    shown = text(status_table(records, BOTH))
    lines = {word for line in shown.splitlines() for word in line.replace("│", " ").split()[:1] if word.isdecimal()}
    assert {"0003", "0020", f"{MOST_ROWS + 19:04d}"} <= lines
    assert not {"0000", "0019"} & lines
    assert f"{MOST_ROWS + 1} of {MOST_ROWS + 20} trials are shown" in " ".join(shown.split())
    assert "finished" in shown


def test_the_status_table_has_each_repeat_below_its_first_trial() -> None:
    records = [*example(), trial(3)]
    shown = text(status_table(records, BOTH))
    trials = [line.split()[1] for line in shown.splitlines() if line.startswith("│")]
    assert trials == ["0000", "0001", "0002", "0002.1", "0003"]
    assert "0002 with seed 1" in shown


def test_csv_and_json_hold_intervals_certificates_seeds_and_flags() -> None:
    members = front(example(), BOTH)
    rows = {row["trial"]: row for row in csv.DictReader(io.StringIO(front_csv(members)))}
    public = {record["trial"]: record for record in json.loads(front_json(members))}
    assert list(rows) == list(public) == ["0000", "0001", "0002"]
    for name in ("clean", "pgd"):
        ends = [WILSON[name].low, WILSON[name].high]
        assert [float(rows["0001"][f"ci/{name}/{end}"]) for end in ("low", "high")] == ends
        assert public["0001"]["intervals"][name] == public["0001"]["intervals"][f"{name}/digits"] == ends
    ends = [WILSON["certified"].low, WILSON["certified"].high]
    assert public["0001"]["certificate"]["intervals"]["pgd"] == ends
    assert [float(rows["0001"][f"ci/certified/pgd/{end}"]) for end in ("low", "high")] == ends
    assert (rows["0001"]["certified/pgd"], rows["0001"]["seeds"], rows["0001"]["flags"]) == ("0.58", "", "")
    assert (rows["0002"]["certified/pgd"], rows["0002"]["seeds"], rows["0002"]["flags"]) == (
        "",
        "2",
        "masked_gradients",
    )
    assert float(rows["0002"]["pgd"]) == public["0002"]["metrics"]["pgd"] == pytest.approx(0.41)
    assert {trial: seed["pgd"] for trial, seed in public["0002"]["seeds"].items()} == {"0002": 0.40, "0002.1": 0.42}


def test_the_page_says_of_each_point_how_sure_it_is_and_what_became_of_it() -> None:
    records = example()
    html = page(records, front(records, BOTH), BOTH, "alpha_study").replace("\\u002f", "/")
    assert "certified, off the front" in html
    assert len(re.findall(r'"showlegend":true', html)) == 1  # the red line, once
    assert '"error_y":{"array":[' in html
    assert "hypervolume 0.5582, certified 0.5278" in html  # 0.90 * 0.60 + 0.01 * 0.59 + 0.03 * 0.41, 0.91 * 0.58
    hover = re.search(r"trial 0000, finished[^\"]*", html)
    assert hover is not None
    for words in ("pgd under autoattack (standard): 50.0 %", "flags: fell off, certified_drop"):
        assert words in hover[0]
    assert "the mean of 2 seeds" in html
    assert "<p>Trial 0000 fell off the front" in html


def picture_of(records: list[TrialRecord]) -> bytes:
    return picture(records, front(records, BOTH), BOTH, "a")


def test_the_picture_shows_intervals_certified_points_and_means() -> None:
    records = [trial(0, {"clean": 0.9, "pgd": 0.6}), trial(1, {"clean": 0.8, "pgd": 0.7})]
    seen = [picture_of(records)]
    seen.append(picture_of(counted(records)))
    seen.append(picture_of([*records, repeat(records[0], 1, {**records[0].metrics, "pgd": 0.58})]))
    certify(records[0], 0.59)
    seen.append(picture_of(records))
    certify(records[0], 0.57)
    seen.append(picture_of(records))  # flagged
    assert len(set(seen)) == len(seen)
