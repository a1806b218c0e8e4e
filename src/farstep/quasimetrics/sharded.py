"""All pairs of MRN with the rows spread over devices."""

from __future__ import annotations

import jax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float

from farstep.quasimetrics.pairwise import pairwise_mrn


def sharded_pairwise_mrn(
    x: Float[Array, "*ensemble rows latent"],
    y: Float[Array, "*ensemble columns latent"],
    mesh: Mesh,
    axis: str,
    groups: int = 8,
) -> Float[Array, "*ensemble rows columns"]:
    """`pairwise_mrn` of two batches spread over a mesh's `axis`: each device computes its own rows.

    Devices exchange the points of `y` and the sums of their gradients, never distances. Raises
    `ValueError` where the points of either set do not divide among the devices, and as
    `pairwise_mrn` does.
    """
    devices = mesh.shape[axis]
    if min(x.ndim, y.ndim) < 2 or x.shape[-2] % devices or y.shape[-2] % devices:
        raise ValueError(
            f"The rows of x and of y must divide among the {devices} devices of axis {axis!r}: "
            f"{x.shape}, {y.shape}."
        )

    def own_rows(x: Array, y: Array) -> Array:
        everyone = jax.lax.all_gather(y, axis, axis=y.ndim - 2, tiled=True)
        return pairwise_mrn(x, everyone, groups)

    rows = PartitionSpec(*[None] * (x.ndim - 2), axis, None)
    # The check is off because it wants the zeros that a loop starts from marked as differing
    # between devices.
    return jax.shard_map(
        own_rows, mesh=mesh, in_specs=(rows, rows), out_specs=rows, check_vma=False
    )(x, y)
