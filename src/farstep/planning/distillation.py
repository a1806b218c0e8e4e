"""What the planner knows, back in the policy: the flat one learns to act as the planned one does.

Experimental: the result can be worse than the policy that it starts from.

For a state s and a goal g anywhere in the data, the graph says what subgoal w follows on the
shortest path. The policy is already good towards w, which is near. So it is asked for its own
action there, and learns to give the same towards g:

    min_π'  E_{s, g}  ‖ π'(s, g) − π(s, w(s, g)) ‖²      (cross-entropy where actions are discrete)

It is the self-imitation of PIG (Kim et al. 2023, arXiv 2303.11166), where a policy imitates itself
towards planned subgoals while it explores, in an offline form: states and goals are drawn from the
data, and the policy alone is trained. It needs no environment and no new data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, Shaped

from farstep.agents.base import Agent
from farstep.core.errors import FarstepError
from farstep.core.rng import root_key, stream_generator
from farstep.core.seeds import check_seed
from farstep.core.types import Params
from farstep.networks.actors import Actor, Categorical, TanhGaussianActor
from farstep.planning.graph import LandmarkGraph
from farstep.planning.metric import LearnedMetric
from farstep.planning.prepare import MOST_BYTES

UPDATES_AT_ONCE = 250
"""Updates of one device program, after which there is news."""


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """How a planned policy is distilled.

    Attributes:
        updates: of the policy.
        batch_size: pairs of a state and a goal in each.
        learning_rate: of Adam.
        states: of the data, that states and goals are drawn from; fewer where they are images.
        seed: of the choice of states and of the batches.
    """

    updates: int = 10_000
    batch_size: int = 512
    learning_rate: float = 5e-4
    states: int = 60_000
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        for name in ("updates", "batch_size", "learning_rate", "states"):
            if not getattr(self, name) > 0:
                raise FarstepError(f"{name} must be positive, not {getattr(self, name)}")


def distill(
    graph: LandmarkGraph,
    source: Shaped[np.ndarray, "n *obs"],
    source_goals: Shaped[np.ndarray, "n *goal"],
    options: Distillation,
    report: Callable[[int, float], None] = lambda update, loss: None,
) -> Params:
    """The networks of the graph's agent with a policy that acts towards far goals as planned.

    Args:
        graph: with the trained networks, whose policy is the teacher and the start.
        source: observations that states are drawn from.
        source_goals: the goals that these are, which goals are drawn from.
        options: how.
        report: told the number of updates and the mean loss since it was told before.

    Raises:
        FarstepError: the method's policy is not one network of states and goals (HIQL).
    """
    metric = graph.metric
    check_teacher(metric)
    count = min(options.states, len(source), max(MOST_BYTES // source[0].nbytes, 1))
    rows = stream_generator(options.seed, "distillation").choice(len(source), count, replace=False)
    states, goals = (np.asarray(some[np.sort(rows)]) for some in (source, source_goals))
    drawn = _Drawn(
        states=jnp.asarray(metric.normalization.apply(states)),
        goals=jnp.asarray(metric.normalization.apply_goals(goals, metric.rule)),
        landmarks=jnp.asarray(metric.normalization.apply_goals(graph.landmarks.goals, metric.rule)),
        at=jnp.asarray(graph.nearest(states, goals)),
        following=jnp.asarray(what_follows(graph)),
    )
    teacher = metric.params
    student, optimizer = teacher.actor, optax.adam(options.learning_rate)
    moments = optimizer.init(eqx.filter(student, eqx.is_inexact_array))
    key = root_key(options.seed)
    done = 0
    while done < options.updates:
        some = min(UPDATES_AT_ONCE, options.updates - done)
        keys = jax.random.split(jax.random.fold_in(key, done), some)
        student, moments, losses = _updates(
            metric.agent, optimizer, options.batch_size, teacher, drawn, student, moments, keys
        )
        done += some
        report(done, float(jnp.mean(losses)))
    return eqx.tree_at(lambda params: params.actor, teacher, student)


def check_teacher(metric: LearnedMetric) -> None:
    """Raise `FarstepError` where the method's policy is not one network of states and goals."""
    if not isinstance(getattr(metric.params, "actor", None), Actor | TanhGaussianActor):
        raise FarstepError(
            f"The policy of this {type(metric.agent).__name__} is no single network with a mean,"
            " as --policy gaussian has, so it cannot learn from plans: act by the plan itself,"
            " --plan graph."
        )
    if metric.spaces.observation.keys or metric.spaces.frames > 1:
        raise FarstepError(
            "A policy of stacked frames or of observations of several arrays cannot be distilled:"
            " act by the plan itself, --plan graph."
        )


def what_follows(graph: LandmarkGraph) -> Int[np.ndarray, "goals landmarks"]:
    """The landmark to aim at from each on the way to each other: that itself where nothing is."""
    following, numbers = graph.following, np.arange(len(graph))
    aims = following.copy()
    while True:
        near = graph.between[numbers, aims] <= graph.landmarks.step_length
        near &= aims != numbers[:, None]
        if not near.any():
            return aims
        aims = np.where(near, np.take_along_axis(following, aims, axis=1), aims)


class _Drawn(eqx.Module):
    """What batches are drawn from, as the networks see it."""

    states: Array
    goals: Array
    landmarks: Array
    at: Int[Array, " states"]
    following: Int[Array, "goals landmarks"]

    def batch(self, key: Key[Array, ""], size: int) -> tuple[Array, Array, Array]:
        """States, far goals, and the subgoals that lead from one to the other."""
        here, there = jax.random.randint(key, (2, size), 0, len(self.states))
        following = self.following[self.at[there], self.at[here]]
        goals = self.goals[there]
        # The goal itself is aimed at where the landmark that it is at would be.
        at_goal = (following == self.at[there]).reshape(-1, *[1] * (goals.ndim - 1))
        return self.states[here], goals, jnp.where(at_goal, goals, self.landmarks[following])


@eqx.filter_jit
def _updates(
    agent: Agent,
    optimizer: optax.GradientTransformation,
    size: int,
    teacher: Params,
    drawn: _Drawn,
    student: Params,
    moments: optax.OptState,
    keys: Key[Array, " updates"],
) -> tuple[Params, optax.OptState, Float[Array, " updates"]]:
    trained, fixed = eqx.partition(student, eqx.is_inexact_array)

    def update(
        state: tuple[Params, optax.OptState], key: Key[Array, ""]
    ) -> tuple[tuple[Params, optax.OptState], Array]:
        trained, moments = state
        states, goals, subgoals = drawn.batch(key, size)
        wanted = agent.act(teacher, states, subgoals, key)

        def loss(trained: Params) -> Array:
            given = eqx.combine(trained, fixed)(states, goals)
            if isinstance(given, Categorical):
                return -jnp.mean(given.log_prob(wanted))
            return jnp.mean(jnp.square(given.mode - wanted))

        value, gradient = jax.value_and_grad(loss)(trained)
        change, moments = optimizer.update(gradient, moments, trained)
        return (optax.apply_updates(trained, change), moments), value

    (trained, moments), losses = jax.lax.scan(update, (trained, moments), keys)
    return eqx.combine(trained, fixed), moments, losses
