"""From a `BatchSpec` to batches: draw steps on device, then gather rows.

Drawing needs only where episodes end and is a pure function of the key, so the same batch comes
out whether the rows lie in device memory or in a memory-mapped file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from farstep.core.goals import WHOLE, GoalRule
from farstep.core.laws import Drawn, Steps, Window
from farstep.core.rng import PRNGKey, stream_key
from farstep.core.types import CURRENT, Arrays, Batch, BatchSpec, Column, Sampled, Spaces
from farstep.data.normalize import Normalization
from farstep.data.table import Table, goals_of
from farstep.sampling.augment import random_crops, random_views
from farstep.sampling.episodes import Episodes

Columns = Mapping[str, Mapping[str, Arrays]]
"""The arrays read for each sample, by its name and the column's."""


def draw(spec: BatchSpec, episodes: Episodes, key: PRNGKey) -> dict[str, Drawn]:
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


def assemble(spec: BatchSpec, drawn: Mapping[str, Drawn], columns: Columns, key: PRNGKey) -> Batch:
    """The batch of the arrays read at the steps `drawn`, its images augmented as `spec` asks."""
    columns = random_views(spec, random_crops(spec, columns, key), key)
    return Batch({name: Sampled(one.offsets, dict(columns[name])) for name, one in drawn.items()})


class DeviceTable(eqx.Module):
    """A table whose rows lie in device memory, ready to be sampled inside a jitted program."""

    observations: Any
    actions: Array
    episodes: Episodes
    goals: Arrays | None = None
    frames: int = eqx.field(static=True, default=1)

    @classmethod
    def from_table(
        cls,
        table: Table,
        normalization: Normalization,
        rule: GoalRule = WHOLE,
        frames: int = 1,
    ) -> DeviceTable:
        """Read the whole of `table`, normalised; goals apart if they are not observations."""
        goals = None
        if not rule.whole:
            goals = on_device(normalization.apply_goals(goals_of(table, rule), rule))
        return cls(
            on_device(normalization.apply(table.observations)),
            jnp.asarray(normalization.scale_actions(table.actions)),
            Episodes.from_ends(table.episode_ends),
            goals,
            frames,
        )

    def sample(self, spec: BatchSpec, key: PRNGKey) -> Batch:
        """A batch as a pure function of the key."""
        drawn = draw(spec, self.episodes, key)
        columns = {
            name: {column: self._read(column, drawn[name].steps) for column in reads}
            for name, reads in spec.reads(whole=self.goals is None).items()
        }
        return assemble(spec, drawn, columns, key)

    def _read(self, column: Column, steps: Steps) -> Arrays:
        """A column at these steps, with the frames before them if it is an observation."""
        if column == "actions":
            return self.actions[self.episodes.rows(steps)]
        if column == "goals" and self.goals is not None:
            rows = self.episodes.rows(steps)
            return jax.tree.map(lambda array: array[rows], self.goals)
        if self.frames == 1:
            rows = self.episodes.rows(steps)
            return jax.tree.map(lambda array: array[rows], self.observations)
        window = Window(back=self.frames - 1).around(steps, steps.left)
        rows = self.episodes.rows(window.steps)

        def stacked(array: Array) -> Array:
            frames = [array[rows[..., place]] for place in range(self.frames)]
            return jnp.concatenate(frames, axis=-1)

        return jax.tree.map(stacked, self.observations)


def on_device(arrays: Any) -> Any:
    """An array, or a dict of some, in device memory."""
    return jax.tree.map(jnp.asarray, arrays)


def batch_shape(spec: BatchSpec, spaces: Spaces) -> Batch:
    """A batch of `ShapeDtypeStruct`s, as a table of these spaces would give it."""

    def sample(
        observations: Arrays, actions: Array, goals: Arrays | None, ends: Array, key: Array
    ) -> Batch:
        table = DeviceTable(observations, actions, Episodes(ends, ends, 1), goals, spaces.frames)
        return table.sample(spec, key)

    actions = spaces.action
    return jax.eval_shape(
        sample,
        spaces.frame.batch(1),
        jax.ShapeDtypeStruct((1,), jnp.int32)
        if actions.discrete
        else jax.ShapeDtypeStruct((1, actions.size), jnp.float32),
        None if spaces.rule.whole else spaces.goal.batch(1),
        jax.ShapeDtypeStruct((1,), jnp.int32),
        jax.random.key(0),
    )
