"""What one sees while a sweep runs, on a terminal and in a pipe, with a clock that the test turns."""

import io
import re

from rich.console import Console

from sweeps.pareto import Objectives
from sweeps.progress import Display
from sweeps.results.records import Evaluation, TrialRecord
from tests.sweeps.trials import study, trial

BOTH: Objectives = {"clean": "max", "pgd": "max"}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def piped() -> tuple[io.StringIO, Console]:
    file = io.StringIO()
    return file, Console(file=file, width=40)


def terminal() -> tuple[io.StringIO, Console]:
    file = io.StringIO()
    return file, Console(file=file, width=120, height=40, force_terminal=True, legacy_windows=False, _environ={})


def run_one(display: Display, records: list[TrialRecord], number: int, clock: Clock, seconds: float) -> None:
    """Trial ``number`` starts, reports halfway and finishes."""
    record = records[number]
    record.state = "running"
    display.update(records)
    clock.now += seconds / 2
    record.record(Evaluation(100, {"clean": 0.9, "pgd": 0.4}, seconds / 2))
    display.update(records)
    clock.now += seconds / 2
    record.record(Evaluation(200, {"clean": 0.9, "pgd": 0.5}, seconds))
    record.state = "finished"
    display.update(records)


def test_a_pipe_gets_one_whole_line_for_each_change() -> None:
    file, console = piped()
    clock, records = Clock(), [trial(i, state="pending") for i in range(4)]
    with Display("alpha_study", 4, BOTH, console=console, clock=clock) as display:
        run_one(display, records, 1, clock, 65)
        display.update(records)  # nothing new, nothing said
    assert file.getvalue().splitlines() == [
        "trial 0001 started: loss.alpha=0.1",
        "trial 0001 step 100/200: clean 90.0 %, pgd 40.0 %",
        "trial 0001 finished: loss.alpha=0.1; clean 90.0 %, pgd 50.0 %",
        "1 of 4 trials done; front 1, hypervolume 0.4500; 1 min 5 s elapsed, 3 min 15 s left",
    ]


def test_a_pipe_gets_no_control_characters_from_reasons_or_knobs() -> None:
    file, console = piped()
    bad = trial(0, None, "running", knobs={"a": "\x1b[31mred\r\n[bold]"})
    with Display("alpha_study", 1, BOTH, console=console) as display:
        display.update([bad])
        bad.state, bad.reason = "failed", "one\x1b[2J\ntwo\x07"
        display.update([bad])
    lines = file.getvalue()
    assert re.fullmatch(r"[^\x00-\x09\x0b-\x1f\x7f]*", lines)
    assert len(lines.splitlines()) == 3
    assert "[bold]" in lines
    assert "one [2J two" in lines


def test_stopped_failed_and_copied_trials_say_why() -> None:
    file, console = piped()
    states = [trial(i, state="running") for i in range(3)]
    with Display("alpha_study", 3, BOTH, console=console) as display:
        display.update(states)
        states[0].state, states[0].reason = "stopped", "Worse than its peers at step 100."
        states[1].state, states[1].reason = "failed", "The loss is NaN at step 31."
        states[2].state, states[2].copy_of = "finished", "0000"
        display.update(states)
    for words in (
        "stopped: loss.alpha=0; Worse than",
        "The loss is NaN",
        "copy of 0000",
        "1 stopped, 1 failed",
    ):
        assert words in file.getvalue()


def test_a_warning_is_said_once_until_it_changes() -> None:
    file, console = piped()
    with Display("alpha_study", 2, BOTH, console=console) as display:
        for note in ("MLflow is away.", "MLflow is away.", "", "MLflow is away."):
            display.update([], note)
    assert file.getvalue() == "warning: MLflow is away.\n" * 2


def test_a_resumed_sweep_does_not_tell_its_past_again() -> None:
    file, console = piped()
    records = [*study(12), trial(12, state="pending")]
    with Display("alpha_study", 13, BOTH, console=console) as display:
        display.update(records)
        records[12].state = "running"
        display.update(records)
    first, *rest = file.getvalue().splitlines()
    assert first.startswith("12 of 13 trials done")
    assert rest == ["trial 0012 started: loss.alpha=1.2"]


def test_the_time_left_follows_the_trials_of_this_session_and_how_many_run_at_once() -> None:
    clock = Clock()
    records = [*study(6), *(trial(i, state="pending") for i in range(6, 12))]
    display = Display("alpha_study", 12, BOTH, console=piped()[1], clock=clock)
    display.update(records)
    assert display.pace.left() is None  # what an earlier session took is not known
    records[6].state = records[7].state = "running"
    display.update(records)
    clock.now = 10
    records[6].state = records[7].state = "finished"
    display.update(records)
    assert display.pace.left() == 4 * 10 / 2
    records[8].state = records[9].state = "running"
    display.update(records)
    clock.now = 14
    assert display.pace.left() == (4 * 10 - 2 * 4) / 2
    for record in records[8:]:
        record.state = "stopped"
    display.update(records)
    assert display.pace.left() is None


def test_a_terminal_shows_counts_front_times_running_trials_and_the_warning() -> None:
    file, console = terminal()
    clock, records = Clock(), [*study(12), *(trial(i, state="pending") for i in range(12, 30))]
    with Display("alpha_study", 30, BOTH, console=console, clock=clock) as display:
        for record in records[12:24]:
            record.state = "running"
            record.record(Evaluation(50, {"clean": 0.912, "pgd": 0.4}, 3.0))
        display.update(records, "MLflow is away.")
        clock.now = 62
        records[12].state = "finished"
        display.update(records, "MLflow is away.")
    shown = file.getvalue()
    for words in (
        "alpha_study",
        "13 of 30 trials done, 11 running, 1 stopped, 1 failed",
        "front ",
        "hypervolume",
    ):
        assert words in shown
    for words in ("1 min 2 s elapsed", " left", "0013", "50/200", "91.2 %", "+3", "warning: MLflow is away."):
        assert words in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h")  # the cursor comes back


def test_a_terminal_gets_its_cursor_back_after_an_error() -> None:
    file, console = terminal()
    try:
        with Display("alpha_study", 1, BOTH, console=console) as display:
            display.update([trial(0, state="running")])
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert file.getvalue().count("\x1b[?25l") == file.getvalue().count("\x1b[?25h") == 1


def test_the_front_is_counted_with_the_constraints_of_the_study() -> None:
    file, console = piped()
    running = trial(9, {"clean": 0.5, "pgd": 0.5}, "running")
    with Display("alpha_study", 2, BOTH, lambda m: m["clean"] > 0.6, console=console) as display:
        display.update([running])
        running.state = "finished"
        display.update([running])
    assert "front 0, hypervolume 0.0000" in file.getvalue()
