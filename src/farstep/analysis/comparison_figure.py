"""A comparison as pictures: runs and means by dataset, performance profiles, learning curves."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.typing import ColorType

from farstep.analysis.comparison import THRESHOLDS, Comparison
from farstep.analysis.curves import draw_success, finish_success, learning_curve
from farstep.analysis.figures import begin_figure
from farstep.analysis.published import PublishedResult

COLUMNS = 3
"""Most panels beside each other."""

LABEL_WIDTH = 28
"""Characters in a line of a method's name."""

MARK: dict[str, Any] = {"marker": "D", "mfc": "none", "mec": "black", "ms": 6, "ls": ""}
PUBLISHED = Line2D([], [], label="published", **MARK)


def draw_comparison(comparison: Comparison) -> Figure:
    """One panel a dataset, and one of performance profiles where there are any.

    In a dataset's panel a dot is a run, a bar the mean with its 95 % interval over seeds, and a
    diamond what is published.
    """
    panels = len(comparison.datasets) + bool(comparison.profiles)
    columns = min(COLUMNS, panels)
    rows = -(-panels // columns)
    height = 1.4 + 0.32 * len(comparison.methods)
    size = (4.6 * columns + 0.8, rows * max(height, 2.6))
    figure, grid = begin_figure(*size, rows=rows, columns=columns)
    colours = method_colours(comparison.methods)
    for axes, dataset in zip(grid, comparison.datasets, strict=False):
        published = {
            cell.method: cell.published
            for cell in comparison.cells
            if cell.dataset == dataset and cell.published is not None
        }
        draw_dataset(axes, comparison, dataset, colours, published)
    if comparison.profiles:
        _draw_profiles(grid[panels - 1], comparison, colours)
    for axes in grid[panels:]:
        axes.set_axis_off()
    if any(cell.published for cell in comparison.cells):
        figure.legend(handles=[PUBLISHED], loc="outside lower right", fontsize=9, frameon=False)
    return figure


def draw_curves(comparison: Comparison) -> Figure | None:
    """Success by updates, a panel a dataset; None where no run was evaluated while training.

    Lines are means over seeds, bands their pointwise 95 % intervals. A method is drawn where all
    its seeds were evaluated.
    """
    drawn = [(cell.dataset, learning_curve(cell)) for cell in comparison.cells]
    drawn = [(dataset, curve) for dataset, curve in drawn if curve.x.size]
    datasets = sorted({dataset for dataset, _ in drawn})
    if not drawn:
        return None
    columns = min(COLUMNS, len(datasets))
    rows = -(-len(datasets) // columns)
    figure, grid = begin_figure(4.6 * columns + 0.8, 3.2 * rows, rows=rows, columns=columns)
    colours = method_colours(comparison.methods)
    for axes, dataset in zip(grid, datasets, strict=False):
        for curve in (curve for where, curve in drawn if where == dataset):
            draw_success(axes, curve, colours[curve.method], label(curve.method))
        finish_success(axes, dataset, "updates")
    for axes in grid[len(datasets) :]:
        axes.set_axis_off()
    return figure


def label(method: str) -> str:
    """A method's name in lines that leave room for the picture."""
    return textwrap.fill(textwrap.shorten(method, 3 * LABEL_WIDTH, placeholder=" …"), LABEL_WIDTH)


def method_colours(methods: Sequence[str]) -> dict[str, ColorType]:
    """A colour for each method; they repeat after ten."""
    palette = matplotlib.color_sequences["tab10"]
    return {method: palette[number % len(palette)] for number, method in enumerate(methods)}


def draw_dataset(
    axes: Axes,
    comparison: Comparison,
    dataset: str,
    colours: Mapping[str, ColorType],
    published: Mapping[str, PublishedResult],
) -> None:
    """A dot a run, a bar a mean, a line its 95 % interval, a diamond what is published."""
    cells = [cell for cell in comparison.cells if cell.dataset == dataset]
    for row, cell in enumerate(cells):
        colour = colours[cell.method]
        figures = comparison.aggregate(cell)
        axes.barh(row, 100 * figures.mean, height=0.62, color=colour, alpha=0.35)
        if figures.mean_interval is not None:
            low, high = (100 * end for end in figures.mean_interval)
            axes.plot([low, high], [row, row], color=colour, linewidth=2.2, solid_capstyle="butt")
        axes.plot(100 * cell.values, np.full(len(cell.values), row), "o", color=colour, ms=4)
        if cell.method in published:
            axes.plot(100 * published[cell.method].success, row, **MARK)
    axes.set_yticks(range(len(cells)), [label(cell.method) for cell in cells])
    axes.set(title=dataset, xlabel="success %", xlim=(-2, 102), ylim=(len(cells) - 0.4, -0.6))
    axes.spines[["top", "right"]].set_visible(False)


def _draw_profiles(axes: Axes, comparison: Comparison, colours: Mapping[str, ColorType]) -> None:
    for profile in comparison.profiles:
        colour = colours[profile.method]
        axes.step(
            100 * THRESHOLDS,
            profile.fractions,
            where="post",
            color=colour,
            label=label(profile.method),
        )
        if profile.band is not None:
            axes.fill_between(
                100 * THRESHOLDS, *profile.band, step="post", color=colour, alpha=0.15, linewidth=0
            )
    axes.set(
        title="performance profiles", xlabel="τ (success %)", ylabel="fraction of runs above τ"
    )
    axes.set(xlim=(-1, 101), ylim=(-0.02, 1.03))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
