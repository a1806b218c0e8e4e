"""Planners that are compared: without a rule, with another reaction, and published ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from farstep.agents.metric import MRNMetric
from farstep.planning.graph import LandmarkGraph, Route
from farstep.planning.metric import in_blocks
from farstep.planning.policy import Episode, PlannedPolicy
from farstep.quasimetrics import pairwise_mrn
from farstep.serving.policy import Policy


class NoReaction(PlannedPolicy):
    """Goes on aiming at what is beyond a step length, stuck or not."""

    def _follow(self, episode: Episode, there: np.ndarray, here: int) -> None:
        episode.least = np.inf
        super()._follow(episode, there, here)


class AimingFarther(PlannedPolicy):
    """Stuck, an episode aims farther, and finds no edge dearer."""

    def __init__(self, policy: Policy, graph: LandmarkGraph):
        super().__init__(policy, Forgiving(graph.metric, graph.landmarks))
        vars(self.graph)["states"] = graph.states


class Forgiving(LandmarkGraph):
    """Penalises no edge that was given up."""

    def search(
        self, last: np.ndarray, last_costs: np.ndarray, given_up: Any = (), **more: Any
    ) -> Route:
        return super().search(last, last_costs, **more)


class GivingUp(PlannedPolicy):
    """Stuck, an episode gives the edge up and searches anew, as SGM does (Emmons et al. 2020)."""

    def _follow(self, episode: Episode, there: np.ndarray, here: int) -> None:
        super()._follow(episode, there, here)
        episode.farther = 0


class Dearer(LandmarkGraph):
    """An edge costs steps / p(success): its length times one more than it was given up."""

    def search(
        self, last: np.ndarray, last_costs: np.ndarray, given_up: Any = (), **more: Any
    ) -> Route:
        marks = self.landmarks
        times = Counter(given_up)
        dearer = np.array([1 + times[tuple(edge)] for edge in marks.edges.tolist()])
        graph = LandmarkGraph(self.metric, replace(marks, steps=marks.steps * dearer))
        last_costs = last_costs * np.array([1 + times[node, len(self)] for node in last.tolist()])
        return graph.search(last, last_costs, **more)


class Keeping(PlannedPolicy):
    """Keeps a subgoal that is neither too near nor far until one nearer the goal is offered."""

    def _ahead(self, episode: Episode, there: Float[np.ndarray, " nodes"], node: int) -> int:
        offered, last = super()._ahead(episode, there, node), episode.aim
        lengths = self.graph.landmarks
        if last < 0 or not lengths.step_length < there[last] <= lengths.edge_cutoff:
            return offered
        costs = episode.route.costs
        return last if costs[last] <= costs[offered] else offered


class NextLandmark(PlannedPolicy):
    """Aims at the next landmark, however near it is."""

    def _ahead(self, episode: Episode, there: Float[np.ndarray, " nodes"], node: int) -> int:
        return node if not episode.farther else super()._ahead(episode, there, node)


class OneWay(PlannedPolicy):
    """Is at the landmark that is nearest from here alone."""

    def _nearest(self, there: np.ndarray, back: np.ndarray) -> int:
        return int(np.argmin(there[:-1]))


class NeverCarriedOff(PlannedPolicy):
    """Does not notice it."""

    def _follow(self, episode: Episode, there: np.ndarray, here: int) -> None:
        episode.steps_to_go = np.inf
        super()._follow(episode, there, here)


class SoRB(NoReaction):
    """Aims at the first waypoint while that is nearer than the goal, or the goal is far."""

    def _nearest(self, there: np.ndarray, back: np.ndarray) -> int:
        return -1

    def choose(self, episode: Episode, there: np.ndarray, back: np.ndarray) -> None:
        super().choose(episode, there, back)
        cutoff = self.graph.landmarks.edge_cutoff
        costs = np.where(there <= cutoff, there, np.inf) + episode.route.costs
        first = int(np.argmin(costs[:-1]))
        if not np.isfinite(costs[first]):
            first = len(self.graph)
        if there[-1] <= cutoff and there[first] >= there[-1]:
            first = len(self.graph)
        episode.aim = first
        episode.subgoal = (
            episode.goal if first == len(self.graph) else self.graph.landmarks.goals[first]
        )


class TTGS(SoRB):
    """Aims at the farthest node within reach on the shortest path, long edges being dearer."""

    def choose(self, episode: Episode, there: np.ndarray, back: np.ndarray) -> None:
        super().choose(episode, there, back)
        cutoff = self.graph.landmarks.edge_cutoff
        costs = softly(there, cutoff) + episode.route.costs
        node = int(np.argmin(costs))
        for later in episode.route.path(node):
            if there[later] <= cutoff:
                node = later
        episode.aim = node
        episode.subgoal = (
            episode.goal if node == len(self.graph) else self.graph.landmarks.goals[node]
        )


def softly(steps: np.ndarray, cutoff: float) -> np.ndarray:
    """Lengths, those beyond the cutoff growing with their square."""
    return steps * np.maximum(steps / cutoff, 1.0)


def pessimistic(graph: LandmarkGraph) -> Float[np.ndarray, "landmarks landmarks"]:
    """The greatest of the ensemble's distances between landmarks."""
    metric = graph.metric.agent.metric(graph.metric.params)
    assert isinstance(metric, MRNMetric)

    @jax.jit
    def greatest(starts, goals):
        x, y = (
            np.moveaxis if isinstance(a, np.ndarray) else jax.numpy.moveaxis
            for a in (starts, goals)
        )
        distances = pairwise_mrn(x(starts, 1, 0), y(goals, 1, 0), metric.groups)
        return metric._in_steps(distances.max(axis=0)).steps

    starts = graph.states.starts
    rows = [np.asarray(greatest(block, starts)) for block in in_blocks(starts)]
    return np.concatenate(rows)[: len(graph)]


def edged(graph: LandmarkGraph, used: np.ndarray, steps: np.ndarray) -> LandmarkGraph:
    """The graph with other edges, all taken for logged."""
    used = used.copy()
    np.fill_diagonal(used, False)
    edges = np.argwhere(used).astype(np.int32)
    changed = {"steps": steps[tuple(edges.T)], "logged": np.ones(len(edges), bool)}
    other = LandmarkGraph(graph.metric, replace(graph.landmarks, edges=edges, **changed))
    vars(other)["states"] = graph.states
    return other


def logged_alone(graph: LandmarkGraph) -> LandmarkGraph:
    """Without penalised edges."""
    marks, kept = graph.landmarks, graph.landmarks.logged
    changed = {"steps": marks.steps[kept], "logged": marks.logged[kept]}
    return LandmarkGraph(graph.metric, replace(marks, edges=marks.edges[kept], **changed))


PLANNERS: dict[str, Callable[[Policy, LandmarkGraph], PlannedPolicy]] = {
    "farstep": PlannedPolicy,
    "no reaction": NoReaction,
    "aim farther": AimingFarther,
    "give up the edge": GivingUp,
    "steps / p(success)": lambda p, g: GivingUp(p, dearer(g)),
    "keep a subgoal": Keeping,
    "next landmark": NextLandmark,
    "nearest one way": OneWay,
    "never carried off": NeverCarriedOff,
    "logged edges alone": lambda p, g: PlannedPolicy(p, logged_alone(g)),
    "all pairs": lambda p, g: PlannedPolicy(
        p, edged(g, g.between <= g.landmarks.edge_cutoff, g.between)
    ),
    "pessimistic lengths": lambda p, g: PlannedPolicy(p, with_lengths(g, pessimistic(g))),
    "SoRB": lambda p, g: SoRB(
        p, edged(g, pessimistic(g) <= g.landmarks.edge_cutoff, pessimistic(g))
    ),
    "TTGS": lambda p, g: TTGS(
        p, edged(g, g.between >= 0, softly(g.between, g.landmarks.edge_cutoff))
    ),
}


def with_lengths(graph: LandmarkGraph, steps: np.ndarray) -> LandmarkGraph:
    """The graph with edges of other lengths."""
    marks = graph.landmarks
    other = LandmarkGraph(graph.metric, replace(marks, steps=steps[tuple(marks.edges.T)]))
    vars(other)["states"] = graph.states
    return other


def dearer(graph: LandmarkGraph) -> LandmarkGraph:
    """The graph whose given-up edges become dearer each time."""
    other = Dearer(graph.metric, graph.landmarks)
    vars(other)["states"] = graph.states
    return other
