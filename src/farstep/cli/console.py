"""Where commands print."""

from __future__ import annotations

from rich.console import Console


def plain_console(width: int | None = None) -> Console:
    """A console that prints text as it is.

    Rich otherwise reads `[x]` as markup and `:x:` as a picture, and both stand in paths and names.
    """
    return Console(width=width, markup=False, emoji=False, highlight=False)
