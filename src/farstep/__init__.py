"""Offline goal-conditioned RL that stitches: learn from logged episodes, reach far beyond them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from farstep.core.errors import FarstepError
    from farstep.data.table import Dataset, Table, TableWriter, open_dataset
    from farstep.serving.policy import Policy, load_policy

__all__ = [
    "Dataset",
    "FarstepError",
    "Policy",
    "Table",
    "TableWriter",
    "load_policy",
    "open_dataset",
]

_HOMES = {
    "Dataset": "farstep.data.table",
    "FarstepError": "farstep.core.errors",
    "Policy": "farstep.serving.policy",
    "Table": "farstep.data.table",
    "TableWriter": "farstep.data.table",
    "load_policy": "farstep.serving.policy",
    "open_dataset": "farstep.data.table",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: simulator processes do without JAX."""
    if name not in _HOMES:
        raise AttributeError(f"module 'farstep' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
