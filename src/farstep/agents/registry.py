"""Agents by the name that the command line and configuration files use."""

from __future__ import annotations

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
