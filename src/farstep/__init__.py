"""Offline goal-conditioned RL that stitches: learn from logged episodes, reach far beyond them."""

from farstep.core.errors import FarstepError
from farstep.data.table import Dataset, Table, open_dataset
from farstep.serving.policy import Policy, load_policy

__all__ = ["Dataset", "FarstepError", "Policy", "Table", "load_policy", "open_dataset"]
