"""From a `BatchSpec` to batches: draw indices on device, then gather rows.

Drawing needs only the episode structure and is a pure function of the key, so the same batch
comes out whether the rows lie in device memory or in a memory-mapped file.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from farstep.core.rng import stream_key
from farstep.core.types import Batch, BatchSpec, Sampled
from farstep.sampling.goals import goal_indices
from farstep.sampling.waypoints import waypoint_offsets


class Episodes(eqx.Module):
    """Where episodes end, and which steps have a successor.

    Attributes:
        ends: for each of N steps, the index of the last step of its episode.
        valid: the steps that are not the last of their episode; rows are drawn from these.
    """

    ends: Int[Array, " steps"]
    valid: Int[Array, " valid"]

    @classmethod
    def from_ends(cls, episode_ends: Int[np.ndarray, " episodes"]) -> Episodes:
        """From the index of the last step of each episode, in order."""
        lengths = np.diff(episode_ends, prepend=-1)
        ends = np.repeat(episode_ends, lengths)
        is_valid = np.arange(len(ends)) < ends
        return cls(jnp.asarray(ends, jnp.int32), jnp.asarray(np.flatnonzero(is_valid), jnp.int32))


class Draw(eqx.Module):
    """The indices of one batch, before any row is read."""

    rows: Int[Array, " batch"]
    goals: dict[str, tuple[Int[Array, " batch"], Int[Array, " batch"]]]
    waypoint: tuple[Int[Array, " batch"], Int[Array, " batch"]] | None
    successors: dict[str, tuple[Int[Array, " batch"], Int[Array, " batch"]]]


def draw(spec: BatchSpec, episodes: Episodes, key: Key[Array, ""]) -> Draw:
    """Indices (and offsets) of everything that `spec` asks for."""

    def valid_steps(stream: str) -> Int[Array, " batch"]:
        count = episodes.valid.shape[0]
        return episodes.valid[
            jax.random.randint(stream_key(key, stream, 0), (spec.size,), 0, count)
        ]

    rows = valid_steps("rows")
    ends = episodes.ends[rows]
    goals = {
        name: goal_indices(
            stream_key(key, f"goal/{name}", 0), law, rows, ends, valid_steps(f"random/{name}")
        )
        for name, law in spec.goals.items()
    }
    waypoint = None
    if spec.waypoint is not None:
        _, goal_offsets = goals[spec.waypoint.goal]
        offsets = waypoint_offsets(stream_key(key, "waypoint", 0), spec.waypoint, goal_offsets)
        waypoint = (rows + offsets, offsets)
    successors = {}
    for name, horizon in spec.successors.items():
        offsets = jnp.minimum(horizon, ends - rows)
        if name in spec.capped_by:
            _, goal_offsets = goals[spec.capped_by[name]]
            offsets = jnp.where(goal_offsets < 0, offsets, jnp.minimum(offsets, goal_offsets))
        successors[name] = (rows + offsets, offsets)
    return Draw(rows, goals, waypoint, successors)


def gather(drawn: Draw, observations: Array, actions: Array) -> Batch:
    """Read the drawn rows; works alike on device arrays and on memory-mapped NumPy arrays."""

    def read(indices_and_offsets: tuple[Array, Array]) -> Sampled:
        indices, offsets = indices_and_offsets
        return Sampled(observations[indices], offsets)

    return Batch(
        observations=observations[drawn.rows],
        actions=actions[drawn.rows],
        goals={name: read(goal) for name, goal in drawn.goals.items()},
        waypoint=None if drawn.waypoint is None else read(drawn.waypoint),
        successors={name: read(successor) for name, successor in drawn.successors.items()},
    )


class DeviceTable(eqx.Module):
    """A table whose rows lie in device memory, ready to be sampled inside a jitted program."""

    observations: Array
    actions: Array
    episodes: Episodes

    def sample(self, spec: BatchSpec, key: Key[Array, ""]) -> Batch:
        """A batch as a pure function of the key."""
        return gather(draw(spec, self.episodes, key), self.observations, self.actions)
