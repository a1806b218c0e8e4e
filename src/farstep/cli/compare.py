"""`farstep compare`: methods × datasets × seeds in one table, beside the published numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from farstep.analysis.comparison import Comparison, compare
from farstep.analysis.comparison_tables import (
    as_csv,
    as_latex,
    as_markdown,
    explanation,
    protocol_lines,
    tables,
)
from farstep.analysis.scores import LAST_EVALUATIONS, Found, read_scores
from farstep.analysis.statistics import RESAMPLES
from farstep.analysis.tables import rich_table
from farstep.cli.console import plain_console
from farstep.core.errors import FarstepError
from farstep.core.files import check_writable, write_text

WIDEST = 240
"""Columns of the widest table to expect."""


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Compare runs: mean, standard error, interquartile mean, intervals, published numbers.

    RUNS are run directories, directories of runs, or results of `farstep eval --out`. Runs are
    averaged over seeds only if they agree in everything else; NAME=PATH names a method.
    """

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(name="RUNS")]
    """What to compare."""
    evaluations: int = LAST_EVALUATIONS
    """Number of last evaluations whose mean is a run directory's number."""
    out: Path | None = None
    """Write Markdown, LaTeX, CSV and a figure into this directory."""
    markdown: bool = False
    """Print Markdown."""
    seed: int = 0
    """Of the bootstrap."""
    resamples: int = RESAMPLES
    """Of the bootstrap."""

    def run(self) -> None:
        if self.evaluations < 1 or self.resamples < 1:
            raise FarstepError("--evaluations and --resamples must be at least 1.")
        if self.out is not None:
            check_writable(self.out, directory=True)
        console = plain_console()
        found = [self._found(word) for word in self.runs]
        comparison = compare(
            [score for one in found for score in one.scores],
            notes=[note for one in found for note in one.left_out],
            seed=self.seed,
            resamples=self.resamples,
        )
        show_comparison(console, comparison, markdown=self.markdown)
        if self.out is not None:
            written = write_comparison(comparison, self.out)
            names = ", ".join(path.name for path in written)
            console.print(f"Written to {self.out}: {names}", soft_wrap=True)

    def _found(self, word: str) -> Found:
        name, equals, path = word.partition("=")
        # A path may hold an equals sign itself.
        if not equals or Path(word).exists():
            return read_scores(Path(word), evaluations=self.evaluations)
        return read_scores(Path(path), name, evaluations=self.evaluations)


def show_comparison(console: Console, comparison: Comparison, *, markdown: bool = False) -> None:
    """Print every table, how it was measured, and notes."""
    if markdown:
        console.print(as_markdown(comparison), soft_wrap=True)
        return
    for title, cells in tables(comparison).items():
        console.print(f"\n{title}", style="bold")
        # Whole, though the terminal may be too narrow: a figure cut short would mislead.
        plain_console(max(console.width, WIDEST)).print(rich_table(cells, summary=False))
    for line in [*protocol_lines(comparison), explanation(comparison)]:
        console.print(line)
    for note in comparison.notes:
        console.print(f"Note: {note}", soft_wrap=True)


def write_comparison(comparison: Comparison, directory: Path) -> list[Path]:
    """Write all forms of the comparison; returns the files."""
    from farstep.analysis.comparison_figure import draw_comparison, draw_curves
    from farstep.analysis.figures import save_figure

    directory.mkdir(parents=True, exist_ok=True)
    texts = {
        "comparison.md": as_markdown(comparison),
        "comparison.tex": as_latex(comparison),
        **as_csv(comparison),
    }
    for name, text in texts.items():
        write_text(directory / name, text)
    pictures = {
        "comparison.png": draw_comparison(comparison),
        "curves.png": draw_curves(comparison),
    }
    drawn = {name: figure for name, figure in pictures.items() if figure is not None}
    for name, figure in drawn.items():
        save_figure(figure, directory / name)
    return [directory / name for name in (*texts, *drawn)]
