"""On one panel of the picture: the error bars of the front, and what certificates moved; beneath the points."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from sweeps.report.depiction import ALARM, FAINT, INK, Scene, spread
from sweeps.results.records import TrialRecord

Records = Sequence[TrialRecord]
HOLLOW: dict[str, Any] = {"marker": "o", "markerfacecolor": "white", "markeredgecolor": INK, "linestyle": ""}
FILLED: dict[str, Any] = {"marker": "o", "markerfacecolor": FAINT, "markeredgecolor": INK, "linestyle": ""}
FALLEN: dict[str, Any] = {"marker": "X", "markerfacecolor": FAINT, "markeredgecolor": INK, "linestyle": ""}


def error_bars(ax: Axes, records: Records, x: str | None, y: str) -> None:
    """Thin crosses of 95 %, where anything is known; the view grows for them, on each side by its size at most."""
    style: dict[str, Any] = {"fmt": "none", "ecolor": INK, "elinewidth": 0.8, "alpha": 0.35, "zorder": 2}
    view = {x: ax.get_xlim(), y: ax.get_ylim()}
    across, up = places(records, x, y)
    ax.errorbar(across, up, _lengths(records, y), None if x is None else _lengths(records, x), **style)
    ax.set_xlim(view[x] if x is None else _roomier(view[x], records, x))
    ax.set_ylim(_roomier(view[y], records, y))


def _roomier(view: tuple[float, float], records: Records, name: str) -> tuple[float, float]:
    low, high = view
    room, ends = high - low, spread(records, name)
    least, most = min(each.low for each in ends) - room / 50, max(each.high for each in ends) + room / 50
    return min(low, max(least, low - room)), max(high, min(most, high + room))


def _lengths(records: Records, name: str) -> list[list[float]]:
    """Below and above, as matplotlib wants them."""
    ends = spread(records, name)
    return [[each.value - each.low for each in ends], [each.high - each.value for each in ends]]


def places(records: Records, x: str | None, y: str) -> tuple[list[float], list[float]]:
    """Where the trials are; over their numbers where ``x`` is None."""
    across = [float(record.trial) if x is None else record.metrics[x] for record in records]
    return across, [record.metrics[y] for record in records]


def moves(ax: Axes, pairs: Sequence[tuple[TrialRecord, TrialRecord]], scene: Scene, x: str | None, y: str) -> None:
    """A thin line from each searched point to its certified one, red where the drop is flagged."""
    for searched, certified in pairs:
        is_flagged = searched.trial in scene.dropped
        colour, width = (ALARM, 1.4) if is_flagged else (FAINT, 1.0)
        ax.plot(*places([searched, certified], x, y), color=colour, linewidth=width, zorder=2)


def legend(ax: Axes, scene: Scene) -> None:
    """Of what does not explain itself."""
    handles = []
    if scene.certified:
        fell = any(trial in scene.fallen for trial in scene.certified)
        dropped = any(trial in scene.dropped for trial in scene.certified)
        handles += [Line2D([], [], label="searched", **HOLLOW), Line2D([], [], label="certified", **FILLED)]
        handles += [Line2D([], [], label="certified, off the front", **FALLEN)] if fell else []
        handles += [Line2D([], [], label="more than 2 points lower", color=ALARM)] if dropped else []
    if any(record.metrics and record.state != "finished" for record in scene.records):
        handles.append(Line2D([], [], label="not finished", marker="x", color=FAINT, linestyle=""))
    if handles:
        ax.legend(handles=handles, loc="lower left", fontsize=8, frameon=False, labelcolor=INK)
