"""Offline goal-conditioned RL that stitches: learn from logged episodes, reach far beyond them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from farstep.agents.base import Agent
    from farstep.agents.registry import (
        CMD,
        CRL,
        GCBC,
        GCIQL,
        GCIVL,
        HIQL,
        MQE,
        NSACBC,
        QRL,
        TMD,
        TRA,
        register_agent,
    )
    from farstep.api import Execution, evaluate, make_agent, plan, resume, train
    from farstep.core.errors import FarstepError
    from farstep.data.table import Dataset, Table, TableWriter, open_dataset
    from farstep.networks.encoders import Encoder, register_encoder
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
    "farstep.api": ("train", "resume", "evaluate", "plan", "make_agent", "Execution"),
    "farstep.agents.registry": (
        *("register_agent", "MQE", "GCBC", "GCIVL", "GCIQL", "QRL", "CRL"),
        *("HIQL", "CMD", "TMD", "NSACBC", "TRA"),
    ),
    "farstep.agents.base": ("Agent",),
    "farstep.core.errors": ("FarstepError",),
    "farstep.data.table": ("Dataset", "Table", "TableWriter", "open_dataset"),
    "farstep.networks.encoders": ("Encoder", "register_encoder"),
    "farstep.networks.policies": ("register_policy",),
    "farstep.planning.prepare": ("GraphOptions",),
    "farstep.quasimetrics": ("register_quasimetric",),
    "farstep.serving.policy": ("Policy", "load_policy"),
    "farstep.training.config": ("TrainConfig",),
    "farstep.training.loop": ("Reporter",),
}
"""Public names by the module that they are imported from."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: simulator processes do without JAX."""
    import importlib

    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'farstep' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
