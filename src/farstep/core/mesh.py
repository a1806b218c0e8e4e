"""Names of the axes of a mesh of devices."""

from __future__ import annotations

import jax

SEEDS = "seeds"
"""Runs that differ in their seed, side by side, without communication."""

BATCH = "batch"
"""Rows of one batch."""


def devices_of_batch(rows: int) -> jax.sharding.AbstractMesh | None:
    """The mesh in force if it shards batches and `rows` divide over it; else None."""
    mesh = jax.sharding.get_abstract_mesh()
    if BATCH in mesh.axis_names and rows % mesh.shape[BATCH] == 0:
        return mesh
    return None
