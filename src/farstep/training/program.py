"""Many updates as one compiled program, for one seed or for several side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from farstep.agents.base import Agent, AgentState
from farstep.core.errors import FarstepError
from farstep.core.rng import root_key, stream_key
from farstep.core.types import Batch, Metrics, Params, Spaces
from farstep.sampling.batches import DeviceTable, batch_shape
from farstep.sampling.stream import Chunk, Reader

PARAMS = "params"
"""Name of a checkpoint's networks."""

TRAINING = "batch"
"""The random stream that training batches are drawn from."""

VALIDATION = "validation"
"""The random stream that held-out batches are drawn from."""


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


def start(agent: Agent, spaces: Spaces, seed: int) -> Progress:
    """The state before the first update of the run seeded by `seed`."""
    root = root_key(seed)
    state = agent.init(spaces, stream_key(root, "init", 0))
    _, metrics = jax.eval_shape(agent.update, state, batch_shape(agent.spec(), spaces), root)
    sums = {name: jnp.zeros(value.shape, value.dtype) for name, value in metrics.items()}
    return Progress(state, sums, jnp.zeros((), jnp.int32))


def check(agent: Agent, spaces: Spaces) -> None:
    """Trace initialisation and an update without computing either.

    Raises:
        FarstepError: the agent's hyperparameters do not fit each other or the data.
    """
    try:
        jax.eval_shape(lambda: start(agent, spaces, seed=0))
    except FarstepError:
        raise
    except Exception as error:  # Networks and losses raise whatever a wrong shape leads to.
        reason = str(error).strip().partition("\n")[0]
        raise FarstepError(
            f"{type(agent).__name__} cannot be built with these hyperparameters for {spaces}: "
            f"{type(error).__name__}: {reason}"
        ) from error


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
    spec = agent.training_spec()
    return _repeat(agent, progress, root, updates, lambda _, key: table.sample(spec, key))


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


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def advance_streamed(
    agent: Agent,
    progress: Progress,
    chunk: Chunk,
    skip: Int[Array, ""],
    root: Key[Array, ""],
    updates: Int[Array, ""],
) -> Progress:
    """`advance` on batches that were read beforehand; the next update's is number `skip`."""
    spec = agent.training_spec()
    return _repeat(
        agent, progress, root, updates, lambda index, key: chunk.sample(spec, key, skip + index)
    )


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def advance_seeds_streamed(
    agent: Agent,
    progress: Progress,
    chunk: Chunk,
    skip: Int[Array, ""],
    roots: Key[Array, " seeds"],
    updates: Int[Array, ""],
) -> Progress:
    """`advance_streamed` for several seeds; `progress` and `chunk` have a leading seed axis."""
    return jax.vmap(lambda p, c, root: advance_streamed(agent, p, c, skip, root, updates))(
        progress, chunk, roots
    )


@partial(jax.jit, static_argnums=(0, 3))
def validate(agent: Agent, params: Params, table: DeviceTable, batches: int) -> Metrics:
    """The loss's terms on `batches` batches of held-out data, always the same ones."""

    def one(index: Int[Array, ""]) -> Metrics:
        key = stream_key(root_key(0), VALIDATION, index)
        return _held_out(agent, params, table.sample(agent.spec(), key), index)

    return jax.tree.map(jnp.mean, jax.lax.map(one, jnp.arange(batches)))


def validate_streamed(agent: Agent, params: Params, reader: Reader, batches: int) -> Metrics:
    """`validate` on a table that stays on disk."""
    terms = [
        _held_out_read(agent, params, reader.read(index, 1), jnp.asarray(index))
        for index in range(batches)
    ]
    return jax.tree.map(lambda *values: jnp.mean(jnp.stack(values)), *terms)


def stack(trees: Sequence[Progress]) -> Progress:
    """Several seeds' states as one with a leading seed axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def member(progress: Progress, index: int) -> Progress:
    """One seed's state out of a stacked one."""
    return jax.tree.map(lambda leaf: leaf[index], progress)


def _repeat(
    agent: Agent,
    progress: Progress,
    root: Key[Array, ""],
    updates: Int[Array, ""],
    sample: Callable[[Int[Array, ""], Key[Array, ""]], Batch],
) -> Progress:
    """`updates` updates, each on the batch of its number in this call and its key."""

    def body(index: Int[Array, ""], carried: Progress) -> Progress:
        step = carried.state.step
        with jax.named_scope("sample"):
            batch = sample(index, stream_key(root, TRAINING, step))
        state, metrics = agent.update(carried.state, batch, stream_key(root, "update", step))
        sums = {name: carried.sums[name] + metrics[name] for name in carried.sums}
        return Progress(state, sums, carried.count + 1)

    return jax.lax.fori_loop(0, updates, body, progress)


def _held_out(agent: Agent, params: Params, batch: Batch, index: Int[Array, ""]) -> Metrics:
    _, metrics = agent.loss(params, batch, stream_key(root_key(0), "validation/loss", index))
    return metrics


@partial(jax.jit, static_argnums=0)
def _held_out_read(agent: Agent, params: Params, chunk: Chunk, index: Int[Array, ""]) -> Metrics:
    key = stream_key(root_key(0), VALIDATION, index)
    batch = chunk.sample(agent.spec(), key, jnp.zeros((), jnp.int32))
    return _held_out(agent, params, batch, index)
