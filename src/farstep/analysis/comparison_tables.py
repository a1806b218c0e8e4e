"""A comparison as tables: success in %, for the terminal, Markdown, LaTeX and CSV."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from farstep.analysis.comparison import THRESHOLDS, Aggregate, Cell, Comparison
from farstep.analysis.published import PublishedResult
from farstep.analysis.statistics import FEWEST_RUNS
from farstep.analysis.tables import (
    MISSING,
    Cells,
    csv_table,
    latex_table,
    markdown_table,
    percent,
    range_text,
)

PROFILE_STEPS = (0, 10, 25, 50, 75, 90)
"""Thresholds, in %, of a profile's table."""


def result_cells(comparison: Comparison) -> Cells:
    """Every method on every dataset, beside what is published for its agent."""
    head = ["dataset", "method", "seeds", "each", "mean ± s.e.", "95 %", "IQM", "published"]
    cells = [[*head, "best published"]]
    for cell in comparison.cells:
        figures = comparison.aggregate(cell)
        cells.append(
            [
                cell.dataset,
                cell.method,
                seeds_of(cell),
                " ".join(percent(value) for value in cell.values),
                *cell_texts(figures),
                published_text(cell.published),
                _best_text(cell.best_published),
            ]
        )
    return cells


def overall_cells(comparison: Comparison) -> Cells:
    """Every method over the datasets that all share."""
    cells = [["method", "runs", "mean", "95 %", "IQM", "95 %"]]
    for method, figures in comparison.overall.items():
        texts = [*cell_texts(figures), range_text(figures.interquartile_interval)]
        cells.append([method, str(figures.runs), *texts])
    return cells


def improvement_cells(comparison: Comparison) -> Cells:
    """The probability of improvement of every pair of methods."""
    cells = [["X", "Y", "P(X > Y)", "95 %", "datasets"]]
    for one in comparison.improvements:
        interval = one.interval
        cells.append(
            [
                one.method,
                one.other,
                f"{one.probability:.2f}",
                MISSING if interval is None else f"{interval.low:.2f}–{interval.high:.2f}",
                str(len(one.datasets)),
            ]
        )
    return cells


def profile_cells(comparison: Comparison, percents: Sequence[int] = PROFILE_STEPS) -> Cells:
    """The fraction of each method's runs whose success is above each threshold."""
    columns = [int(np.argmin(np.abs(100 * THRESHOLDS - percent))) for percent in percents]
    cells = [["method", *(f"> {percent} %" for percent in percents)]]
    for profile in comparison.profiles:
        cells.append([profile.method, *(f"{profile.fractions[c]:.2f}" for c in columns)])
    return cells


def run_cells(comparison: Comparison) -> Cells:
    """One row a run, for a reader's own statistics: rates in [0, 1], unrounded."""
    tasks = sorted({task for cell in comparison.cells for one in cell.scores for task in one.tasks})
    cells = [["dataset", "method", "agent", "seed", "success", *(f"task{t}" for t in tasks), "run"]]
    for cell in comparison.cells:
        for score in cell.scores:
            cells.append(
                [
                    cell.dataset,
                    cell.method,
                    score.agent,
                    "" if score.seed is None else str(score.seed),
                    repr(score.success),
                    *(repr(score.tasks[t]) if t in score.tasks else "" for t in tasks),
                    str(score.source),
                ]
            )
    return cells


def curve_cells(comparison: Comparison) -> Cells:
    """One row an evaluation while training."""
    cells = [["dataset", "method", "seed", "updates", "success"]]
    for cell in comparison.cells:
        for score in cell.scores:
            for updates, success in score.curve.items():
                row = [cell.dataset, cell.method, str(score.seed), str(updates), repr(success)]
                cells.append(row)
    return cells


def protocol_lines(comparison: Comparison) -> list[str]:
    """The protocol of each method's numbers, a line each."""
    lines: dict[str, list[str]] = {}
    for cell in comparison.cells:
        protocol = cell.scores[0].protocol
        updates = protocol["updates"]
        after = ", ".join(f"{step:,}" for step in updates)
        number = (
            f"the evaluation after {after} updates"
            if len(updates) == 1
            else f"the mean of the evaluations after {after} updates"
        )
        line = (
            f"{cell.dataset}: a run's number is {number}, {len(protocol['tasks'])} tasks × "
            f"{protocol['episodes per task']} episodes, temperature {protocol['temperature']:g}"
        )
        lines.setdefault(line, []).append(cell.method)
    return [f"{line} ({', '.join(methods)})." for line, methods in lines.items()]


def tables(comparison: Comparison) -> dict[str, Cells]:
    """All tables that have rows, by title."""
    found = {"Success in %": result_cells(comparison)}
    if comparison.overall:
        shared = ", ".join(comparison.shared_datasets)
        found[f"Over {shared}"] = overall_cells(comparison)
    if comparison.improvements:
        found["Probability of improvement"] = improvement_cells(comparison)
    if comparison.profiles:
        found["Fraction of runs above a success rate"] = profile_cells(comparison)
    return found


def explanation(comparison: Comparison) -> str:
    """The meaning of the columns, in a paragraph."""
    results = [one for c in comparison.cells for one in (c.published, c.best_published) if one]
    published = (
        f" Published: {'; '.join(sorted({one.source for one in results}))}. An agent's own number "
        "is of networks 512 × 3 and 1,000,000 updates (500,000 from pixels), and stands beside "
        "runs of half that size or more."
        if results
        else ""
    )
    resampled = (
        f" That of an IQM: {comparison.resamples:,} bootstrap resamples of the seeds within each "
        f"dataset (seed {comparison.seed})."
        if any(figures.interquartile_interval for figures in comparison.overall.values())
        else ""
    )
    return (
        "s.e.: standard error over seeds. IQM: interquartile mean. 95 %: t interval of the mean "
        f"over seeds; none of a single seed, or where all are equal.{resampled} P(X > Y): the "
        "probability that a run of X scores higher than one of Y, ties counting half; its "
        f"interval takes {FEWEST_RUNS} seeds of both.{published}"
    )


def as_markdown(comparison: Comparison) -> str:
    """The whole comparison as a Markdown document."""
    parts = []
    for title, cells in tables(comparison).items():
        parts += [f"## {title}", markdown_table(cells)]
    parts += [explanation(comparison), "## How it was measured"]
    parts.append("\n".join(f"- {line}" for line in protocol_lines(comparison)))
    if comparison.notes:
        parts.append("## To be noted")
        parts.append("\n".join(f"- {note}" for note in comparison.notes))
    return "\n\n".join(parts) + "\n"


def as_latex(comparison: Comparison) -> str:
    """The tables as LaTeX tabulars, each under a comment with its title."""
    parts = [f"% {title}\n{latex_table(cells)}" for title, cells in tables(comparison).items()]
    comments = [explanation(comparison), *protocol_lines(comparison), *comparison.notes]
    said = "\n".join(f"% {line}" for text in comments for line in text.splitlines())
    return "\n\n".join([*parts, said]) + "\n"


def as_csv(comparison: Comparison) -> dict[str, str]:
    """Files by name: the figures of every method, every run, profiles and learning curves."""
    profiles = [["method", "threshold", "fraction", "low", "high"]]
    for profile in comparison.profiles:
        ends = profile.band or (np.full(len(THRESHOLDS), np.nan),) * 2
        for row in zip(THRESHOLDS, profile.fractions, *ends, strict=True):
            numbers = ["" if np.isnan(value) else f"{value:.6g}" for value in row]
            profiles.append([profile.method, *numbers])
    return {
        "comparison.csv": csv_table(_summary_cells(comparison)),
        "runs.csv": csv_table(run_cells(comparison)),
        "improvement.csv": csv_table(improvement_cells(comparison)),
        "profiles.csv": csv_table(profiles),
        "curves.csv": csv_table(curve_cells(comparison)),
    }


def seeds_of(cell: Cell) -> str:
    """The seeds of a cell's runs, neighbours as a range; unknown ones as a question mark."""
    seeds = [score.seed for score in cell.scores if score.seed is not None]
    unknown = ["?"] * (len(cell.scores) - len(seeds))
    if not unknown and len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"{seeds[0]}–{seeds[-1]}"
    return " ".join([*map(str, seeds), *unknown])


def published_text(result: PublishedResult | None) -> str:
    """A published mean with its standard error, in %."""
    if result is None:
        return MISSING
    error = "" if result.standard_error is None else f" ± {percent(result.standard_error)}"
    return f"{percent(result.success)}{error}"


def _best_text(result: PublishedResult | None) -> str:
    return MISSING if result is None else f"{published_text(result)} {result.method}"


def _summary_cells(comparison: Comparison) -> Cells:
    """`result_cells` for a machine: one number a column, rates in [0, 1]."""
    header = ["dataset", "method", "runs", "mean", "standard_error", "mean_low", "mean_high"]
    header += ["iqm", "published", "published_standard_error"]
    header += ["best_published", "best_published_method"]
    cells = [header]
    for cell in comparison.cells:
        figures = comparison.aggregate(cell)
        published = cell.published
        numbers = [
            figures.mean,
            figures.standard_error,
            *(figures.mean_interval or (None, None)),
            figures.interquartile_mean,
            published and published.success,
            published and published.standard_error,
        ]
        texts = ["" if number is None else f"{number:.6g}" for number in numbers]
        best = cell.best_published
        texts += [f"{best.success:.6g}", best.method] if best else ["", ""]
        cells.append([cell.dataset, cell.method, str(figures.runs), *texts])
    return cells


def cell_texts(figures: Aggregate) -> list[str]:
    """Mean with standard error, its interval, interquartile mean; in %."""
    mean = percent(figures.mean)
    if figures.standard_error is not None:
        mean += f" ± {percent(figures.standard_error)}"
    return [
        mean,
        range_text(figures.mean_interval),
        percent(figures.interquartile_mean),
    ]
