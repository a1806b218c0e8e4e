"""The choice whether a table's rows lie in device memory or on disk during training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import jax
import numpy as np

from farstep.core import hosts
from farstep.core.errors import FarstepError
from farstep.core.files import format_bytes
from farstep.core.goals import WHOLE, GoalRule
from farstep.core.machine import available_memory
from farstep.data.normalize import Normalization
from farstep.data.table import Table
from farstep.sampling.batches import DeviceTable
from farstep.sampling.stream import HostTable

DataLocation = Literal["auto", "device", "stream"]
"""`device`: in device memory. `stream`: on disk, batches are read ahead. `auto`: by size."""

DEVICE_SHARE = 0.5
"""Of an accelerator's free memory, what tables may fill: networks and activations need the rest."""

HOST_SHARE = 0.25
"""The same of the main memory where the CPU is the device: while a table is read in, up to three
copies exist, and the rest of the machine lives there too."""

INDEX_BYTES = 8
"""Bytes of an episode in `Episodes`, which lie in device memory either way."""

DEVICE_ROWS = 2**31 - 1
"""Most rows that a program on the device can number."""


def place(
    tables: Sequence[Table],
    normalization: Normalization,
    data_location: DataLocation,
    rule: GoalRule = WHOLE,
    frames: int = 1,
) -> list[DeviceTable | HostTable]:
    """The tables, in order, where `data_location` says; the first have the first claim to memory.

    Raises:
        FarstepError: device memory is asked for, and the tables are larger than what is free.
    """
    free = free_memory()
    needed = sum(map(table_bytes, tables))
    if data_location == "device" and max(table.num_steps for table in tables) > DEVICE_ROWS:
        raise FarstepError(
            f"{tables[0].path.parent} has 2³¹ steps or more, which device memory cannot number: use"
            " --data-location stream."
        )
    if data_location == "device" and free is not None and needed > free:
        raise FarstepError(
            f"{tables[0].path.parent} takes {format_bytes(needed)} of device memory, and"
            f" {format_bytes(free)} are free: use --data-location stream."
        )
    # If free memory is unknown, data stay on disk unless `device` is asked for.
    budget = (free or 0) * share()
    placed: list[DeviceTable | HostTable] = []
    for table in tables:
        fits = table_bytes(table) <= budget and table.num_steps <= DEVICE_ROWS
        if data_location == "device" or (data_location == "auto" and fits):
            placed.append(DeviceTable.from_table(table, normalization, rule, frames))
            budget -= table_bytes(table)
        else:
            placed.append(HostTable.from_table(table, normalization, rule, frames))
            budget -= INDEX_BYTES * table.num_episodes
    return placed


def table_bytes(table: Table) -> int:
    """Device memory that the whole table takes."""
    return table.observations.nbytes + table.actions.nbytes + INDEX_BYTES * table.num_episodes


def share() -> float:
    """Part of the free device memory that tables may fill."""
    return HOST_SHARE if jax.default_backend() == "cpu" else DEVICE_SHARE


def free_memory() -> int | None:
    """Bytes of device memory that are free now, where the device tells."""
    if jax.default_backend() == "cpu":
        free = available_memory()
    else:
        statistics = jax.local_devices()[0].memory_stats() or {"bytes_limit": -1}
        free = statistics["bytes_limit"] - statistics.get("bytes_in_use", 0)
    # Several processes must all choose alike.
    free = int(hosts.broadcast(np.asarray(free)))
    return None if free < 0 else free
