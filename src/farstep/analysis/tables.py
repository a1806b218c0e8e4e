"""Evaluations as tables for the terminal and for Markdown, one or several side by side."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from farstep.core.errors import FarstepError
from farstep.evaluation.intervals import Interval, paired_interval
from farstep.evaluation.results import Evaluation

MISSING = "–"

Cells = list[list[str]]
"""Rows of text, the header first."""


def evaluation_cells(evaluation: Evaluation) -> Cells:
    """One evaluation: a row a task, then their mean.

    `steps` is the mean length of all episodes, `to success` that of the successful ones,
    `metres left` the mean distance to the goal at the end, and `points` the mean progress with its
    standard error.
    """
    cells = [["task", "success %", "95 %", "episodes", "steps", "to success"]]
    for task in evaluation.tasks:
        cells.append(
            [
                str(task.task),
                percent(task.success_rate),
                range_text(task.interval),
                str(task.episodes),
                _number(task.mean_steps),
                _number(task.mean_success_steps),
            ]
        )
    wins = [episode.steps for episode in evaluation.episodes if episode.success]
    cells.append(
        [
            "mean",
            percent(evaluation.mean_success),
            range_text(evaluation.interval),
            str(len(evaluation.episodes)),
            _number(evaluation.steps / len(evaluation.episodes)),
            _number(sum(wins) / len(wins) if wins else None),
        ]
    )
    ends = [task.mean_final_distance for task in evaluation.tasks]
    if known := [end for end in ends if end is not None]:
        _add(cells, "metres left", *map(_hundredths, ends), _hundredths(sum(known) / len(known)))
    points = [task.mean_progress for task in evaluation.tasks]
    if known := [one for one in points if one is not None]:
        texts = [
            f"{_hundredths(t.mean_progress)} ± {_hundredths(t.progress_error)}"
            for t in evaluation.tasks
        ]
        _add(cells, "points", *texts, _hundredths(sum(known) / len(known)))
    return cells


def _add(cells: Cells, *column: str) -> None:
    for row, text in zip(cells, column, strict=True):
        row.append(text)


def comparison_cells(evaluations: Mapping[str, Evaluation]) -> Cells:
    """Several evaluations of one environment: a column each, a row a task, then their mean.

    Where they are of the same episodes as the first, a last row holds the difference of their
    means from its mean, with the interval of paired episodes.

    Raises:
        FarstepError: nothing to compare, or evaluations of different environments or tasks, whose
            means would not compare.
    """
    if not evaluations:
        raise FarstepError("there is no evaluation to compare")
    check_comparable({name: one.protocol for name, one in evaluations.items()})
    columns = list(evaluations.values())
    cells = [["task", *evaluations]]
    for results in zip(*(one.tasks for one in columns), strict=True):
        cells.append([str(results[0].task), *(_rate(r.success_rate, r.interval) for r in results)])
    cells.append(["mean", *(_rate(one.mean_success, one.interval) for one in columns)])
    differences = [_paired_difference(one, columns[0]) for one in columns[1:]]
    if any(difference != MISSING for difference in differences):
        cells.append(["difference", MISSING, *differences])
    return cells


def _paired_difference(one: Evaluation, base: Evaluation) -> str:
    pairs = list(zip(one.episodes, base.episodes, strict=False))
    keys = [[(e.task, e.index, e.seed) for e in found.episodes] for found in (one, base)]
    if keys[0] != keys[1]:
        return MISSING
    by_task = [
        np.array([int(x.success) - int(y.success) for x, y in pairs if x.task == task.task])
        for task in one.tasks
    ]
    low, high = paired_interval(by_task)
    difference = one.mean_success - base.mean_success
    return f"{100 * difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def check_comparable(protocols: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuses protocols, by name, of different environments or tasks.

    Raises:
        FarstepError: says which differ, and how.
    """
    for what, asked in (("environments", "environment"), ("tasks", "tasks")):
        found = {name: protocol.get(asked) for name, protocol in protocols.items()}
        if any(value != next(iter(found.values())) for value in found.values()):
            listed = ", ".join(f"{name}: {value}" for name, value in found.items())
            raise FarstepError(f"evaluations of different {what} do not compare ({listed})")


def protocol_line(evaluation: Evaluation) -> str:
    """The protocol in one line, for below a table."""
    protocol = evaluation.protocol
    versions = " ".join(f"{name} {version}" for name, version in protocol["versions"].items())
    return (
        f"{protocol['environment']}: {protocol['episodes_per_task']} episodes a task, "
        f"seed {protocol['seed']}, at most {protocol['max_steps']} steps, "
        f"{protocol['slots']} slots; {versions}"
    )


def rich_table(cells: Cells, *, summary: bool = True) -> Table:
    """The cells for the terminal, the last row set off if it sums up the others."""
    table = Table(box=box.SIMPLE_HEAD)
    for column, name in enumerate(cells[0]):
        table.add_column(Text(name), justify="left" if column == 0 else "right", no_wrap=True)
    for number, row in enumerate(cells[1:], start=1):
        last = summary and number == len(cells) - 1
        before_last = summary and number == len(cells) - 2
        table.add_row(*map(Text, row), style="bold" if last else None, end_section=before_last)
    return table


def markdown_table(cells: Cells) -> str:
    """The cells as a Markdown table, aligned in the source too."""
    escaped = [[text.replace("|", r"\|") for text in row] for row in cells]
    widths = [max(3, *(len(text) for text in column)) for column in zip(*escaped, strict=True)]
    rule = [("-" * (width - 1)) + ":" for width in widths]
    rule[0] = "-" * widths[0]

    def line(row: Sequence[str]) -> str:
        padded = [
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    return "\n".join([line(escaped[0]), line(rule), *map(line, escaped[1:])])


LATEX = {
    "\\": r"\textbackslash{}",
    **{symbol: f"\\{symbol}" for symbol in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "–": "--",
    ">": "$>$",
    "λ": r"$\lambda$",
    "κ": r"$\kappa$",
    "∞": r"$\infty$",
}
"""LaTeX's form of special characters."""


def latex_table(cells: Cells) -> str:
    """The cells as a LaTeX tabular with booktabs' rules."""

    def line(row: Sequence[str]) -> str:
        escaped = ["".join(LATEX.get(letter, letter) for letter in text) for text in row]
        return " & ".join(escaped) + r" \\"

    columns = "l" + "r" * (len(cells[0]) - 1)
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            line(cells[0]),
            r"\midrule",
            *map(line, cells[1:]),
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def csv_table(cells: Cells) -> str:
    """The cells as comma-separated values."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(cells)
    return text.getvalue()


def percent(rate: float) -> str:
    """A rate in %, without the sign."""
    return f"{100 * rate:.1f}"


def range_text(interval: Interval | None) -> str:
    """An interval of rates in %."""
    return MISSING if interval is None else f"{percent(interval.low)}–{percent(interval.high)}"


def _rate(rate: float, interval: Interval) -> str:
    return f"{percent(rate)} ({range_text(interval)})"


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.0f}"


def _hundredths(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"
