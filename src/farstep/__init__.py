"""Offline goal-conditioned RL that stitches: learn from logged episodes, reach far beyond them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from farstep.agents.registry import register_agent
    from farstep.agents.tmd import TMD
    from farstep.agents.tra import TRA
    from farstep.api import Execution, evaluate, make_agent, plan, resume, train
    from farstep.core.errors import FarstepError
    from farstep.data.table import Dataset, Table, TableWriter, open_dataset
    from farstep.networks.encoder import Encoder
    from farstep.networks.encoders import register_encoder
    from farstep.networks.policies import register_policy
    from farstep.planning.prepare import GraphOptions
    from farstep.quasimetrics import register_quasimetric
    from farstep.serving.policy import Policy, load_policy
    from farstep.training.config import TrainConfig
    from farstep.training.loop import Reporter

__all__ = [  # noqa: RUF022 (in the order of the API's page)
    "train",
    "resume",
    "evaluate",
    "plan",
    "load_policy",
    "make_agent",
    "register_agent",
    "register_encoder",
    "register_policy",
    "register_quasimetric",
    "open_dataset",
    "Policy",
    "Agent",
    "MQE",
    "GCBC",
    "GCIVL",
    "GCIQL",
    "QRL",
    "CRL",
    "HIQL",
    "CMD",
    "TMD",
    "NSACBC",
    "TRA",
    "Encoder",
    "TrainConfig",
    "Execution",
    "Reporter",
    "GraphOptions",
    "Dataset",
    "Table",
    "TableWriter",
    "FarstepError",
]

_HOMES = {
    "train": "farstep.api",
    "resume": "farstep.api",
    "evaluate": "farstep.api",
    "plan": "farstep.api",
    "load_policy": "farstep.serving.policy",
    "make_agent": "farstep.api",
    "register_agent": "farstep.agents.registry",
    "register_encoder": "farstep.networks.encoders",
    "register_policy": "farstep.networks.policies",
    "register_quasimetric": "farstep.quasimetrics",
    "open_dataset": "farstep.data.table",
    "Policy": "farstep.serving.policy",
    "Agent": "farstep.agents.base",
    "MQE": "farstep.agents.mqe",
    "GCBC": "farstep.agents.gcbc",
    "GCIVL": "farstep.agents.gcivl",
    "GCIQL": "farstep.agents.gciql",
    "QRL": "farstep.agents.qrl",
    "CRL": "farstep.agents.crl",
    "HIQL": "farstep.agents.hiql",
    "CMD": "farstep.agents.cmd",
    "TMD": "farstep.agents.tmd",
    "NSACBC": "farstep.agents.nsacbc",
    "TRA": "farstep.agents.tra",
    "Encoder": "farstep.networks.encoder",
    "TrainConfig": "farstep.training.config",
    "Execution": "farstep.api",
    "Reporter": "farstep.training.loop",
    "GraphOptions": "farstep.planning.prepare",
    "Dataset": "farstep.data.table",
    "Table": "farstep.data.table",
    "TableWriter": "farstep.data.table",
    "FarstepError": "farstep.core.errors",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: simulator processes do without JAX."""
    if name not in _HOMES:
        raise AttributeError(f"module 'farstep' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
