"""From a trained agent and its data to the graph that it is steered along.

Every length comes from the data, in learned steps:

- the *replanning period* is the shortest time over which motion adds up: in twice the time the
  quickest held-out episodes get nearly twice as far;
- the *step length* is what they cover in that time;
- *landmarks* are added, each the farthest from those before, until every state is within half a
  step length of one, there and back;
- the *edge cutoff* is four step lengths: no edge is longer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from farstep.agents.metric import Metric
from farstep.core.errors import FarstepError
from farstep.core.rng import stream_generator
from farstep.core.trees import FlatTree
from farstep.data.table import Dataset, Table, goals_at
from farstep.planning.graph import LandmarkGraph, Landmarks, States
from farstep.planning.metric import LearnedMetric

PERIODS = 4
"""Replanning periods that a logged move may take, and step lengths of the longest edge."""

POOL = 4
"""States that landmarks are chosen from, for each that there may be."""

COVERED = 0.5
"""Step lengths within which every state is of a landmark, unless there may not be so many."""

STATES_EACH = 64
"""Logged states looked at for each landmark."""

LONG = 2**26
"""Steps of a table from which on rows are drawn one by one: a permutation of 10⁹ takes 8 GB."""

MOST_BYTES = 2**28
"""Of logged states looked at: fewer of them where they are images."""

PAIRS = 4096
"""Held-out pairs of states for each length of time."""

QUICKEST = 0.95
"""The quantile of learned steps that the quickest episodes stand for."""

ADDS_UP = 1.85
"""How much farther than in half the time motion gets that adds up: noise gets 1 to √2 times."""

DIVERGED = (
    "learned distances are not finite: the training has diverged; plan with an earlier "
    "checkpoint, or train with other settings"
)


Rows = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Raw states at rows of a table, and the goals that they are: the same where goals are states."""


@dataclass(frozen=True, kw_only=True)
class GraphOptions:
    """How a graph is made. What is not given follows from the data.

    Attributes:
        landmarks: at most so many states of the training table become nodes.
        replan_every: environment steps between choices of a subgoal.
        step_length: learned steps that the quickest episodes cover in that time.
        edge_cutoff: longest edge in learned steps.
        seed: of the choice of landmarks and of held-out pairs.
    """

    landmarks: int = 4000
    replan_every: int | None = None
    step_length: float | None = None
    edge_cutoff: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("landmarks", "replan_every", "step_length", "edge_cutoff"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise FarstepError(f"{name} must be a positive number, not {value:g}")


def prepare_graph(metric: LearnedMetric, dataset: Dataset, options: GraphOptions) -> LandmarkGraph:
    """The graph over a dataset's states.

    Held-out episodes are those of the validation table, or of the training table where the
    dataset has no other.

    Raises:
        FarstepError: the data have other observations than the agent was trained on, distances are
            not finite, or no logged episode leads from one landmark to another.
    """
    table, seed = dataset.train, options.seed
    there, expected = table.spaces.observation, metric.spaces.frame
    if there.row != expected.row:
        raise FarstepError(
            f"{dataset.path} has observations {there}, and the agent was trained on {expected};"
            " landmarks must come from data like its own"
        )
    held_out = dataset.val or table
    cover = partial(covered, metric, held_out, rows_of(metric, held_out), seed=seed)
    replan_every = options.replan_every
    if replan_every is None:
        replan_every = replanning_period(cover, int(np.median(held_out.episode_lengths)) - 1)
    step_length = options.step_length or cover(replan_every)
    at = rows_of(metric, table)
    rows = drawn(stream_generator(seed, "landmarks"), table.num_steps, POOL * options.landmarks)
    states = States.of(metric, *at(rows))
    chosen, count, apart = spread(metric.flat, states, options.landmarks, COVERED * step_length)
    if not np.isfinite(apart).all():
        raise FarstepError(DIVERGED)
    rows = rows[np.asarray(chosen)[: int(count)]]
    landmarks = Landmarks(
        *at(rows),
        replan_every=replan_every,
        step_length=step_length,
        edge_cutoff=options.edge_cutoff or PERIODS * step_length,
        tolerance=min(cover(1), step_length),
    )
    given = {name: value for name, value in vars(options).items() if value is not None}
    graph = LandmarkGraph(metric, landmarks, given)
    return graph.along(logged_moves(graph, table, at, seed))


def drawn(generator: np.random.Generator, steps: int, most: int) -> Int[np.ndarray, " n"]:
    """At most so many rows of a table, in order; of a long table without a list of all."""
    if steps < LONG:
        return np.sort(generator.permutation(steps)[:most])
    return np.sort(generator.choice(steps, most, replace=False, shuffle=False))


def rows_of(metric: LearnedMetric, table: Table) -> Rows:
    """What tells raw states at rows of a table, and the goals that they are."""
    rule = metric.rule

    def at(rows: Int[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
        observations = table.frames(rows, metric.spaces.frames)
        return observations, observations if rule.whole else goals_at(table, rule, rows)

    return at


def covered(metric: LearnedMetric, table: Table, at: Rows, gap: int, *, seed: int = 0) -> float:
    """Learned steps that the quickest episodes cover in `gap` environment steps.

    Args:
        metric: the distance.
        table: episodes that it was not learned from.
        at: of its rows.
        gap: environment steps.
        seed: of the choice of pairs.

    Raises:
        FarstepError: distances are not finite, or no episode is so long.
    """
    longer = np.flatnonzero(table.episode_lengths > gap)
    if not longer.size:
        raise FarstepError(f"{table.path} has no episode of more than {gap} steps to measure by")
    generator = stream_generator(seed, "covered", gap)
    episodes = generator.choice(longer, PAIRS)
    rows = (
        generator.integers(table.episode_lengths[episodes] - gap) + table.episode_starts[episodes]
    )
    steps = np.quantile(metric.between(at(rows)[0], at(rows + gap)[1]), QUICKEST)
    if not np.isfinite(steps):
        raise FarstepError(DIVERGED)
    return float(steps)


def replanning_period(cover: Callable[[int], float], longest: int) -> int:
    """The fewest steps over which motion adds up, of those up to a quarter of an episode."""
    gap = 1
    while 8 * gap <= longest and cover(2 * gap) < ADDS_UP * cover(gap):
        gap += 1
    return gap


@partial(jax.jit, static_argnames="most")
def spread(
    flat: FlatTree, states: States, most: int, radius: float
) -> tuple[Int[Array, " most"], Int[Array, ""], Float[Array, " states"]]:
    """States, each the farthest from those before, until all are near to one, there and back.

    Exactly farthest points leave the worst covered state at most twice as far from one as any
    choice of so many must (Gonzalez 1985).

    Returns:
        their numbers, how many these are, and how far each state is from the nearest.
    """
    metric: Metric = flat.tree
    laid_out = metric.laid_out(states.starts)

    def ways(new: Array) -> tuple[Array, Array]:
        if states.goals is None:
            there, back = metric.both_ways(laid_out[new][None], laid_out)
        else:
            there = metric.distance(states.starts[new][None], states.goals)
            back = metric.distance(states.starts, states.goals[new][None])
        return there.steps, back.steps

    def uncovered(state: tuple[Array, Array, Array]) -> Array:
        _, count, apart = state
        return (count < most) & (jnp.max(apart) > radius)

    def add(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        chosen, count, apart = state
        new = jnp.argmax(apart)
        nearer = jnp.maximum(*ways(new))
        return chosen.at[count].set(new), count + 1, jnp.minimum(apart, nearer.at[new].set(0.0))

    count = len(states.starts)
    start = jnp.zeros(min(most, count), int), jnp.array(0), jnp.full(count, jnp.inf)
    return jax.lax.while_loop(uncovered, add, start)


def logged_moves(
    graph: LandmarkGraph, table: Table, at: Rows, seed: int = 0
) -> Int[np.ndarray, "moves 2"]:
    """Pairs of different landmarks that some episode leads from one to the other of.

    Looks at every `replan_every`-th state of episodes that are drawn at random, and at pairs that
    are at most `PERIODS` of these apart.
    """
    every = graph.landmarks.replan_every
    wanted = min(
        STATES_EACH * len(graph), max(MOST_BYTES // table.spaces.observation.row.itemsize, 1)
    )
    order = stream_generator(seed, "moves").permutation(table.num_episodes)
    sizes = -(-table.episode_lengths[order] // every)
    order = np.sort(order[: np.searchsorted(np.cumsum(sizes), wanted) + 1])
    starts, lengths = table.episode_starts[order], table.episode_lengths[order]
    rows = np.concatenate(
        [s + np.arange(0, n, every) for s, n in zip(starts, lengths, strict=True)]
    )
    episode = np.repeat(order, -(-lengths // every))
    place = graph.nearest(*at(rows))
    moves = [np.zeros((0, 2), np.int64)]
    for lag in range(1, min(PERIODS, len(rows) - 1) + 1):
        pairs = np.stack([place[:-lag], place[lag:]], axis=1)
        made = (episode[:-lag] == episode[lag:]) & (pairs[:, 0] != pairs[:, 1])
        moves.append(np.unique(pairs[made], axis=0))
    return np.unique(np.concatenate(moves), axis=0).astype(np.int32)
