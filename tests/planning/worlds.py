"""Worlds whose true distance is known: points on a grid with walls and one-way doors.

An observation is a position (x, y); the agent's distance is looked up for the nearest cells, exact
or spoilt on purpose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from farstep.agents.base import Agent
from farstep.agents.metric import Distance, PairMetric
from farstep.core.types import Actions, BatchSpec, Space, Spaces
from farstep.data.normalize import Normalization
from farstep.planning.graph import LandmarkGraph, Landmarks
from farstep.planning.metric import LearnedMetric

SPACES = Spaces.from_observation(Space((2,)), Actions(2))
FAR = 1e4
"""Distance where there is no way."""


class World:
    """Cells of `rows` (`.` free, `#` wall, `>` may be left to the right only); a step is a cell."""

    def __init__(self, rows: Sequence[str]):
        cells = [(x, y) for y, row in enumerate(rows) for x, mark in enumerate(row) if mark != "#"]
        number = {cell: index for index, cell in enumerate(cells)}
        edges = []
        for (x, y), index in number.items():
            moves = [(1, 0)] if rows[y][x] == ">" else [(1, 0), (-1, 0), (0, 1), (0, -1)]
            for dx, dy in moves:
                target = (x + dx, y + dy)
                # A door is entered from the left only.
                door = target in number and rows[target[1]][target[0]] == ">"
                if target in number and not (door and dx != 1):
                    edges.append((index, number[target]))
        tails, heads = np.array(edges).T
        graph = csr_array((np.ones(len(edges)), (tails, heads)), shape=(len(cells),) * 2)
        steps = dijkstra(graph)
        self.steps = np.where(np.isfinite(steps), steps, FAR).astype(np.float32)
        self.states = np.array(cells, np.float32)
        self.table = np.full((len(rows), max(map(len, rows))), 0, np.int32)
        for (x, y), index in number.items():
            self.table[y, x] = index

    def at(self, x: int, y: int) -> np.ndarray:
        return np.array([x, y], np.float32)

    def index(self, state: np.ndarray) -> int:
        return int(self.table[int(state[1]), int(state[0])])

    def metric(self, steps: np.ndarray | None = None) -> LearnedMetric:
        agent = TabularAgent()
        known = self.steps if steps is None else steps
        params = (jnp.asarray(known, jnp.float32), jnp.asarray(self.table))
        return LearnedMetric(agent, params, Normalization.identity(SPACES), SPACES)


@dataclass(frozen=True, kw_only=True)
class TabularAgent(Agent):
    """Its distance is a table, its policy steps to the neighbour nearest by the same table."""

    def spec(self):
        return BatchSpec(1)

    def networks(self, spaces, key):
        raise NotImplementedError

    def loss(self, params, batch, key):
        raise NotImplementedError

    def act(self, params, observations, goals, key, temperature=0.0):
        raise NotImplementedError

    def metric(self, params):
        return TabularMetric(*params)


class TabularMetric(PairMetric):
    """The steps of a table between the cells that states lie in."""

    steps: jax.Array
    table: jax.Array
    discount: float = eqx.field(static=True, default=math.exp(-0.01))

    def between(self, observations, goals):
        def cell(states):
            place = jnp.round(states).astype(jnp.int32)
            return self.table[place[:, 1], place[:, 0]]

        return Distance.from_steps(self.steps[cell(observations), cell(goals)], self.discount)


class Walker:
    """A flat policy that walks the shortest way, but only to goals within `horizon` steps."""

    def __init__(self, world: World, horizon: float):
        self.world, self.horizon = world, horizon
        self.calls = 0

    def act(self, observations, goals, *, temperature=0.0, seed=0, step=0):
        self.calls += 1
        return np.stack([self._one(o, g) for o, g in zip(observations, goals, strict=True)])

    def _one(self, state, goal):
        here, there = self.world.index(state), self.world.index(goal)
        if not 0 < self.world.steps[here, there] <= self.horizon:
            return np.zeros(2, np.float32)
        near = np.flatnonzero(self.world.steps[here] == 1)
        best = near[np.argmin(self.world.steps[near, there])]
        return self.world.states[best] - state


def graph_of(
    world: World,
    *,
    steps: np.ndarray | None = None,
    states: np.ndarray | None = None,
    moves: np.ndarray | None = None,
    replan_every: int = 5,
    step_length: float = 1.0,
    edge_cutoff: float = 6.0,
) -> LandmarkGraph:
    """The graph over these states, or all; every pair is a logged move unless moves are given."""
    states = world.states if states is None else states
    landmarks = Landmarks(states, states, replan_every, step_length, edge_cutoff, tolerance=0.0)
    every = np.argwhere(~np.eye(len(states), dtype=bool))
    graph = LandmarkGraph(world.metric(steps), landmarks)
    return graph.along(every if moves is None else moves)


def walk(policy, world: World, start: np.ndarray, goal: np.ndarray, limit: int = 400) -> list:
    """The states seen until the goal or the limit."""
    seen = [start]
    policy.begin(np.zeros(1, int), start[None], goal[None])
    while not np.array_equal(seen[-1], goal) and len(seen) <= limit:
        seen.append(seen[-1] + policy.act(seen[-1][None], goal[None])[0])
    return seen
