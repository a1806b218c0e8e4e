"""Which landmark to aim at next: of those near the best way, the farthest.

A function of distances and costs alone; what an episode remembers is in `policy`.
"""

from __future__ import annotations

from enum import IntEnum
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from farstep.agents.base import Agent
from farstep.core.types import Params, Scalar
from farstep.planning.graph import effort

GOAL = -1
"""In place of a landmark's index: the goal itself."""


class Status(IntEnum):
    """How an episode stands to the graph."""

    DIRECT = 0
    """The goal is within reach."""
    ON_PATH = 1
    """A path over landmarks leads to the goal."""
    CUT_OFF = 2
    """No path from here: aiming at the nearest landmark that has one."""


@partial(jax.jit, static_argnums=0)
def choose_landmark(
    agent: Agent,
    params: Params,
    embeddings: Array,
    stride: Scalar,
    observations: Array,
    goals: Array,
    reach: Float[Array, " rows"],
    slack: Float[Array, " rows"],
    costs: Float[Array, "rows landmarks"],
) -> tuple[Int[Array, " rows"], Int[Array, " rows"], Float[Array, " rows"]]:
    """`choose` among all landmarks, from raw observations to the embeddings of goals."""
    starts = agent.embed(params, observations)
    to_landmarks = agent.pairwise(params, starts, embeddings).steps
    to_goal = _between(agent, params, starts, goals)
    return choose(to_landmarks, to_goal, costs, reach, slack, stride)


@partial(jax.jit, static_argnums=0)
def choose_candidate(
    agent: Agent,
    params: Params,
    embeddings: Array,
    stride: Scalar,
    observations: Array,
    goals: Array,
    reach: Float[Array, " rows"],
    slack: Float[Array, " rows"],
    costs: Float[Array, "rows candidates"],
    candidates: Int[Array, "rows candidates"],
) -> tuple[Int[Array, " rows"], Int[Array, " rows"], Float[Array, " rows"]]:
    """The same with a choice of landmarks for each row; what is chosen is the place among them."""

    starts = agent.embed(params, observations)

    def from_one(start: Array, chosen: Array) -> Array:
        return agent.pairwise(params, start[None], embeddings[chosen]).steps[0]

    to_candidates = jax.vmap(from_one)(starts, candidates)
    to_goal = _between(agent, params, starts, goals)
    return choose(to_candidates, to_goal, costs, reach, slack, stride)


def _between(agent: Agent, params: Params, starts: Array, goals: Array) -> Float[Array, " rows"]:
    """From each start to its own goal, both embeddings."""

    def one(start: Array, goal: Array) -> Array:
        return agent.pairwise(params, start[None], goal[None]).steps[0, 0]

    return jax.vmap(one)(starts, goals)


def choose(
    to_landmarks: Float[Array, "rows landmarks"],
    to_goal: Float[Array, " rows"],
    costs: Float[Array, "rows landmarks"],
    reach: Float[Array, " rows"],
    slack: Float[Array, " rows"],
    stride: Scalar = jnp.inf,
) -> tuple[Int[Array, " rows"], Int[Array, " rows"], Float[Array, " rows"]]:
    """The landmark to aim at (or `GOAL`), the `Status`, and the steps to go to the goal.

    Ties go to the landmark that comes first.

    Args:
        to_landmarks: steps from here to each landmark.
        to_goal: steps from here to the goal, by the metric alone.
        costs: steps from each landmark to the goal along the graph, ∞ where there is no path.
        reach: longest step to a landmark or to the goal.
        slack: share of the best path by which the chosen one may be longer.
        stride: longest step that costs no more than its length.
    """
    through = effort(to_landmarks, stride) + costs
    usable = (to_landmarks <= reach[:, None]) & jnp.isfinite(costs)
    best = jnp.min(through, axis=1, where=usable, initial=jnp.inf)
    good = usable & (through <= (best * (1 + slack))[:, None])
    farthest = jnp.argmax(jnp.where(good, to_landmarks, -jnp.inf), axis=1)
    nearest = jnp.argmin(jnp.where(jnp.isfinite(costs), to_landmarks, jnp.inf), axis=1)
    rows = jnp.arange(len(to_goal))

    directly = effort(to_goal, stride)
    direct = (to_goal <= reach) & (directly <= best * (1 + slack))
    on_path = jnp.isfinite(best)
    somewhere = jnp.any(jnp.isfinite(costs), axis=1)
    landmark = jnp.where(on_path, farthest, jnp.where(somewhere, nearest, GOAL))
    return (
        jnp.where(direct, GOAL, landmark),
        jnp.where(direct, Status.DIRECT, jnp.where(on_path, Status.ON_PATH, Status.CUT_OFF)),
        jnp.where(direct, directly, jnp.where(on_path, best, through[rows, nearest])),
    )
