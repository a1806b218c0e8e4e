"""The ends of a table's episodes in device memory, from which batches are drawn."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from farstep.core.laws import Steps
from farstep.core.rng import PRNGKey

BLOCK = 2**16
"""Transitions of one block of a long table: a power of two, which `randint` draws without bias."""

LONG = 2**26
"""Least number of transitions for which blocks are drawn. Without blocks, `randint` takes 32 bits
modulo their number, which would make some 2⁻⁶ likelier than others, or more."""


class Episodes(eqx.Module):
    """The transitions that each episode ends, counted from the table's first.

    An episode of L steps has L − 1 transitions, and so has a table its steps less its episodes.
    A long table's counts are kept as a block and a place in it, and may pass an int32.

    Attributes:
        block: number of full blocks of transitions up to each episode's end.
        place: the rest of that number.
        size: transitions of one block.
        blocks: number of blocks.
    """

    block: Int[Array, " episodes"]
    place: Int[Array, " episodes"]
    size: int = eqx.field(static=True)
    blocks: int = eqx.field(static=True, default=1)

    @classmethod
    def from_ends(cls, episode_ends: Int[np.ndarray, " episodes"]) -> Episodes:
        """From the row of the last step of each episode, in order."""
        ends = np.asarray(episode_ends, np.int64)
        counts = ends - np.arange(len(ends))
        total = int(counts[-1])
        if total < LONG:
            return cls(jnp.zeros(len(ends), jnp.int32), jnp.asarray(counts, jnp.int32), total)
        # The last transitions, fewer than a block, are never drawn.
        block, place = np.divmod(counts, BLOCK)
        blocks = total // BLOCK
        return cls(jnp.asarray(block, jnp.int32), jnp.asarray(place, jnp.int32), BLOCK, blocks)

    def starts(self) -> Int[np.ndarray, " episodes"]:
        """Row of each episode's first step, in int64."""
        counts = np.asarray(self.block, np.int64) * self.size + np.asarray(self.place)
        return np.append(0, counts[:-1]) + np.arange(len(counts))

    def rows(self, steps: Steps) -> Int[Array, "..."]:
        """Rows of the table, which must have fewer than 2³¹."""
        before = steps.episode - 1
        ended = jnp.where(before >= 0, self.block[before] * self.size + self.place[before], 0)
        return ended + steps.episode + steps.step

    def uniform(self, key: PRNGKey, size: int) -> Steps:
        """Steps that are not the last of their episode, uniformly."""
        place = jax.random.randint(key, (size,), 0, self.size)
        block = jnp.zeros_like(place)
        if self.blocks > 1:
            block = jax.random.randint(jax.random.fold_in(key, 1), (size,), 0, self.blocks)

        def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = bounds
            middle = (low + high) // 2
            full, rest = self.block[middle], self.place[middle]
            over = (full < block) | ((full == block) & (rest <= place))
            return jnp.where(over, middle + 1, low), jnp.where(over, high, middle)

        count = len(self.place)
        bounds = jnp.zeros_like(place), jnp.full_like(place, count - 1)
        episode, _ = jax.lax.fori_loop(0, count.bit_length(), halve, bounds)

        def beyond(index: Array) -> Array:
            """Transitions from the drawn one to the end of an episode; int32 wraps and is right."""
            return (self.block[index] - block) * self.size + (self.place[index] - place)

        # Before the first episode nothing has ended.
        before = jnp.where(episode > 0, -beyond(episode - 1), block * self.size + place)
        return Steps(episode, before, beyond(episode))
