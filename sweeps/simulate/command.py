"""``sweep simulate``: the runs dealt out to processes, and what is made of them."""

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.progress import track

from robustcore.errors import InputError
from sweeps.simulate.compare import TARGET, Needed, Row, Run, Yardstick, rows, run, yardstick
from sweeps.simulate.policies import STANDARD, Policy, read_policy
from sweeps.simulate.surface import Surface
from sweeps.simulate.surfaces import SHIPPED, surface_at

Runs = dict[str, dict[str, list[Run]]]  # by surface, by policy
HEADINGS = (
    "surface",
    "policy",
    "trials",
    f"to {TARGET:.0%}",
    "quartiles",
    "less than tpe",
    f"to {TARGET:.0%} of tpe",
    "quartiles",
    "less than tpe",
    "behind random",
    "at the end",
)


def simulate_and_print(
    surfaces: Sequence[str],
    policies: Sequence[str],
    seeds: int,
    slots: int,
    budget: float,
    out: Sequence[Path],
    processes: int | None,
) -> list[str]:
    """Run all, write the files; the table as lines of Markdown. Raises InputError and RequestError."""
    places, chosen = surfaces or tuple(SHIPPED), [read_policy(policy) for policy in policies or STANDARD]
    for path in out:
        if path.suffix not in (".png", ".md"):
            raise InputError(f"--out {path}: expected a file that ends in .png or .md")
    for place in places:
        surface_at(place)  # what is wrong is said before anything starts
    runs = all_runs(places, chosen, seeds, slots, budget, processes or os.cpu_count() or 1)
    table = table_lines(
        [row for surface, by_policy in runs.items() for row in rows(surface, by_policy, slots, budget)], budget
    )
    for path in out:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            path.write_text("\n".join(table) + "\n", encoding="utf-8")
        else:
            from sweeps.simulate.figure import draw

            path.write_bytes(draw(runs, budget))
    return table


def all_runs(
    places: Sequence[str], policies: Sequence[Policy], seeds: int, slots: int, budget: float, processes: int
) -> Runs:
    """Every policy on every surface with every seed; one process is this one."""
    jobs = [(place, policy, seed, slots, budget) for place in places for policy in policies for seed in range(seeds)]
    if processes == 1:
        return _dealt(_shown(map(_one, jobs), len(jobs)), places, policies, seeds)
    with ProcessPoolExecutor(min(processes, len(jobs)), get_context("spawn")) as pool:
        return _dealt(_shown(pool.map(_one, jobs), len(jobs)), places, policies, seeds)


def _shown(done: Iterator[Run], count: int) -> Iterator[Run]:
    """With a bar that says how far it is, where somebody looks."""
    console = Console(stderr=True)
    return iter(track(done, "", count, transient=True, console=console, disable=not console.is_terminal))


def _dealt(done: Iterator[Run], places: Sequence[str], policies: Sequence[Policy], seeds: int) -> Runs:
    return {place: {p.name: list(islice(done, seeds)) for p in policies} for place in places}


def _one(job: tuple[str, Policy, int, int, float]) -> Run:
    place, policy, seed, slots, budget = job
    return run(*_loaded(place), policy, seed, slots, budget)


@cache
def _loaded(place: str) -> tuple[Surface, Yardstick]:
    surface = surface_at(place)
    return surface, yardstick(surface)


def table_lines(found: Sequence[Row], budget: float) -> list[str]:
    """Markdown, which reads well as it stands."""
    cells = [HEADINGS, *(_cells(row, budget) for row in found)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def _cells(row: Row, budget: float) -> tuple[str, ...]:
    behind = "" if math.isnan(row.behind) else f"{max(0.0, row.behind):.1%}"
    compute = *_of(row.best, budget), *(("", "", "") if row.plain is None else _of(row.plain, budget))
    return row.surface, row.policy, f"{row.trials:.0f}", *compute, behind, f"{row.final:.1%}"


def _of(needed: Needed, budget: float) -> tuple[str, str, str]:
    low, middle, high = (f"> {budget:g}" if math.isinf(each) else f"{each:.0f}" for each in needed.quartiles)
    ratio = "" if needed.ratio is None else f"{'> ' if needed.is_least else ''}{needed.ratio:.1f} x"
    return middle, f"{low} to {high}", ratio
