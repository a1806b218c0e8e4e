"""`farstep presets`: what a preset sets, and where each value comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class Presets:
    """List the presets, or explain one."""

    name: Annotated[str | None, tyro.conf.arg(name="PRESET"), tyro.conf.Positional] = None
    """The preset to explain; all are listed without it."""

    def run(self) -> None:
        from rich.console import Console
        from rich.table import Table

        from farstep.presets import PRESETS, find_preset

        console = Console()
        chosen = PRESETS.values() if self.name is None else [find_preset(self.name, PRESETS)]
        for preset in chosen:
            console.print(f"[bold]{preset.name}[/]: {preset.summary}")
            if self.name is None:
                continue
            table = Table("agent", "datasets", "values", "source")
            for entry in preset.entries:
                values = ", ".join(f"{key} = {value}" for key, value in entry.values.items())
                table.add_row(entry.agent, entry.datasets, values, entry.source)
            console.print(table)
