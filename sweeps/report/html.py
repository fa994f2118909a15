"""The front as one interactive HTML file that needs no network; all text that came from users is escaped."""

import html
import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from sweeps import wording
from sweeps.pareto import Objectives
from sweeps.report.columns import Cell, knob_columns, mark_columns, metric_columns, notes
from sweeps.report.depiction import (
    ALARM,
    FAINT,
    INK,
    PLAIN,
    Scene,
    colour_knob,
    number,
    remark,
    smallest_of_decades,
    spread,
)
from sweeps.results.records import TrialRecord
from sweeps.seeds import seeds_of

Records = Sequence[TrialRecord]
CERTIFIED = ("certified", "certified, off the front")

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; color: {ink}; max-width: 75rem;
  margin: 0 auto; padding: 1rem; }}
h1 {{ font-size: 1.3rem; overflow-wrap: anywhere; }}
.plot {{ height: 70vh; min-height: 420px; }}
.table {{ overflow-x: auto; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: .3rem .8rem; border-bottom: 1px solid #e3e7ec; text-align: right; white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; }}
</style>
</head>
<body>
<h1>{title}</h1>
<div class="plot">{plot}</div>
<h2>The front</h2>
<div class="table">{table}</div>
{notes}
</body>
</html>
"""


def render(scene: Scene) -> str:
    """The plot (value over trial, plane, or scatter matrix, by the number of objectives), then a table."""
    figure = _matrix(scene) if len(scene.objectives) > 2 else _plane(scene)
    figure.update_layout(
        template="plotly_white", autosize=True, margin={"l": 60, "r": 20, "t": 20, "b": 50},
        legend={"orientation": "h", "y": 1.05}, hoverlabel={"align": "left"},
    )  # fmt: skip
    plot = figure.to_html(
        full_html=False, include_plotlyjs=True, default_height="100%", div_id="front",
        config={"responsive": True, "displaylogo": False},
    )  # fmt: skip
    words = [wording.states(scene.records), *notes(scene.front, scene.objectives, scene.fallen)]
    return PAGE.format(
        title=html.escape(scene.headline()),
        ink=INK,
        plot=plot,
        table=_table(scene),
        notes="\n".join(f"<p>{html.escape(each)}</p>" for each in words),
    )


def _plane(scene: Scene) -> go.Figure:
    """One point a trial over two objectives, or over the trial's number where there is but one."""
    x, y = next(iter(scene.objectives)) if len(scene.objectives) > 1 else None, [*scene.objectives][-1]
    figure = go.Figure()
    if x is not None:
        _borders(figure, scene, x, y)
    _moves(figure, scene, x, y)
    for name, group in _groups(scene).items():
        bars = {} if name not in (CERTIFIED if scene.certified else ("front",)) else _bars(group, x, y)
        words = _words(name, group, scene)
        figure.add_scatter(**_places(group, x, y), mode="markers", marker=_marker(name, group, scene), **bars, **words)
    figure.update_xaxes(_axis(scene.records, scene.objectives, x))
    figure.update_yaxes(_axis(scene.records, scene.objectives, y))
    if not scene.front:
        centre = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "showarrow": False}
        figure.add_annotation(text=remark(scene.records), **centre)
    return figure


def _places(group: Records, x: str | None, y: str) -> dict[str, list[float]]:
    across = [int(record.trial) if x is None else record.metrics[x] for record in group]
    return {"x": across, "y": [record.metrics[y] for record in group]}


def _borders(figure: go.Figure, scene: Scene, x: str, y: str) -> None:
    """Of what is dominated; by the searched numbers it is dotted once there are certified ones."""
    line = {"color": INK, "width": 1, "shape": "vh" if scene.objectives[x] == "max" else "hv"}
    borders = [(scene.certified_border, line)] if scene.certified else []
    borders.append((scene.border, line | ({"dash": "dot"} if scene.certified else {})))
    for members, style in borders:
        if members:  # they are in ascending order of x
            plain = {"mode": "lines", "line": style, "hoverinfo": "skip", "showlegend": False}
            figure.add_scatter(**_places(members, x, y), **plain)


def _moves(figure: go.Figure, scene: Scene, x: str | None, y: str) -> None:
    """From each searched point to its certified one, red where the drop is flagged."""
    is_named = False  # the legend has one red line
    for record in _placed(scene.records, scene.objectives):
        if (certified := scene.certified.get(record.trial)) is not None:
            is_flagged = record.trial in scene.dropped
            line = {"color": ALARM if is_flagged else FAINT, "width": 3 if is_flagged else 1}
            plain = {"mode": "lines", "line": line, "hoverinfo": "skip", "name": "more than 2 points lower"}
            named = {"showlegend": is_flagged and not is_named}
            figure.add_scatter(**_places([record, certified], x, y), **plain, **named)
            is_named |= is_flagged


def _bars(group: Records, x: str | None, y: str) -> dict[str, Any]:
    """95 % intervals as error bars, where any is known."""
    bars = {}
    for axis, name in (("error_x", x), ("error_y", y)):
        ends = [] if name is None else spread(group, name)
        if any(each.high > each.low for each in ends):
            above, below = [each.high - each.value for each in ends], [each.value - each.low for each in ends]
            style = {"color": FAINT, "thickness": 1, "width": 0}
            bars[axis] = {"array": above, "arrayminus": below, **style}
    return bars


def _matrix(scene: Scene) -> go.Figure:
    """Every pair of objectives."""
    figure = go.Figure()
    for name, group in _groups(scene).items():
        dimensions = [
            {"label": html.escape(objective), "values": [record.metrics[objective] for record in group]}
            for objective in scene.objectives
        ]
        marker, words = _marker(name, group, scene), _words(name, group, scene)
        figure.add_splom(dimensions=dimensions, diagonal_visible=False, marker=marker, **words)
    for i, objective in enumerate(scene.objectives, start=1):
        style = {"tickformat": _axis(scene.records, scene.objectives, objective)["tickformat"]}
        figure.update_layout({f"xaxis{i}": style, f"yaxis{i}": style})
    return figure


def _groups(scene: Scene) -> dict[str, list[TrialRecord]]:
    """The trials that have a place on the plot, and once more where their certificates put them."""
    placed = _placed(scene.records, scene.objectives)
    members = {record.trial for record in scene.front}
    groups = {
        "not finished": [r for r in placed if r.state != "finished"],
        "finished": [r for r in placed if r.state == "finished" and r.trial not in members],
        "front": list(scene.front),
    }
    if scene.certified:
        certified = _placed([*scene.certified.values()], scene.objectives)
        for name, has_fallen in zip(CERTIFIED, (False, True), strict=True):
            groups[name] = [record for record in certified if (record.trial in scene.fallen) == has_fallen]
    return groups


def _placed(records: Records, objectives: Objectives) -> list[TrialRecord]:
    return [r for r in records if all(math.isfinite(r.metrics.get(name, math.nan)) for name in objectives)]


def _words(name: str, group: Records, scene: Scene) -> dict[str, Any]:
    """The same at the searched and at the certified point of a trial."""
    searched = {record.trial: record for record in (*scene.records, *scene.front)}
    texts = [_hover(searched.get(record.trial, record), scene) for record in group]
    return {"name": name, "hovertext": texts, "hoverinfo": "text"}


def _hover(record: TrialRecord, scene: Scene) -> str:
    seeds = f", the mean of {len(seeds_of(record))} seeds" if len(seeds_of(record)) > 1 else ""
    columns = {
        **metric_columns([record], dict.fromkeys([*scene.objectives, *record.metrics]), scene.objectives),
        **mark_columns([record], scene.objectives, scene.fallen),
    }
    knobs = [f"{path} = {wording.value(value)}" for path, value in record.knobs.items()]
    metrics = [f"{heading}: {cell(record)}" for heading, cell in columns.items() if heading != "seeds"]
    lines = [f"trial {record.trial}, {record.state} at step {record.step}{seeds}", *knobs, *metrics]
    return "<br>".join(html.escape(line) for line in lines)


def _axis(records: Records, objectives: Objectives, name: str | None) -> dict[str, Any]:
    if name is None:
        return {"title": {"text": "trial"}, "tickformat": "d"}
    better = "higher" if objectives[name] == "max" else "lower"
    share = wording.is_share(name, [r.metrics[name] for r in records if name in r.metrics])
    title = {"text": html.escape(f"{wording.one_line(name)} ({better} is better)")}
    return {"title": title, "tickformat": "~%" if share else "~g"}


def _marker(name: str, group: Records, scene: Scene) -> dict[str, Any]:
    """Coloured by the first numeric knob on a scale that all groups share; grey crosses if not finished.

    A searched point is hollow where the trial has a certified one.
    """
    if name == "not finished":
        return {"color": FAINT, "symbol": "x-thin-open", "size": 7}
    bold = name != "finished"
    marker: dict[str, Any] = {"size": 13 if bold else 8, "opacity": 1 if bold else 0.6}
    marker["line"] = {"color": INK, "width": 1.5 if bold else 0}
    if name in CERTIFIED:
        marker |= {"size": 11, "symbol": "circle" if name == CERTIFIED[0] else "x"}
    elif scene.certified:
        marker["symbol"] = ["circle-open" if record.trial in scene.certified else "circle" for record in group]
    knob = colour_knob(scene.records)
    if knob is None:
        return marker | {"color": PLAIN}
    numbers = [n for record in scene.records if (n := number(record.knobs.get(knob))) is not None]
    shades, bar = _shades([number(record.knobs.get(knob)) for record in group], numbers)
    bar["title"] = {"text": html.escape(wording.one_line(knob)), "side": "right"}
    scale = {"cmin": min(_shades(numbers, numbers)[0]), "cmax": max(_shades(numbers, numbers)[0])}
    return marker | scale | {"color": shades, "colorscale": "Viridis", "showscale": name == "front", "colorbar": bar}


def _shades(values: Sequence[float | None], numbers: Sequence[float]) -> tuple[list[float], dict[str, Any]]:
    """Where ``values`` stand on the scale of all ``numbers``, and the ticks of its bar.

    NaN where a value is None. plotly has no logarithmic colours, so a scale of decades is one of exponents,
    with zero half a decade below the smallest.
    """
    smallest = smallest_of_decades(numbers)
    if smallest is None:
        return [math.nan if v is None else v for v in values], {}
    floor = math.log10(smallest) - 0.5
    shades = [math.nan if v is None else math.log10(v) if v > 0 else floor for v in values]
    ticks = {float(d): f"{10.0**d:g}" for d in range(math.ceil(floor + 0.5), math.floor(math.log10(max(numbers))) + 1)}
    if min(numbers) == 0:
        ticks = {floor: "0"} | ticks
    return shades, {"tickvals": list(ticks), "ticktext": list(ticks.values())}


def _table(scene: Scene) -> str:
    """Every knob and metric of the front as plain HTML, with what certificates say beside the objectives."""
    names = dict.fromkeys([*scene.objectives, *(name for record in scene.front for name in record.metrics)])
    columns: dict[str, Cell] = {
        "trial": lambda record: record.trial,
        **knob_columns(scene.front),
        **metric_columns(scene.front, names, scene.objectives),
        **mark_columns(scene.front, scene.objectives, scene.fallen),
    }
    rows = [list(columns), *([cell(record) for cell in columns.values()] for record in scene.front)]
    lines = []
    for tag, row in zip(["th", *["td"] * len(scene.front)], rows, strict=True):
        lines.append("<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>")
    return "<table>\n" + "\n".join(lines) + "\n</table>"
