"""From a `BatchSpec` to batches: draw indices on device, then gather rows.

Drawing needs only the episode structure and is a pure function of the key, so the same batch
comes out whether the rows lie in device memory or in a memory-mapped file.
"""

from __future__ import annotations

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from farstep.core.errors import FarstepError
from farstep.core.rng import stream_key
from farstep.core.types import Batch, BatchSpec, Sampled, Spaces
from farstep.data.normalize import Normalization
from farstep.data.table import Table
from farstep.sampling.augment import random_crops
from farstep.sampling.goals import goal_indices
from farstep.sampling.waypoints import waypoint_offsets

Indices = Int[Array, "*stack batch"]


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
        """From the index of the last step of each episode, in order.

        Raises:
            FarstepError: more steps than an int32 counts.
        """
        if episode_ends[-1] >= np.iinfo(np.int32).max:
            raise FarstepError(
                f"The table has {episode_ends[-1] + 1} steps, and batches are drawn from fewer than"
                " 2³¹. Split the dataset."
            )
        lengths = np.diff(episode_ends, prepend=-1)
        ends = np.repeat(episode_ends, lengths)
        is_valid = np.arange(len(ends)) < ends
        return cls(jnp.asarray(ends, jnp.int32), jnp.asarray(np.flatnonzero(is_valid), jnp.int32))


class Draw(eqx.Module):
    """The indices of one batch, before any row is read; a stack of draws has leading axes."""

    rows: Indices
    goals: dict[str, tuple[Indices, Indices]]
    waypoint: tuple[Indices, Indices] | None
    successors: dict[str, tuple[Indices, Indices]]

    def states(self) -> dict[str, Indices]:
        """The steps whose observations a batch holds, by what they are to it."""
        states = {"rows": self.rows}
        states |= {f"goal/{name}": indices for name, (indices, _) in self.goals.items()}
        if self.waypoint is not None:
            states["waypoint"] = self.waypoint[0]
        states |= {f"successor/{name}": indices for name, (indices, _) in self.successors.items()}
        return states

    def batch(self, observations: Mapping[str, Array], actions: Array) -> Batch:
        """The batch made of the observations at `states`, by the same names."""
        waypoint = None
        if self.waypoint is not None:
            waypoint = Sampled(observations["waypoint"], self.waypoint[1])
        return Batch(
            observations=observations["rows"],
            actions=actions,
            goals={
                name: Sampled(observations[f"goal/{name}"], offsets)
                for name, (_, offsets) in self.goals.items()
            },
            waypoint=waypoint,
            successors={
                name: Sampled(observations[f"successor/{name}"], offsets)
                for name, (_, offsets) in self.successors.items()
            },
        )


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


class DeviceTable(eqx.Module):
    """A table whose rows lie in device memory, ready to be sampled inside a jitted program."""

    observations: Array
    actions: Array
    episodes: Episodes

    @classmethod
    def of(cls, table: Table, normalization: Normalization) -> DeviceTable:
        """Read the whole of `table`, normalised."""
        return cls(
            jnp.asarray(normalization.apply(table.observations)),
            jnp.asarray(normalization.scale_actions(table.actions)),
            Episodes.from_ends(table.episode_ends),
        )

    def sample(self, spec: BatchSpec, key: Key[Array, ""]) -> Batch:
        """A batch as a pure function of the key."""
        drawn = draw(spec, self.episodes, key)
        observations = {name: self.observations[steps] for name, steps in drawn.states().items()}
        return drawn.batch(random_crops(spec, observations, key), self.actions[drawn.rows])


def batch_shape(spec: BatchSpec, spaces: Spaces) -> Batch:
    """A batch of `ShapeDtypeStruct`s, as a table of these spaces would give it."""

    def sample(observations: Array, actions: Array, steps: Array, key: Array) -> Batch:
        return DeviceTable(observations, actions, Episodes(steps, steps)).sample(spec, key)

    return jax.eval_shape(
        sample,
        jax.ShapeDtypeStruct((1, *spaces.observation.shape), spaces.observation.dtype),
        jax.ShapeDtypeStruct((1,), jnp.int32)
        if spaces.action.discrete
        else jax.ShapeDtypeStruct((1, spaces.action.size), jnp.float32),
        jax.ShapeDtypeStruct((1,), jnp.int32),
        jax.random.key(0),
    )
