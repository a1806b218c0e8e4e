"""`farstep presets`: what a preset sets, and where each value comes from."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from farstep.agents.registry import AGENTS
from farstep.cli.console import plain_console
from farstep.core.errors import FarstepError, nearest
from farstep.envs.catalog import DATASETS
from farstep.presets import PRESETS, Preset, find_preset
from farstep.presets.presets import shown


@dataclass(frozen=True, kw_only=True)
class Presets:
    """List the presets, explain one, or show all of an agent's values on a dataset."""

    name: Annotated[str | None, tyro.conf.arg(name="PRESET"), tyro.conf.Positional] = None
    """The preset to explain; all are listed without it."""
    agent: str | None = None
    """Only what is set for this agent."""
    dataset: str | None = None
    """With --agent: every hyperparameter of it on this dataset, and where its value comes from."""

    def run(self) -> None:
        console = plain_console()
        if self.agent is not None and self.agent not in AGENTS:
            raise FarstepError(f"There is no agent '{self.agent}'.{nearest(self.agent, AGENTS)}")
        if self.dataset is not None and self.agent is None:
            raise FarstepError("--dataset needs --agent: values are an agent's.")
        chosen = PRESETS.values() if self.name is None else [find_preset(self.name, PRESETS)]
        for preset in chosen:
            console.print(f"{preset.name}: {preset.summary}", style="bold")
            if self.agent is not None and self.dataset is not None:
                _show_values(console, preset, self.agent, self.dataset)
            elif self.name is not None or self.agent is not None:
                _show_entries(console, preset, self.agent)
            else:
                _show_coverage(console, preset)


def _show_coverage(console: Console, preset: Preset) -> None:
    console.print(f"  sets values for {', '.join(preset.agents)}", highlight=False)
    others = [agent for agent in AGENTS if agent not in preset.agents]
    if others:
        console.print(f"  leaves at their own defaults: {', '.join(others)}", highlight=False)


def _show_entries(console: Console, preset: Preset, agent: str | None) -> None:
    table = Table("agent", "datasets", "values", "source")
    sources = _Footnotes()
    for entry in preset.entries:
        if agent in (None, entry.agent):
            values = entry.assignments
            table.add_row(entry.agent, entry.datasets, values, sources.mark(entry.source))
    if table.row_count:
        console.print(table)
        sources.show(console)
        console.print("Later rows win; what no row sets is the agent's own default.")
    else:
        console.print(f"Nothing for {agent}: its own defaults stand.", highlight=False)
    for remark in preset.remarks:
        if agent is None or agent in remark.agents:
            agents, datasets = ", ".join(remark.agents), remark.datasets
            console.print(f"Not set, for {agents} on {datasets}: {remark.text}", highlight=False)


def _show_values(console: Console, preset: Preset, agent: str, dataset: str) -> None:
    if dataset not in DATASETS and f"{dataset}-v0" not in DATASETS:
        close = get_close_matches(dataset, DATASETS, n=1)
        console.print(
            f"'{dataset}' is no published dataset: the patterns that match its name apply."
            + (f" Did you mean '{close[0]}'?" if close else ""),
            highlight=False,
        )
    fallback = preset.fallback(agent, dataset)
    if fallback is not None:
        console.print(fallback, highlight=False)
    table = Table("hyperparameter", "value", "datasets", "source")
    sources = _Footnotes()
    for name, (value, entry) in preset.settings(agent, dataset).items():
        where, source = ("", "default") if entry is None else (entry.datasets, entry.source)
        table.add_row(name, shown(value), where, sources.mark(source) if entry else source)
    console.print(table)
    sources.show(console)
    for text in preset.remarks_on(agent, dataset):
        console.print(f"Not set: {text}", highlight=False)


class _Footnotes:
    """Sources by number, so that a table of many values stays narrow."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def mark(self, source: str) -> str:
        """The number that stands for a source."""
        return f"({self._numbers.setdefault(source, len(self._numbers) + 1)})"

    def show(self, console: Console) -> None:
        for source, number in self._numbers.items():
            console.print(f"({number}) {source}", highlight=False, soft_wrap=True)
