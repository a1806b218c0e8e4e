"""All pairs over four virtual devices, against one device."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from farstep.quasimetrics import sharded_pairwise_mrn

ON_FOUR_DEVICES = """
import jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from farstep.quasimetrics import pairwise_mrn, sharded_pairwise_mrn

x, y = jax.random.normal(jax.random.key(0), (2, 2, 8, 32))
weight = jax.random.normal(jax.random.key(1), (2, 8, 8))

def both_sides(distance):
    return jax.jit(jax.value_and_grad(
        lambda x, y: (weight * distance(x, y)).sum(), argnums=(0, 1)))

expected = both_sides(lambda x, y: pairwise_mrn(x, y, groups=4))(x, y)
for axis_type in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(axis_type,))
    by_rows = NamedSharding(mesh, PartitionSpec(None, "batch", None))
    spread = jax.device_put((x, y), by_rows)

    def sharded(x, y):
        return sharded_pairwise_mrn(x, y, mesh, "batch", groups=4)

    assert jax.jit(sharded)(*spread).sharding.is_equivalent_to(by_rows, 3)
    ours = both_sides(sharded)(*spread)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
print("equal on", jax.device_count())
"""


def test_equals_one_device():
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
    }
    run = subprocess.run(
        [sys.executable, "-c", ON_FOUR_DEVICES], env=environment, capture_output=True, text=True
    )
    assert run.stdout.strip() == "equal on 4", run.stderr


def test_rows_must_divide():
    mesh = jax.sharding.AbstractMesh((4,), ("batch",))
    x = jnp.zeros((6, 32))
    # Unwrapped: as a user calls it, without the shape checks of the test suite.
    with pytest.raises(ValueError, match="divide among the 4 devices"):
        inspect.unwrap(sharded_pairwise_mrn)(x, x, mesh, "batch")
