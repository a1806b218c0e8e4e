"""The console that commands print to."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


def plain_console(width: int | None = None, *, stderr: bool = False) -> Console:
    """A console that prints text as it is, and lines whole, so that paths can be copied.

    Rich otherwise reads `[x]` as markup and `:x:` as a picture, and both stand in paths and names.
    """
    return _Plain(width=width, stderr=stderr, markup=False, emoji=False, highlight=False)


def progress_bar(*columns: ProgressColumn | str, **options: Any) -> Progress:
    """A bar with a task's description, these columns, the time taken and the time left.

    Args:
        columns: further columns of a task, such as `{task.fields[rate]:,.0f} steps/s`.
        options: options of `rich.progress.Progress`, which is drawn on standard error by default.
    """
    options.setdefault("console", plain_console(stderr=True))
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *columns,
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        **options,
    )


class _Plain(Console):
    def print(self, *objects: Any, **options: Any) -> None:
        options.setdefault("soft_wrap", all(isinstance(each, str | Text) for each in objects))
        super().print(*objects, **options)

    def on_broken_pipe(self) -> None:
        raise  # For `main`, as from a print without rich.
