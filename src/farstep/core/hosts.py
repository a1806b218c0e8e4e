"""Several processes that train together: what one of them does for all, and what all agree upon.

`jax.distributed` joins the processes, each with its own devices. All of them execute the same
program in the same order. Process 0 alone reads and writes run directories and speaks; what it
finds is sent to the others, and what fails there fails everywhere. With one process, nothing here
does anything.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from farstep.core.errors import FarstepError

Found = TypeVar("Found")

REASON_BYTES = 4096
"""Of an error's message that the other processes are told."""

SHUTDOWN_SECONDS = 30
"""How long a process that ends waits for the others."""


def join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Make this process one of several; before JAX has looked for devices.

    Args:
        coordinator: `HOST:PORT` of process 0, where it listens; what starts the processes (SLURM,
            Open MPI, a Cloud TPU) tells what is None.
        processes: how many there are.
        process: the number of this one, from 0.

    Raises:
        FarstepError: nothing tells, the address has no port, or the others do not come.
    """
    if coordinator is not None and not re.fullmatch(r".+:\d+", coordinator):
        raise FarstepError(f"--coordinator needs HOST:PORT of process 0, not '{coordinator}'.")
    # It would take SIGTERM from the training, which saves and stops.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator, processes, process, shutdown_timeout_seconds=SHUTDOWN_SECONDS
        )
    except (ValueError, TypeError, RuntimeError) as error:
        raise FarstepError(
            f"The processes do not find together: {error} Start each by srun or mpirun, or give"
            " each --coordinator HOST:PORT --processes N --process I."
        ) from error


def is_first() -> bool:
    """Whether this is process 0, which speaks for all."""
    return jax.process_index() == 0


def broadcast(tree: Any) -> Any:
    """Process 0's tree, bit for bit; the others give one of the same shapes."""
    if jax.process_count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, tree))
    # As bytes, since the sum behind a broadcast would lose the sign of a zero.
    plain = [np.frombuffer(leaf.tobytes(), np.uint8) for leaf in leaves]
    sent = multihost_utils.broadcast_one_to_all(plain)
    there = zip(leaves, sent, strict=True)
    return structure.unflatten(
        np.frombuffer(np.asarray(data).tobytes(), leaf.dtype).reshape(leaf.shape)
        for leaf, data in there
    )


def by_first(action: Callable[[], Found]) -> Found | None:
    """What `action` gives in process 0; None in the others, which wait for it.

    Raises:
        Exception: what it raised in process 0. The others raise a FarstepError that says the same.
    """
    if jax.process_count() == 1:
        return action()
    found, failed = None, None
    if is_first():
        try:
            found = action()
        except Exception as error:
            failed = error
    reason = b"" if failed is None else (str(failed) or repr(failed)).encode()
    told = np.frombuffer(reason[:REASON_BYTES].ljust(REASON_BYTES, b"\0"), np.uint8)
    heard = broadcast(told).tobytes().rstrip(b"\0")
    if failed is not None:
        raise failed
    if heard:
        raise FarstepError(heard.decode(errors="replace"))
    return found


def greatest(number: int) -> int:
    """The greatest of the processes' numbers, each an int32."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.process_allgather(np.asarray(number, np.int32)).max())


def check_alike(text: str) -> None:
    """Raises FarstepError in every process unless all of them have the same text."""
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
    if greatest(int((broadcast(digest) != digest).any())):
        raise FarstepError(
            "The processes were given different settings or data: each needs the same command, and"
            " data of the same content."
        )
