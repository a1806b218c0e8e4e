"""Agents by the name that the command line and configuration files use."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from farstep.agents.base import Agent
from farstep.agents.cmd import CMD
from farstep.agents.crl import CRL
from farstep.agents.gcbc import GCBC
from farstep.agents.gciql import GCIQL
from farstep.agents.gcivl import GCIVL
from farstep.agents.hiql import HIQL
from farstep.agents.mqe import MQE
from farstep.agents.nsacbc import NSACBC
from farstep.agents.qrl import QRL
from farstep.agents.tmd import TMD
from farstep.agents.tra import TRA
from farstep.core.errors import FarstepError, nearest
from farstep.core.fields import dataclass_from_dict
from farstep.core.registry import register

AGENTS: dict[str, type[Agent]] = {
    "cmd": CMD,
    "crl": CRL,
    "gcbc": GCBC,
    "gciql": GCIQL,
    "gcivl": GCIVL,
    "hiql": HIQL,
    "mqe": MQE,
    "nsacbc": NSACBC,
    "qrl": QRL,
    "tmd": TMD,
    "tra": TRA,
}


def register_agent(name: str, kind: type[Agent]) -> None:
    """Let commands and files call an agent of your own by a short name.

    Without that it is called `module:Class`, and needs no registration.

    Raises:
        FarstepError: the name is another agent's or cannot stand in a path, or `kind` is no agent.
    """
    register(AGENTS, "agent", name, _checked(name, kind))


def agent_class(name: str) -> type[Agent]:
    """The agent called `name`, or `module:Class` of one that is not registered.

    Raises:
        FarstepError: there is none; the message suggests the nearest.
    """
    if name in AGENTS:
        return AGENTS[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        raise FarstepError(f"There is no agent '{name}'.{nearest(name, AGENTS)}")
    try:
        return _checked(name, getattr(importlib.import_module(module), attribute))
    except (ImportError, AttributeError, ValueError) as error:
        raise FarstepError(f"There is no agent '{name}': {error}.") from error


def _checked(name: str, kind: Any) -> type[Agent]:
    """Checks that `kind` is an agent with no abstract methods, and returns it."""
    if not isinstance(kind, type) or not issubclass(kind, Agent) or inspect.isabstract(kind):
        raise FarstepError(
            f"'{name}' is no agent: it must be a frozen dataclass derived from farstep.Agent that "
            "implements spec, networks and loss."
        )
    return kind


def agent_name(agent: Agent) -> str:
    """The name that `agent_class` knows the agent by."""
    kind = type(agent)
    names = [name for name, known in AGENTS.items() if known is kind]
    return names[0] if names else f"{kind.__module__}:{kind.__qualname__}"


def agent_to_dict(agent: Agent) -> dict[str, Any]:
    """The agent's registered name and its hyperparameters, as JSON values."""
    return {"name": agent_name(agent)} | asdict(agent)


def agent_from_dict(values: Mapping[str, Any], *, where: str) -> Agent:
    """The agent that `agent_to_dict` described.

    Raises:
        FarstepError: unknown agent or hyperparameter; suggests the nearest name.
    """
    hyperparameters = {key: value for key, value in values.items() if key != "name"}
    return dataclass_from_dict(agent_class(values["name"]), hyperparameters, where=where)
