"""How training lies on devices: seeds apart, or the rows of one seed's batches.

Seeds do not speak to each other, so each device computes for its own what it would compute alone.
Of one seed, each device has all the weights and a part of every batch. The sum of what the parts
say of the weights is rounded in another order than on one device.

The devices may belong to several processes (`core.hosts`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from farstep.core.errors import FarstepError
from farstep.core.mesh import BATCH, SEEDS


@dataclass(frozen=True)
class Layout:
    """The placement of arrays; `mesh` is None on one device."""

    mesh: Mesh | None = None

    @classmethod
    def on_devices(cls, devices: int, *, seeds: int, batch_size: int) -> Layout:
        """The layout of `seeds` seeds on `devices` devices; of several processes, on all devices.

        Raises:
            FarstepError: there are fewer devices, or seeds or rows do not divide evenly.
        """
        there = jax.devices()
        if jax.process_count() > 1:
            if devices not in (1, len(there)):
                raise FarstepError(
                    f"{jax.process_count()} processes train on all of their {len(there)} devices;"
                    f" leave out --devices {devices}."
                )
            devices = len(there)
        if not 1 <= devices <= len(there):
            raise FarstepError(
                f"--devices must be between 1 and the {len(there)} that JAX sees, not {devices}."
            )
        if devices == 1:
            return cls()
        what, count = ("seeds", seeds) if seeds > 1 else ("rows of a batch", batch_size)
        if count % devices:
            raise FarstepError(f"{count} {what} do not divide over {devices} devices.")
        axis = SEEDS if seeds > 1 else BATCH
        return cls(Mesh(np.asarray(there[:devices]), (axis,)))

    def spread(self, tree: Any) -> Any:
        """Arrays with a leading seed axis, seeds apart or, of one seed, on every device."""
        return self._put(tree, seeds=True)

    def repeated(self, tree: Any) -> Any:
        """The same arrays on every device."""
        return self._put(tree, seeds=False)

    def gathered(self, tree: Any) -> Any:
        """Arrays of the devices on every host; on one device they stay where they are."""
        if self.mesh is None:
            return tree
        if jax.process_count() > 1:
            return multihost_utils.process_allgather(tree, tiled=True)
        return jax.device_get(tree)

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Programs traced here see the mesh."""
        if self.mesh is None:
            yield
        else:
            with jax.set_mesh(self.mesh):
                yield

    def _put(self, tree: Any, *, seeds: bool) -> Any:
        if self.mesh is None:
            return tree
        apart = seeds and SEEDS in self.mesh.axis_names
        place = NamedSharding(self.mesh, PartitionSpec(SEEDS) if apart else PartitionSpec())

        def put(leaf: Any) -> Array:
            if isinstance(leaf, Array) and leaf.sharding.is_equivalent_to(place, leaf.ndim):
                return leaf
            if jax.process_count() == 1:
                return jax.device_put(leaf, place)
            # Each process puts down what its own devices need.
            mine = place.addressable_devices_indices_map(leaf.shape)
            parts = [jax.device_put(leaf[index], device) for device, index in mine.items()]
            return jax.make_array_from_single_device_arrays(leaf.shape, place, parts)

        return jax.tree.map(put, tree)
