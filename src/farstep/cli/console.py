"""Where commands print."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text


def plain_console(width: int | None = None, *, stderr: bool = False) -> Console:
    """A console that prints text as it is, and lines whole, so that paths can be copied.

    Rich otherwise reads `[x]` as markup and `:x:` as a picture, and both stand in paths and names.
    """
    return _Plain(width=width, stderr=stderr, markup=False, emoji=False, highlight=False)


class _Plain(Console):
    def print(self, *objects: Any, **options: Any) -> None:
        options.setdefault("soft_wrap", all(isinstance(each, str | Text) for each in objects))
        super().print(*objects, **options)

    def on_broken_pipe(self) -> None:
        raise  # For `main`, as from a print without rich.
