"""Hyperparameters as data: values by agent and dataset, with their source.

A preset is a list of entries; every entry whose agent and dataset pattern match is applied, later
ones over earlier ones. A value that no entry sets keeps the agent's own default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatch
from typing import Any

from farstep.agents.registry import agent_class
from farstep.core.registry import registered

EVERYWHERE = "*"
"""The pattern of every dataset."""


@dataclass(frozen=True)
class Entry:
    """Values for one agent on the datasets that match a pattern.

    Attributes:
        agent: the agent's name.
        datasets: shell pattern over dataset names.
        values: hyperparameters by field name.
        source: source of the values.
    """

    agent: str
    datasets: str
    values: Mapping[str, Any]
    source: str

    @property
    def assignments(self) -> str:
        """The values, as people write them."""
        return ", ".join(f"{name} = {shown(value)}" for name, value in self.values.items())


@dataclass(frozen=True)
class Remark:
    """A published setting that a preset cannot set.

    Attributes:
        agents: names of the agents that it is about.
        datasets: shell pattern over dataset names.
        text: a sentence.
    """

    agents: tuple[str, ...]
    datasets: str
    text: str


@dataclass(frozen=True)
class Preset:
    """A named set of entries.

    Attributes:
        name: value of `--preset`.
        summary: its purpose in a line.
        entries: in order of precedence, the last winning.
        remarks: published settings that it cannot set.
    """

    name: str
    summary: str
    entries: tuple[Entry, ...]
    remarks: tuple[Remark, ...] = ()

    @property
    def agents(self) -> list[str]:
        """Agents that some entry is about, in order of name."""
        return sorted({entry.agent for entry in self.entries})

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

    def settings(self, agent: str, dataset: str) -> dict[str, tuple[Any, Entry | None]]:
        """Every hyperparameter of `agent` on `dataset`: its value, and the entry that sets it.

        Raises:
            FarstepError: there is no such agent.
        """
        found: dict[str, tuple[Any, Entry | None]] = {
            field.name: (field.default, None) for field in fields(agent_class(agent))
        }
        for entry in self.matching(agent, dataset):
            found |= {name: (value, entry) for name, value in entry.values.items()}
        return found

    def applied(self, agent: str, dataset: str) -> list[str]:
        """Lines on the entries that apply, and on the defaults elsewhere."""
        fallback = self.fallback(agent, dataset)
        lines = [] if fallback is None else [fallback]
        for entry in self.matching(agent, dataset):
            lines.append(f"Preset '{self.name}', {agent} on {entry.datasets}: {entry.assignments}")
        return lines

    def fallback(self, agent: str, dataset: str) -> str | None:
        """A note if no entry is for exactly this combination, else None."""
        matching = self.matching(agent, dataset)
        if not matching:
            return (
                f"Preset '{self.name}' has nothing for {agent} on {dataset}: "
                "the agent's own defaults stand."
            )
        if all(entry.datasets == EVERYWHERE for entry in matching):
            return (
                f"Preset '{self.name}' has nothing for {agent} on {dataset} in particular: "
                "its values for all datasets stand, and the agent's own defaults for the rest."
            )
        return None

    def remarks_on(self, agent: str, dataset: str) -> list[str]:
        """Published settings for this combination that are not set."""
        return [
            remark.text
            for remark in self.remarks
            if agent in remark.agents and fnmatch(dataset, remark.datasets)
        ]


def shown(value: Any) -> str:
    """A hyperparameter's value as people write it, `512×512×512` for layers."""
    if not isinstance(value, tuple):
        return str(value)
    return ("×" if isinstance(value[0], int) else ", ").join(map(str, value))


def find_preset(name: str, presets: Mapping[str, Preset]) -> Preset:
    """The preset called `name`.

    Raises:
        FarstepError: there is none; suggests the nearest.
    """
    return registered(presets, "preset", name)
