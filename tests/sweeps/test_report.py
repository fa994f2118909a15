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

from sweeps.pareto import Objectives, front
from sweeps.report import front_csv, front_json, front_table, page, picture, status_table, wording, write_front
from sweeps.report.depiction import smallest_of_decades
from sweeps.results.records import TrialRecord, Value
from tests.sweeps.trials import study, trial

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
    assert json.loads(front_json(members)) == [record.as_json() for record in members]
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
