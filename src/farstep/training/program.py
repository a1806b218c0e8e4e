"""Many updates as one compiled program, of one seed or of several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Key

from farstep.agents.base import Agent, AgentState
from farstep.core.errors import FarstepError
from farstep.core.mesh import BATCH, SEEDS
from farstep.core.rng import PRNGKey, root_key, stream_key
from farstep.core.types import Batch, BatchSpec, Metrics, Params, Spaces
from farstep.networks.encoders import with_weights
from farstep.networks.targets import copy_of
from farstep.sampling.batches import DeviceTable, batch_shape
from farstep.sampling.stream import Chunk

PARAMS = "params"
"""Name of the networks in a checkpoint that act."""

TRAINING = "batch"
"""The random stream that training batches are drawn from."""

VALIDATION = "validation"
"""The random stream that held-out batches are drawn from."""


Source = DeviceTable | Chunk
"""The source of batches: a table in device memory, or batches read from one on disk."""


class TrainState(eqx.Module):
    """The state that training carries from update to update, and that a checkpoint holds.

    Attributes:
        state: the agent's.
        sums: each metric summed since the last line of the metrics log.
        count: updates in those sums.
    """

    state: AgentState
    sums: dict[str, Float[Array, ""]]
    count: Int[Array, ""]

    def means(self) -> Metrics:
        """Each metric's mean since the last line of the metrics log."""
        return {name: total / self.count for name, total in self.sums.items()}

    def items(self) -> dict[str, Any]:
        """The parts of a checkpoint: acting networks apart, so that a policy reads nothing else."""
        state = self.state
        learner: dict[str, Any] = {
            "optimizer": state.optimizer,
            "step": state.step,
            "sums": self.sums,
            "count": self.count,
        }
        if state.average is not None:
            learner["params"] = state.params
        return {PARAMS: state.acting, "learner": learner}

    @classmethod
    def from_items(cls, items: Mapping[str, Any]) -> TrainState:
        """The state of training from the items of a checkpoint."""
        learner, acting = items["learner"], items[PARAMS]
        average = acting if "params" in learner else None
        params = learner.get("params", acting)
        state = AgentState(params, learner["optimizer"], learner["step"], average)
        return cls(state, learner["sums"], learner["count"])

    def cleared(self) -> TrainState:
        """The same state with empty sums, on the host."""
        empty = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), (self.sums, self.count))
        return TrainState(self.state, *empty)


def start(agent: Agent, spaces: Spaces, seed: int) -> TrainState:
    """The state before the first update of the run seeded by `seed`."""
    root = root_key(seed)
    state = agent.init(spaces, stream_key(root, "init", 0))
    _, metrics = jax.eval_shape(agent.update, state, batch_shape(agent.spec(), spaces), root)
    sums = {name: jnp.zeros(value.shape, value.dtype) for name, value in metrics.items()}
    return TrainState(state, sums, jnp.zeros((), jnp.int32))


def fresh(agent: Agent, spaces: Spaces, seed: int) -> TrainState:
    """`start` with the weights of pretrained encoders.

    Raises:
        FarstepError: their file cannot be read or does not fit.
    """
    began = start(agent, spaces, seed)
    params = with_weights(began.state.params, agent.encoder_weights)
    average = None if began.state.average is None else copy_of(params)
    return replace(began, state=replace(began.state, params=params, average=average))


def check(agent: Agent, spaces: Spaces, *, resumed: bool = False) -> None:
    """Trace initialisation and an update without computing either.

    Args:
        resumed: without the files of pretrained encoders.

    Raises:
        FarstepError: the agent's hyperparameters do not fit each other or the data.
    """
    try:
        jax.eval_shape(lambda: (start if resumed else fresh)(agent, spaces, seed=0))
    except FarstepError:
        raise
    except Exception as error:  # Networks and losses raise whatever a wrong shape leads to.
        reason = str(error).strip().partition("\n")[0]
        raise FarstepError(
            f"{type(agent).__name__} cannot be built with these hyperparameters for {spaces}: "
            f"{type(error).__name__}: {reason}"
        ) from error


@partial(jax.jit, static_argnums=(0, 6), donate_argnums=1)
def advance(
    agent: Agent,
    state: TrainState,
    source: Source,
    first: Int[Array, ""],
    roots: Key[Array, " seeds"],
    updates: Int[Array, ""],
    mesh: Mesh | None = None,
) -> TrainState:
    """Do `updates` updates of every seed without returning to the host between them.

    Update n draws from its seed's root key and n alone, and `updates` is an argument of one
    compiled program, so the result does not depend on how a run is cut into calls.

    Args:
        state: with a leading seed axis.
        source: a table, or a chunk with a leading seed axis.
        first: number of the chunk's batch that the first update takes; of no matter to a table.
        mesh: devices over which seeds lie apart (`SEEDS`), or rows of one seed's batch (`BATCH`).
    """
    read = isinstance(source, Chunk)

    def of_seeds(state: TrainState, source: Source, roots: Key[Array, " some"]) -> TrainState:
        def of_one_seed(state: TrainState, source: Source, root: PRNGKey) -> TrainState:
            return _repeat(agent, state, source, first, root, updates, mesh)

        if len(roots) > 1:
            return jax.vmap(of_one_seed, (0, 0 if read else None, 0))(state, source, roots)
        # Without `vmap`, which would make of each product a batch of one product.
        one = member(source, 0) if read else source
        return stack([of_one_seed(member(state, 0), one, roots[0])])

    if mesh is None or SEEDS not in mesh.axis_names:
        return of_seeds(state, source, roots)
    apart = PartitionSpec(SEEDS)
    of_device = jax.shard_map(
        of_seeds,
        mesh=mesh,
        in_specs=(apart, apart if read else PartitionSpec(), apart),
        out_specs=apart,
        check_vma=False,
    )
    return of_device(state, source, roots)


@partial(jax.jit, static_argnums=(0, 4))
def validate(
    agent: Agent, params: Params, source: Source, first: Int[Array, ""], batches: int
) -> Metrics:
    """Means of the loss's terms on held-out batches from number `first` on, always the same ones.

    Args:
        source: a table, or a chunk without a seed axis, which begins with batch `first`.
    """

    def one(offset: Int[Array, ""]) -> Metrics:
        number = first + offset
        key = stream_key(root_key(0), VALIDATION, number)
        batch = _batch(source, agent.spec(), key, offset)
        _, metrics = agent.loss(params, batch, stream_key(root_key(0), "validation/loss", number))
        return metrics

    return jax.tree.map(jnp.mean, jax.lax.map(one, jnp.arange(batches)))


def stack(trees: Sequence[Any]) -> Any:
    """Several seeds' trees as one with a leading seed axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def member(tree: Any, index: int) -> Any:
    """One seed's tree out of a stacked one."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def _repeat(
    agent: Agent,
    state: TrainState,
    source: Source,
    first: Int[Array, ""],
    root: PRNGKey,
    updates: Int[Array, ""],
    mesh: Mesh | None,
) -> TrainState:
    """`updates` updates of one seed."""

    def body(index: Int[Array, ""], carried: TrainState) -> TrainState:
        step = carried.state.step
        with jax.named_scope("sample"):
            key = stream_key(root, TRAINING, step)
            batch = _batch(source, agent.training_spec(), key, first + index)
            if mesh is not None and BATCH in mesh.axis_names:
                rows = NamedSharding(mesh, PartitionSpec(BATCH))
                batch = jax.lax.with_sharding_constraint(batch, rows)
        state, metrics = agent.update(carried.state, batch, stream_key(root, "update", step))
        sums = {name: carried.sums[name] + metrics[name] for name in carried.sums}
        return TrainState(state, sums, carried.count + 1)

    return jax.lax.fori_loop(0, updates, body, state)


def _batch(source: Source, spec: BatchSpec, key: PRNGKey, index: Int[Array, ""]) -> Batch:
    """The batch that `key` draws: from a table, or number `index` of those that were read."""
    if isinstance(source, Chunk):
        return source.sample(spec, key, index)
    return source.sample(spec, key)
