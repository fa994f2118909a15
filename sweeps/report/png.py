"""The front as a PNG; drawn on a Figure of its own, so that no pyplot state is shared with anyone."""

import io
import itertools
import math
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib.colors as mcolors
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import Bbox, BboxBase
from matplotlib.typing import ColorType

from sweeps import wording
from sweeps.pareto import Objectives, Points
from sweeps.report.depiction import FAINT, INK, PLAIN, REGION, Scene, colour_knob, number, remark, smallest_of_decades
from sweeps.report.marks import error_bars, legend, moves, places
from sweeps.results.records import TrialRecord, Value

Records = Sequence[TrialRecord]


def draw(scene: Scene) -> bytes:
    """PNG bytes: one panel for one or two objectives, else a panel for each pair of them."""
    pairs: list[tuple[str | None, str]] = [*itertools.combinations(scene.objectives, 2)]
    pairs = pairs or [(None, next(iter(scene.objectives)))]
    across = min(len(pairs), 3)
    down = math.ceil(len(pairs) / across)
    size = (9, 6.2) if len(pairs) == 1 else (4.2 * across + 1, 3.8 * down + 0.8)
    figure = Figure(figsize=size, dpi=150 if len(pairs) == 1 else 120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for spare in axes[len(pairs) :]:
        spare.set_visible(False)
    colour = _Colour(scene.records)
    for ax, (x, y) in zip(axes, pairs, strict=False):
        _panel(ax, scene, x, y, colour)
    legend(axes[0], scene)
    colour.bar(figure, axes[: len(pairs)])
    figure.suptitle(scene.headline(), color=INK, fontsize=13, parse_math=False)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a name in a script that the font lacks shows as boxes
        figure.draw_without_rendering()  # fixes the layout: only now is it known where a label falls
        if len(pairs) == 1:
            _label(axes[0], scene.front, scene.objectives, *pairs[0], _varying(scene.records))
        figure.savefig(file, format="png")
    return file.getvalue()


class _Colour:
    """The first numeric knob as a colour; every panel and the bar share it."""

    def __init__(self, records: Records) -> None:
        self.knob = colour_knob(records)
        numbers = [n for r in records if (n := self.number(r)) is not None]
        self.map = ScalarMappable(_scale(numbers), "viridis")

    def number(self, record: TrialRecord) -> float | None:
        return None if self.knob is None else number(record.knobs.get(self.knob))

    def of(self, records: Records) -> list[ColorType]:
        numbers = [self.number(record) for record in records]
        shades = self.map.to_rgba(np.array([0.0 if number is None else number for number in numbers]))
        return [PLAIN if n is None else tuple(shade) for n, shade in zip(numbers, shades, strict=True)]

    def bar(self, figure: Figure, axes: list[Axes]) -> None:
        if self.knob is not None:
            bar = figure.colorbar(self.map, ax=axes, pad=0.02, aspect=30)
            bar.set_label(wording.one_line(self.knob), color=INK, parse_math=False)
            bar.outline.set_visible(False)
            if isinstance(norm := self.map.norm, mcolors.SymLogNorm):  # whose own ticks overlap near zero
                first, last = math.ceil(math.log10(norm.linthresh)), math.floor(math.log10(norm.vmax or 1))
                bar.set_ticks([0, *(10.0**decade for decade in range(first, last + 1))])
                bar.minorticks_off()


def _scale(numbers: Sequence[float]) -> mcolors.Normalize:
    low, high = min(numbers, default=0.0), max(numbers, default=0.0)
    smallest = smallest_of_decades(numbers)
    if low == high:
        return mcolors.Normalize(low - 0.5, high + 0.5)
    if smallest is None:
        return mcolors.Normalize(low, high)
    if low > 0:
        return mcolors.LogNorm(low, high)
    return mcolors.SymLogNorm(linthresh=smallest, linscale=0.5, vmin=0, vmax=high)


def _varying(records: Records) -> list[str]:
    """The knobs that took several values: at most two, for there is little room at a point."""
    paths = dict.fromkeys(path for record in records for path in record.knobs)
    return [path for path in paths if len({record.knobs.get(path) for record in records}) > 1][:2]


def _panel(ax: Axes, scene: Scene, x: str | None, y: str, colour: _Colour) -> None:
    """All trials at (``x``, ``y``), over their number where ``x`` is None."""
    _dress(ax, scene.records, scene.objectives, x, y)
    shown = [record for record in scene.records if _placed(record, x, y)]
    finished = [record for record in shown if record.state == "finished"]
    others = [record for record in shown if record.state != "finished"]
    members = [record for record in scene.front if _placed(record, x, y)]
    pairs = [(r, c) for r in shown if (c := scene.certified.get(r.trial)) is not None and _placed(c, x, y)]
    certified = [after for _, after in pairs]
    _scatter(ax, scene, (others, finished, members, certified), (x, y), colour)
    if not members:
        words: dict[str, Any] = {"ha": "center", "va": "center", "color": INK, "fontsize": 13}
        ax.text(0.5, 0.5, remark(finished), transform=ax.transAxes, **words)
        return
    _zoom(ax, np.array(places([*finished, *certified], x, y)), np.array(places([*shown, *certified], x, y)))
    moves(ax, pairs, scene, x, y)
    error_bars(ax, certified or members, x, y)
    if len(scene.objectives) > 2:  # a projection of the front is no staircase
        return
    proper = finished if x is None else scene.border
    if certified:
        _staircase(ax, proper, scene.objectives, x, y, is_outdated=True)
        proper = certified if x is None else scene.certified_border
    _staircase(ax, [record for record in proper if _placed(record, x, y)], scene.objectives, x, y)


def _scatter(
    ax: Axes, scene: Scene, groups: tuple[Records, Records, Records, Records], axes: tuple[str | None, str],
    colour: _Colour,
) -> None:  # fmt: skip
    """Unfinished trials, finished ones, the front, and certified points: a searched point with one is hollow."""
    others, finished, members, certified = groups
    bests = {record.trial for record in members}

    def put(group: Records, **style: Any) -> None:
        if group:
            whole: dict[str, Any] = ({} if "c" in style else {"c": colour.of(group)}) | style
            ax.scatter(*places(group, *axes), **whole)

    put(others, s=26, marker="x", c=FAINT, alpha=0.7, linewidths=1)
    for is_hollow in (False, True):
        kind = [record for record in finished if (record.trial in scene.certified) == is_hollow]
        hollow: dict[str, Any] = {"c": "white", "edgecolors": INK, "alpha": 1} if is_hollow else {}
        rest = [record for record in kind if record.trial not in bests]
        put(rest, **{"s": 34, "alpha": 0.6, "linewidths": 0.8 if is_hollow else 0} | hollow)
        best = [record for record in kind if record.trial in bests]
        put(best, **{"s": 90, "edgecolors": INK, "linewidths": 1.2, "zorder": 3} | hollow)
    for marker in ("o", "X"):
        fell = [record for record in certified if (record.trial in scene.fallen) == (marker == "X")]
        put(fell, s=70, marker=marker, edgecolors=INK, linewidths=1.0, zorder=4)


def _zoom(ax: Axes, finished: Points, shown: Points) -> None:
    """Show every finished trial, and the others as far as they do not squeeze these: arrays (2, trials)."""
    low, high = finished.min(axis=1), finished.max(axis=1)
    span = np.where(high > low, high - low, np.maximum(np.abs(high) * 0.1, 1e-3))
    low = np.maximum(shown.min(axis=1), low - span / 3) - 0.09 * span
    high = np.minimum(shown.max(axis=1), high + span / 3) + 0.09 * span
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))


def _dress(ax: Axes, records: Records, objectives: Objectives, x: str | None, y: str) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="#e3e7ec", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(colors=INK, labelsize=9)
    percent = FuncFormatter(lambda share, _: f"{100 * share:.4g} %")
    for name, axis, label in ((x, ax.xaxis, ax.set_xlabel), (y, ax.yaxis, ax.set_ylabel)):
        if name is None:
            label("trial", color=INK)
            axis.set_major_locator(MaxNLocator(integer=True))
            continue
        better = "higher" if objectives[name] == "max" else "lower"
        label(f"{wording.one_line(name)} ({better} is better)", color=INK, parse_math=False)
        if wording.is_share(name, [r.metrics[name] for r in records if name in r.metrics]):
            axis.set_major_formatter(percent)


def _placed(record: TrialRecord, x: str | None, y: str) -> bool:
    return all(math.isfinite(record.metrics.get(name, math.nan)) for name in (x, y) if name is not None)


def _staircase(
    ax: Axes, records: Records, objectives: Objectives, x: str | None, y: str, is_outdated: bool = False
) -> None:
    """The border of what is dominated, and that region in a light tint; only a dotted border where it is outdated."""
    if not records:
        return
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    down = low if objectives[y] == "max" else high
    if x is None:  # over trial numbers the border is the best value so far
        across, up = places(sorted(records, key=lambda record: record.trial), x, y)
        best = np.maximum.accumulate(up) if objectives[y] == "max" else np.minimum.accumulate(up)
        corners, where = ([*across, right], [*best, best[-1]]), "post"
    else:
        back = left if objectives[x] == "max" else right
        across, up = places(sorted(records, key=lambda r: abs(r.metrics[x] - back)), x, y)
        corners, where = ([back, *across, across[-1]], [up[0], *up, down]), "pre"
    style: dict[str, Any] = {"linestyle": ":", "linewidth": 1.0} if is_outdated else {"linewidth": 1.1}
    if not is_outdated:
        ax.fill_between(*corners, down, step=where, color=REGION, zorder=0)  # type: ignore[arg-type]
    ax.step(*corners, where=where, color=INK, alpha=0.7, zorder=1, **style)  # type: ignore[arg-type]
    ax.set(xlim=(left, right), ylim=(low, high))


def _label(ax: Axes, front: Records, objectives: Objectives, x: str | None, y: str, knobs: Sequence[str]) -> None:
    """Each member's knobs beside its point, at the first of three places that is free, or nowhere."""
    points = ax.transData.transform(np.array(places(front, x, y)).T.reshape(-1, 2))
    taken = [Bbox.from_bounds(px - 10, py - 10, 20, 20) for px, py in points]
    # The better side of a point is free of other trials and of the staircase.
    right = -1 if objectives.get(x or "") == "min" else 1
    up = -1 if objectives[y] == "min" else 1
    sides = [(right, up), (right, 0), (0, up)]
    for record, xy in zip(front, zip(*places(front, x, y), strict=True), strict=True):
        text = ", ".join(_short(record.knobs[path]) for path in knobs if path in record.knobs)
        for side in sides if text else []:
            label = _annotation(ax, text, xy, *side)
            box = label.get_window_extent()
            if _inside(ax.bbox, box) and not box.count_overlaps(taken):
                taken.append(box)
                break
            label.remove()


def _short(value: Value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else wording.value(value)


def _inside(outer: BboxBase, box: Bbox) -> bool:
    return all(outer.contains(px, py) for px, py in ((box.x0, box.y0), (box.x1, box.y1)))


def _annotation(ax: Axes, text: str, xy: tuple[float, float], right: int, up: int) -> Annotation:
    """``text`` on one side of a point: ``right`` and ``up`` are -1, 0 or 1."""
    far = 6 if right and up else 9
    return ax.annotate(
        text,
        xy,
        (far * right, far * up),
        textcoords="offset points",
        ha={1: "left", 0: "center", -1: "right"}[right],
        va={1: "bottom", 0: "center", -1: "top"}[up],
        fontsize=9,
        color=INK,
        parse_math=False,
    )
