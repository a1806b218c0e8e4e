"""Hyperparameters as data: which values, for which agent and datasets, and where they come from.

A preset is a list of entries; every entry whose agent and dataset pattern match is applied, later
ones over earlier ones. A value that no entry sets keeps the agent's own default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from farstep.core.errors import FarstepError, nearest


@dataclass(frozen=True)
class Entry:
    """Values for one agent on the datasets that match a pattern.

    Attributes:
        agent: the agent's name.
        datasets: shell pattern over dataset names.
        values: hyperparameters by field name.
        source: where the values come from.
    """

    agent: str
    datasets: str
    values: Mapping[str, Any]
    source: str


@dataclass(frozen=True)
class Preset:
    """A named set of entries.

    Attributes:
        name: as `--preset` takes it.
        summary: what it is for, in a line.
        entries: in order of precedence, the last winning.
    """

    name: str
    summary: str
    entries: tuple[Entry, ...]

    def matching(self, agent: str, dataset: str) -> tuple[Entry, ...]:
        """The entries that apply; empty if the agent's own defaults stand."""
        return tuple(
            entry
            for entry in self.entries
            if entry.agent == agent and fnmatch(dataset, entry.datasets)
        )

    def values(self, agent: str, dataset: str) -> dict[str, Any]:
        """Hyperparameters for `agent` on `dataset`."""
        merged: dict[str, Any] = {}
        for entry in self.matching(agent, dataset):
            merged |= entry.values
        return merged


def find_preset(name: str, presets: Mapping[str, Preset]) -> Preset:
    """The preset called `name`.

    Raises:
        FarstepError: there is none; suggests the nearest.
    """
    if name not in presets:
        raise FarstepError(f"There is no preset '{name}'.{nearest(name, presets)}")
    return presets[name]
