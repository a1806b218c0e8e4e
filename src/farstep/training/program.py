"""Many updates as one compiled program, for one seed or for several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from farstep.agents.base import Agent, AgentState
from farstep.core.rng import root_key, stream_key
from farstep.core.types import Metrics, Params, Spaces
from farstep.sampling.batches import DeviceTable

PARAMS = "params"
"""Name of a checkpoint's networks."""


class Progress(eqx.Module):
    """What training carries from update to update, and what a checkpoint holds.

    Attributes:
        state: the agent's.
        sums: each metric summed since the last line of the journal.
        count: updates in those sums.
    """

    state: AgentState
    sums: dict[str, Float[Array, ""]]
    count: Int[Array, ""]

    def means(self) -> Metrics:
        """Each metric's mean since the last line of the journal."""
        return {name: total / self.count for name, total in self.sums.items()}

    def items(self) -> dict[str, Any]:
        """The parts of a checkpoint: networks apart, so that a policy reads nothing else."""
        state = self.state
        return {
            PARAMS: state.params,
            "learner": {
                "optimizer": state.optimizer,
                "step": state.step,
                "sums": self.sums,
                "count": self.count,
            },
        }

    @classmethod
    def from_items(cls, items: Mapping[str, Any]) -> Progress:
        """`items` back to where training stood."""
        learner = items["learner"]
        state = AgentState(items[PARAMS], learner["optimizer"], learner["step"])
        return cls(state, learner["sums"], learner["count"])

    def cleared(self) -> Progress:
        """The same state with empty sums."""
        return Progress(self.state, *jax.tree.map(jnp.zeros_like, (self.sums, self.count)))


def start(agent: Agent, spaces: Spaces, table: DeviceTable, seed: int) -> Progress:
    """The state before the first update of the run seeded by `seed`."""
    root = root_key(seed)
    state = agent.init(spaces, stream_key(root, "init", 0))
    _, metrics = jax.eval_shape(partial(_update, agent), state, table, root)
    sums = {name: jnp.zeros(value.shape, value.dtype) for name, value in metrics.items()}
    return Progress(state, sums, jnp.zeros((), jnp.int32))


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def advance(
    agent: Agent,
    progress: Progress,
    table: DeviceTable,
    root: Key[Array, ""],
    updates: Int[Array, ""],
) -> Progress:
    """Do `updates` updates without returning to the host between them.

    Update n draws from the root key and n alone, and `updates` is an argument of one compiled
    program, so the result does not depend on how a run is cut into calls.
    """

    def body(_: Int[Array, ""], carried: Progress) -> Progress:
        state, metrics = _update(agent, carried.state, table, root)
        sums = {name: carried.sums[name] + metrics[name] for name in carried.sums}
        return Progress(state, sums, carried.count + 1)

    return jax.lax.fori_loop(0, updates, body, progress)


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def advance_seeds(
    agent: Agent,
    progress: Progress,
    table: DeviceTable,
    roots: Key[Array, " seeds"],
    updates: Int[Array, ""],
) -> Progress:
    """`advance` for several seeds in one program; `progress` has a leading seed axis."""
    return jax.vmap(lambda p, root: advance(agent, p, table, root, updates))(progress, roots)


@partial(jax.jit, static_argnums=(0, 3))
def validate(agent: Agent, params: Params, table: DeviceTable, batches: int) -> Metrics:
    """The loss's terms on `batches` batches of held-out data, always the same ones."""
    root = root_key(0)

    def one(index: Int[Array, ""]) -> Metrics:
        batch = table.sample(agent.spec(), stream_key(root, "validation", index))
        _, metrics = agent.loss(params, batch, stream_key(root, "validation/loss", index))
        return metrics

    return {
        name: jnp.mean(values) for name, values in jax.lax.map(one, jnp.arange(batches)).items()
    }


def stack(trees: Sequence[Progress]) -> Progress:
    """Several seeds' states as one with a leading seed axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def member(progress: Progress, index: int) -> Progress:
    """One seed's state out of a stacked one."""
    return jax.tree.map(lambda leaf: leaf[index], progress)


def _update(
    agent: Agent, state: AgentState, table: DeviceTable, root: Key[Array, ""]
) -> tuple[AgentState, Metrics]:
    batch = table.sample(agent.spec(), stream_key(root, "batch", state.step))
    return agent.update(state, batch, stream_key(root, "update", state.step))
