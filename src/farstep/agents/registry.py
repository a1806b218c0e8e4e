"""Agents by the name that the command line and configuration files use."""

from __future__ import annotations

from farstep.agents.base import Agent
from farstep.agents.gcbc import GCBC
from farstep.agents.mqe import MQE
from farstep.core.errors import FarstepError, nearest

AGENTS: dict[str, type[Agent]] = {"gcbc": GCBC, "mqe": MQE}


def agent_class(name: str) -> type[Agent]:
    """The agent called `name`.

    Raises:
        FarstepError: there is none; the message suggests the nearest.
    """
    if name not in AGENTS:
        raise FarstepError(f"There is no agent '{name}'.{nearest(name, AGENTS)}")
    return AGENTS[name]


def agent_name(agent: Agent) -> str:
    """The name under which the agent's class is registered."""
    return next(name for name, kind in AGENTS.items() if kind is type(agent))
