"""A policy that can go a few cells learns from plans to go all the way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import SPACES, TabularAgent, Walker, World, graph_of, walk

from farstep.core.errors import FarstepError
from farstep.core.rng import root_key
from farstep.data.normalize import Normalization
from farstep.data.table import Table, TableWriter
from farstep.networks.actors import Actor
from farstep.planning.distillation import Distillation, distill, what_follows
from farstep.planning.metric import LearnedMetric

SNAKE = World(["......", "#####.", "......", ".#####", "......"])
HORIZON = 4.0


class Networks(NamedTuple):
    steps: jax.Array
    cells: jax.Array
    moves: jax.Array
    actor: Actor


@dataclass(frozen=True, kw_only=True)
class Walking(TabularAgent):
    """Walks to goals within the horizon, and stands still for others."""

    def metric(self, params):
        return super().metric((params.steps, params.cells))

    def act(self, params, observations, goals, key, temperature=0.0):
        def cell(states):
            place = jnp.round(states).astype(jnp.int32)
            return params.cells[place[:, 1], place[:, 0]]

        return params.moves[cell(observations), cell(goals)]


@pytest.fixture(scope="module")
def graph():
    walker = Walker(SNAKE, HORIZON)
    moves = [[walker._one(state, goal) for goal in SNAKE.states] for state in SNAKE.states]
    actor = Actor(SPACES, (64, 64), key=root_key(0))
    params = Networks(
        jnp.asarray(SNAKE.steps), jnp.asarray(SNAKE.table), jnp.asarray(np.array(moves)), actor
    )
    metric = LearnedMetric(Walking(), params, Normalization.identity(SPACES), SPACES)
    return replace(graph_of(SNAKE, edge_cutoff=HORIZON), metric=metric)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("snake") / "t"
    with TableWriter(path, (2,), "float32", 2) as writer:
        writer.append(SNAKE.states, np.zeros((len(SNAKE.states), 2), np.float32))
    return Table.open(path)


def test_the_distilled_policy_goes_where_its_teacher_stood_still(graph, table):
    losses = {}
    options = Distillation(updates=3000, batch_size=256, learning_rate=3e-3)
    params = distill(graph, table.observations, table.observations, options, losses.__setitem__)
    assert list(losses)[-1] == 3000
    assert losses[3000] < 0.1 * losses[250]

    class Distilled(Walker):
        def _one(self, state, goal):
            action = params.actor(jnp.asarray(state[None]), jnp.asarray(goal[None])).mode[0]
            # To the neighbour that it points at most.
            near = np.flatnonzero(self.world.steps[self.world.index(state)] == 1)
            ways = self.world.states[near] - state
            return ways[np.argmax(ways @ np.asarray(action))]

    start, goal = SNAKE.at(0, 0), SNAKE.at(5, 4)
    teacher = Walker(SNAKE, HORIZON)
    assert not teacher.act(start[None], goal[None]).any()

    class Alone:
        def begin(self, slots, observations, goals): ...

        def act(self, observations, goals):
            return Distilled(SNAKE, np.inf).act(observations, goals)

    assert len(walk(Alone(), SNAKE, start, goal)) - 1 == SNAKE.steps[0, SNAKE.index(goal)] == 19


def test_it_is_reproducible_and_leaves_the_critic_alone(graph, table):
    options = Distillation(updates=20, batch_size=16)
    first, again, other = (
        distill(graph, table.observations, table.observations, replace(options, seed=seed))
        for seed in (0, 0, 1)
    )
    for one, two in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, two)
    assert (first.actor.head.kernel != other.actor.head.kernel).any()
    assert first.steps is graph.metric.params.steps


def test_what_follows_is_a_neighbour_on_the_way(graph):
    following = what_follows(graph)
    for goal in range(len(graph)):
        for here in range(len(graph)):
            following_one = following[goal, here]
            if SNAKE.steps[here, goal] <= HORIZON:
                assert SNAKE.steps[here, following_one] <= HORIZON
            else:
                there = SNAKE.steps[here, following_one] + SNAKE.steps[following_one, goal]
                assert there == SNAKE.steps[here, goal]


def test_bad_input_is_refused(graph, table):
    with pytest.raises(FarstepError, match="updates must be positive, not 0"):
        Distillation(updates=0)
    without = replace(graph, metric=SNAKE.metric())
    with pytest.raises(FarstepError, match="TabularAgent is no single network"):
        distill(without, table.observations, table.observations, Distillation(updates=1))
