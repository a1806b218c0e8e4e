"""From a `BatchSpec` to batches: draw steps on device, then gather rows.

Drawing needs only where episodes end and is a pure function of the key, so the same batch comes
out whether the rows lie in device memory or in a memory-mapped file.
"""

from __future__ import annotations

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from farstep.core.goals import WHOLE, GoalRule
from farstep.core.laws import Drawn
from farstep.core.rng import stream_key
from farstep.core.types import CURRENT, Batch, BatchSpec, Sampled, Spaces
from farstep.data.normalize import Normalization
from farstep.data.table import Table, goals_of
from farstep.sampling.augment import random_crops
from farstep.sampling.episodes import Episodes

Columns = Mapping[str, Mapping[str, Array]]
"""What was read of each sample, by its name and the column's."""


def draw(spec: BatchSpec, episodes: Episodes, key: Key[Array, ""]) -> dict[str, Drawn]:
    """The steps of everything that `spec` asks for, by name."""
    rows = episodes.uniform(stream_key(key, "rows", 0), spec.size)
    drawn = {CURRENT: Drawn(rows, jnp.zeros_like(rows.step))}
    for name, sample in spec.samples.items():
        start = drawn[sample.around].steps
        left = start.left
        if sample.cap is not None:
            cap = drawn[sample.cap].offsets
            left = jnp.where(cap < 0, left, jnp.minimum(left, cap))
        anywhere = stream_key(key, f"random/{name.removeprefix('goal/')}", 0)
        drawn[name] = sample.law.draw(
            stream_key(key, name, 0),
            start,
            left,
            lambda anywhere=anywhere: episodes.uniform(anywhere, spec.size),
        )
    return drawn


def assemble(
    spec: BatchSpec, drawn: Mapping[str, Drawn], columns: Columns, key: Key[Array, ""]
) -> Batch:
    """The batch of what was read at the steps `drawn`, its images cropped if `spec` asks for it."""
    columns = random_crops(spec, columns, key)
    return Batch({name: Sampled(one.offsets, dict(columns[name])) for name, one in drawn.items()})


class DeviceTable(eqx.Module):
    """A table whose rows lie in device memory, ready to be sampled inside a jitted program."""

    observations: Array
    actions: Array
    episodes: Episodes
    goals: Array | None = None

    @classmethod
    def of(cls, table: Table, normalization: Normalization, rule: GoalRule = WHOLE) -> DeviceTable:
        """Read the whole of `table`, normalised; goals apart if they are not observations."""
        goals = None
        if not rule.whole:
            goals = jnp.asarray(normalization.apply_goals(goals_of(table, rule), rule))
        return cls(
            jnp.asarray(normalization.apply(table.observations)),
            jnp.asarray(normalization.scale_actions(table.actions)),
            Episodes.from_ends(table.episode_ends),
            goals,
        )

    def sample(self, spec: BatchSpec, key: Key[Array, ""]) -> Batch:
        """A batch as a pure function of the key."""
        drawn = draw(spec, self.episodes, key)
        whole = {
            "observations": self.observations,
            "goals": self.observations if self.goals is None else self.goals,
            "actions": self.actions,
        }
        columns = {}
        for name, reads in spec.reads(whole=self.goals is None).items():
            rows = self.episodes.rows(drawn[name].steps)
            columns[name] = {column: whole[column][rows] for column in reads}
        return assemble(spec, drawn, columns, key)


def batch_shape(spec: BatchSpec, spaces: Spaces) -> Batch:
    """A batch of `ShapeDtypeStruct`s, as a table of these spaces would give it."""

    def sample(
        observations: Array, actions: Array, goals: Array | None, ends: Array, key: Array
    ) -> Batch:
        table = DeviceTable(observations, actions, Episodes(ends, ends, 1), goals)
        return table.sample(spec, key)

    actions = spaces.action
    return jax.eval_shape(
        sample,
        jax.ShapeDtypeStruct((1, *spaces.observation.shape), spaces.observation.dtype),
        jax.ShapeDtypeStruct((1,), jnp.int32)
        if actions.discrete
        else jax.ShapeDtypeStruct((1, actions.size), jnp.float32),
        None
        if spaces.rule.whole
        else jax.ShapeDtypeStruct((1, *spaces.goal.shape), spaces.goal.dtype),
        jax.ShapeDtypeStruct((1,), jnp.int32),
        jax.random.key(0),
    )
