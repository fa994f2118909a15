"""Hypervolume over compute, a panel for each surface; drawn on a Figure of its own, as the front is."""

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from sweeps.report.depiction import INK
from sweeps.simulate.compare import TARGET, Run, median_curve

_COLOURS = ("#8a8f98", "#1f77b4", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf")


def draw(runs: dict[str, dict[str, list[Run]]], budget: float) -> bytes:
    """PNG bytes: medians over seeds; a sampler has one colour, broken where it stops trials early."""
    figure = Figure(figsize=(4.6 * len(runs) + 0.4, 4.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    grid = np.linspace(0, budget, 257)[1:]
    for ax, (surface, by_policy) in zip(figure.subplots(1, len(runs), squeeze=False)[0], runs.items(), strict=True):
        samplers = list(dict.fromkeys(name.partition("+")[0] for name in by_policy))
        for name, each in by_policy.items():
            sampler, stops, _ = name.partition("+")
            curve = median_curve(each, grid)
            curve[curve == 0] = np.nan  # nothing has finished yet
            colour = _COLOURS[samplers.index(sampler) % len(_COLOURS)]
            style = ":" if "forecast" in name else "--" if stops else "-"
            ax.plot(grid, curve, style, color=colour, linewidth=1.8, label=name)
        ax.axhline(TARGET, color=INK, linewidth=0.8, linestyle=":")
        ax.set_title(surface, color=INK, fontsize=11, parse_math=False)
        ax.set_xlabel("compute in full trainings", color=INK)
        ax.set(xlim=(0, budget), ylim=(None, 1.01))
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        ax.grid(color="#e3e7ec", linewidth=0.8)
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("hypervolume, of the best known front", color=INK)
    figure.axes[0].legend(fontsize=7, frameon=False, loc="lower right")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
