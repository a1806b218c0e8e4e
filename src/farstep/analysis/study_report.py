"""The table and the figure of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from farstep.analysis.comparison import Comparison
from farstep.analysis.comparison_figure import MARK, draw_dataset, label, method_colours
from farstep.analysis.comparison_tables import (
    cell_texts,
    explanation,
    protocol_lines,
    published_text,
    seeds_of,
)
from farstep.analysis.curves import Curve, draw_success, finish_success
from farstep.analysis.figures import begin_figure
from farstep.analysis.statistics import standard_error
from farstep.analysis.studies import Study, grid_name
from farstep.analysis.tables import MISSING, Cells, markdown_table, percent


def study_cells(study: Study, comparison: Comparison) -> Cells:
    """A row a setting, beside what is published for it; those without runs stay empty."""
    found = {cell.method: cell for cell in comparison.cells}
    cells = [["setting", "seeds", "each", "mean ± s.e.", "95 %", "IQM"]]
    for variant in study.variants:
        cell = found.get(variant.name)
        figures = [MISSING] * 5
        if cell is not None:
            each = " ".join(percent(value) for value in cell.values)
            figures = [seeds_of(cell), each, *cell_texts(comparison.aggregate(cell))]
        cells.append([variant.name, *figures])
    if study.published:
        cells[0].append(f"published, {study.published_dataset}")
        for row in cells[1:]:
            row.append(published_text(study.published.get(row[0])))
    return cells


def horizon_cells(curves: Sequence[Curve], unit: str) -> Cells:
    """Success in % by distance: a row a method."""
    cells = [["method", *(f"{distance:g} {unit}".strip() for distance in curves[0].x)]]
    for curve in curves:
        cells.append([curve.method, *(percent(rate) for rate in curve.success)])
    return cells


def study_markdown(study: Study, comparison: Comparison, more: Mapping[str, Cells]) -> str:
    """The study as a Markdown document; `more` are further tables by title."""
    parts = [f"# {study.title} on {comparison.datasets[0]}"]
    parts += ["Success in %.", markdown_table(study_cells(study, comparison))]
    for title, cells in more.items():
        parts += [f"## {title}", markdown_table(cells)]
    parts += [explanation(comparison), "\n".join(f"- {x}" for x in protocol_lines(comparison))]
    if comparison.notes:
        parts.append("\n".join(f"- {note}" for note in comparison.notes))
    return "\n\n".join(parts) + "\n"


def draw_study(study: Study, comparison: Comparison) -> Figure:
    """Every run, mean and interval by setting, with what is published elsewhere as diamonds."""
    figure, (axes,) = begin_figure(6.4, 1.6 + 0.42 * len(comparison.cells))
    dataset = comparison.datasets[0]
    colours = method_colours(comparison.methods)
    draw_dataset(axes, comparison, dataset, colours, study.published)
    axes.set_title(f"{study.title}\n{dataset}", fontsize=10)
    if study.published:
        diamond = Line2D([], [], label=f"published, {study.published_dataset}", **MARK)
        figure.legend(handles=[diamond], loc="outside lower right", fontsize=8, frameon=False)
    return figure


def draw_grid(
    comparison: Comparison, one_step: Sequence[float], lambdas: Sequence[float]
) -> Figure:
    """Mean success over p (rows) and λ (columns), with its standard error over seeds."""
    found = {cell.method: cell for cell in comparison.cells}
    means = np.full((len(one_step), len(lambdas)), np.nan)
    figure, (axes,) = begin_figure(1.8 + 0.95 * len(lambdas), 1.5 + 0.7 * len(one_step))
    for row, p in enumerate(one_step):
        for column, lambda_ in enumerate(lambdas):
            cell = found.get(grid_name(p, lambda_))
            if cell is None:
                continue
            means[row, column] = cell.values.mean()
            error = standard_error(cell.values)
            text = percent(cell.values.mean()) + ("" if error is None else f"\n± {percent(error)}")
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color="white")
    # Dark to middling, so that white figures can be read on every cell.
    axes.imshow(100 * means, cmap="viridis", vmin=0, vmax=130, aspect="auto")
    axes.set_xticks(range(len(lambdas)), [f"{value:g}" for value in lambdas])
    axes.set_yticks(range(len(one_step)), [f"{value:g}" for value in one_step])
    axes.set(xlabel="λ", ylabel="p")
    axes.set_title(f"success %\n{comparison.datasets[0]}", fontsize=10)
    return figure


def draw_curves(title: str, curves: Sequence[Curve], x: str) -> Figure:
    """A curve a method over `x`, with its 95 % band over seeds."""
    figure, (axes,) = begin_figure(6.4, 4.0)
    colours = method_colours([curve.method for curve in curves])
    for curve in curves:
        draw_success(axes, curve, colours[curve.method], label(curve.method))
    finish_success(axes, title, x)
    return figure
