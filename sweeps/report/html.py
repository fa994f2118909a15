"""The front as one interactive HTML file that needs no network; all text that came from users is escaped."""

import html
import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from sweeps.pareto import Objectives
from sweeps.report import wording
from sweeps.report.depiction import FAINT, INK, PLAIN, colour_knob, headline, number, remark, smallest_of_decades
from sweeps.results.records import TrialRecord

Records = Sequence[TrialRecord]

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
<p>{states}</p>
</body>
</html>
"""


def render(records: Records, front: Records, objectives: Objectives, study: str) -> str:
    """The plot (value over trial, plane, or scatter matrix, by the number of objectives), then a table."""
    figure = _matrix(records, front, objectives) if len(objectives) > 2 else _plane(records, front, objectives)
    figure.update_layout(
        template="plotly_white", autosize=True, margin={"l": 60, "r": 20, "t": 20, "b": 50},
        legend={"orientation": "h", "y": 1.05}, hoverlabel={"align": "left"},
    )  # fmt: skip
    plot = figure.to_html(
        full_html=False, include_plotlyjs=True, default_height="100%", div_id="front",
        config={"responsive": True, "displaylogo": False},
    )  # fmt: skip
    return PAGE.format(
        title=html.escape(headline(records, front, objectives, study)),
        ink=INK,
        plot=plot,
        table=_table(front, objectives),
        states=html.escape(wording.states(records)),
    )


def _plane(records: Records, front: Records, objectives: Objectives) -> go.Figure:
    """One point a trial over two objectives, or over the trial's number where there is but one."""
    x, y = next(iter(objectives)) if len(objectives) > 1 else None, [*objectives][-1]
    figure = go.Figure()
    for name, group in _groups(records, front, objectives).items():
        places = {
            "x": [int(record.trial) if x is None else record.metrics[x] for record in group],
            "y": [record.metrics[y] for record in group],
        }
        marker = _marker(name, group, records)
        figure.add_scatter(**places, mode="markers", marker=marker, **_words(name, group))
    if front and x is not None:
        # The border of what is dominated; the front is in ascending order of x.
        line = {"color": INK, "width": 1, "shape": "vh" if objectives[x] == "max" else "hv"}
        across, up = [r.metrics[x] for r in front], [r.metrics[y] for r in front]
        figure.add_scatter(x=across, y=up, mode="lines", line=line, hoverinfo="skip", showlegend=False)
    figure.update_xaxes(_axis(records, objectives, x)).update_yaxes(_axis(records, objectives, y))
    if not front:
        centre = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "showarrow": False}
        figure.add_annotation(text=remark(records), **centre)
    return figure


def _matrix(records: Records, front: Records, objectives: Objectives) -> go.Figure:
    """Every pair of objectives."""
    figure = go.Figure()
    for name, group in _groups(records, front, objectives).items():
        dimensions = [
            {"label": html.escape(objective), "values": [record.metrics[objective] for record in group]}
            for objective in objectives
        ]
        marker = _marker(name, group, records)
        figure.add_splom(dimensions=dimensions, diagonal_visible=False, marker=marker, **_words(name, group))
    for i, objective in enumerate(objectives, start=1):
        style = {"tickformat": _axis(records, objectives, objective)["tickformat"]}
        figure.update_layout({f"xaxis{i}": style, f"yaxis{i}": style})
    return figure


def _groups(records: Records, front: Records, objectives: Objectives) -> dict[str, list[TrialRecord]]:
    """The trials that have a place on the plot."""
    placed = [r for r in records if all(math.isfinite(r.metrics.get(name, math.nan)) for name in objectives)]
    members = {record.trial for record in front}
    return {
        "not finished": [r for r in placed if r.state != "finished"],
        "finished": [r for r in placed if r.state == "finished" and r.trial not in members],
        "front": list(front),
    }


def _words(name: str, group: Records) -> dict[str, Any]:
    return {"name": name, "hovertext": [_hover(record) for record in group], "hoverinfo": "text"}


def _hover(record: TrialRecord) -> str:
    knobs = [f"{path} = {wording.value(value)}" for path, value in record.knobs.items()]
    metrics = [f"{name}: {wording.metric(name, value)}" for name, value in record.metrics.items()]
    lines = [f"trial {record.trial}, {record.state} at step {record.step}", *knobs, *metrics]
    return "<br>".join(html.escape(line) for line in lines)


def _axis(records: Records, objectives: Objectives, name: str | None) -> dict[str, Any]:
    if name is None:
        return {"title": {"text": "trial"}, "tickformat": "d"}
    better = "higher" if objectives[name] == "max" else "lower"
    share = wording.is_share(name, [r.metrics[name] for r in records if name in r.metrics])
    title = {"text": html.escape(f"{wording.one_line(name)} ({better} is better)")}
    return {"title": title, "tickformat": "~%" if share else "~g"}


def _marker(name: str, group: Records, records: Records) -> dict[str, Any]:
    """Coloured by the first numeric knob on a scale that all groups share; grey crosses if not finished."""
    if name == "not finished":
        return {"color": FAINT, "symbol": "x-thin-open", "size": 7}
    bold = name == "front"
    marker: dict[str, Any] = {"size": 13 if bold else 8, "opacity": 1 if bold else 0.6}
    marker["line"] = {"color": INK, "width": 1.5 if bold else 0}
    knob = colour_knob(records)
    if knob is None:
        return marker | {"color": PLAIN}
    numbers = [n for record in records if (n := number(record.knobs.get(knob))) is not None]
    shades, bar = _shades([number(record.knobs.get(knob)) for record in group], numbers)
    bar["title"] = {"text": html.escape(wording.one_line(knob)), "side": "right"}
    scale = {"cmin": min(_shades(numbers, numbers)[0]), "cmax": max(_shades(numbers, numbers)[0])}
    return marker | scale | {"color": shades, "colorscale": "Viridis", "showscale": bold, "colorbar": bar}


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


def _table(front: Records, objectives: Objectives) -> str:
    """Every knob and metric of the front as plain HTML."""
    paths = list(dict.fromkeys(path for record in front for path in record.knobs))
    names = list(dict.fromkeys([*objectives, *(name for record in front for name in record.metrics)]))
    rows = [["trial", *paths, *names]]
    for record in front:
        knobs = [wording.value(record.knobs[path]) if path in record.knobs else "" for path in paths]
        metrics = [wording.metric(n, record.metrics[n]) if n in record.metrics else "" for n in names]
        rows.append([record.trial, *knobs, *metrics])
    lines = []
    for tag, row in zip(["th", *["td"] * len(front)], rows, strict=True):
        lines.append("<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>")
    return "<table>\n" + "\n".join(lines) + "\n</table>"
