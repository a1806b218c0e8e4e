"""A flat policy steered along the graph: every few steps it is given a nearer goal.

    observation ──nearest landmark──▶ here ──its path, beyond a step length──▶ subgoal

An episode that has made no progress for PATIENCE choices gives up the edge that it is on, and for
as many choices aims twice as far along its path for each edge that it gave up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

import numpy as np
from jaxtyping import Float, Int, Shaped
from numpy.typing import ArrayLike

from farstep.core.frames import LastFrames
from farstep.core.inputs import checked_rows
from farstep.planning.graph import LandmarkGraph, Route
from farstep.planning.metric import BLOCK
from farstep.planning.open_loop import OpenLoop

PATIENCE = 4
"""Choices of a subgoal without progress after which an episode is stuck."""


class Status(IntEnum):
    """How an episode stands to the graph."""

    DIRECT = 0
    """The goal is next."""
    ON_PATH = 1
    """A path over landmarks leads to the goal."""
    CUT_OFF = 2
    """There is no path from here, or no landmark near the goal: what is aimed at is the nearest
    landmark to here that has a path, or what is on the way to the nearest landmark to the goal."""


class FlatPolicy(Protocol):
    """What is steered: any policy that acts towards goals."""

    def act(
        self,
        observations: np.ndarray,
        goals: np.ndarray,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        step: int = 0,
    ) -> np.ndarray: ...


@dataclass(eq=False)
class Episode:
    """An episode's goal, its route there, and what it aims at.

    Attributes:
        goal: the goal.
        route: shortest paths to it.
        subgoal: what is aimed at: a landmark's goal, or the goal itself.
        aim: the same as a node of the graph, which after the last landmark is the goal.
        here: the nearest landmark at the last choice.
        steps_to_go: learned steps of the rest of the way then.
        to_goal: learned steps straight to the goal then.
        status: how it stands to the graph.
        age: environment steps since it began.
        least: the fewest steps to go since it began or was carried off.
        stuck: choices since they became fewer.
        farther: choices for which it still aims farther.
        given_up: edges that it could not get along, by their tails and heads.
        over: whether nobody asks for its actions any more.
    """

    goal: np.ndarray
    route: Route
    subgoal: np.ndarray
    aim: int = -1
    here: int = -1
    steps_to_go: float = np.inf
    to_goal: float = np.inf
    status: Status = Status.CUT_OFF
    age: int = 0
    least: float = np.inf
    stuck: int = 0
    farther: int = 0
    given_up: list[tuple[int, int]] = field(default_factory=list)
    over: bool = False


Observer = Callable[[int, Episode], None]
"""Called with a slot and its episode whenever a subgoal was chosen."""


class PlannedPolicy:
    """`policy` steered along `graph`: a `BatchPolicy` with a plan for every slot.

    An episode's plan depends on its own observations alone, not on its slot or on other episodes.
    Subgoals are chosen as often as the graph was made for, and at once where a goal changes.

    Attributes:
        policy: what is steered.
        graph: what is searched.
        observer: is told of every choice.
        episodes: by slot.
        choose_every: steps between choices of a subgoal: as many as the graph was made for, or
            more, so that a chunk of actions is over by then.
    """

    def __init__(self, policy: FlatPolicy, graph: LandmarkGraph, observer: Observer | None = None):
        self.policy = policy
        self.graph = graph
        self.observer = observer
        self.episodes: dict[int, Episode] = {}
        self._carrying = policy if isinstance(policy, OpenLoop) else None
        execute = 1 if self._carrying is None else self._carrying.execute
        self.choose_every = -(-graph.landmarks.replan_every // execute) * execute

    def begin(
        self,
        slots: Int[np.ndarray, " n"],
        observations: Shaped[np.ndarray, "n *obs"],
        goals: Shaped[np.ndarray, "n *goal"],
    ) -> None:
        """New episodes start in `slots`: shortest paths to their goals."""
        # Tasks fill several slots with the same goal, and the first call fills spare ones.
        routes: dict[bytes, Route] = {}
        for index, slot in enumerate(slots.tolist()):
            goal = goals[index, ...].copy()
            if goal.tobytes() not in routes:
                routes[goal.tobytes()] = self.graph.route(goal)
            self.episodes[slot] = Episode(goal, routes[goal.tobytes()], goal)
        if self._carrying is not None:
            self._carrying.begin(slots, observations, goals)

    def end(self, slots: Int[np.ndarray, " n"]) -> None:
        """The episodes in `slots` are over: what they aim at stays as it is."""
        for slot in slots.tolist():
            self.episodes[slot].over = True
        if self._carrying is not None:
            self._carrying.end(slots)

    def act(
        self,
        observations: Shaped[np.ndarray, "slots *obs"],
        goals: Shaped[np.ndarray, "slots *goal"],
        *,
        temperature: float = 0.0,
        seed: int = 0,
        step: int = 0,
    ) -> np.ndarray:
        """The flat policy's actions towards the subgoals; rows are slots.

        A slot whose goal is another than before starts a new episode.
        """
        goals = goals.astype(self.graph.landmarks.goals.dtype, copy=False)
        known = {slot: episode.goal.tobytes() for slot, episode in self.episodes.items()}
        new = [slot for slot, goal in enumerate(goals) if known.get(slot) != goal.tobytes()]
        if new:
            self.begin(np.array(new), observations[new], goals[new])
        episodes = [self.episodes[slot] for slot in range(len(goals))]
        due = [
            s for s, one in enumerate(episodes) if not one.over and one.age % self.choose_every == 0
        ]
        if due:
            height = min(len(observations), BLOCK)
            there, back = self.graph.ways(observations, height=height)
            to_goal = self.graph.metric.between(observations, goals, height=height)
            for slot in due:
                self.choose(episodes[slot], np.append(there[slot], to_goal[slot]), back[slot])
                if self.observer is not None:
                    self.observer(slot, episodes[slot])
        for episode in episodes:
            episode.age += 1
        subgoals = np.stack([episode.subgoal for episode in episodes])
        return self.policy.act(
            observations, subgoals, temperature=temperature, seed=seed, step=step
        )

    def choose(
        self,
        episode: Episode,
        there: Float[np.ndarray, " nodes"],
        back: Float[np.ndarray, " landmarks"],
    ) -> None:
        """Choose what an episode aims at.

        Args:
            episode: is changed.
            there: learned steps from where it is to every landmark, and to its goal.
            back: from every landmark to where it is.
        """
        route, goal = episode.route, len(self.graph)
        here = self._nearest(there, back)
        cut_off = not np.isfinite(route.costs[here])
        if cut_off:
            here = int(np.argmin(np.where(np.isfinite(route.costs[:-1]), there[:-1], np.inf)))
        self._follow(episode, there, here)
        aim = self._ahead(episode, there, here if cut_off else int(episode.route.following[here]))
        episode.here, episode.aim, episode.to_goal = here, aim, float(there[-1])
        episode.subgoal = episode.goal if aim == goal else self.graph.landmarks.goals[aim, ...]
        episode.status = Status.DIRECT if aim == goal else Status.ON_PATH
        if cut_off or route.cut_off:
            episode.status = Status.CUT_OFF

    def _nearest(
        self, there: Float[np.ndarray, " nodes"], back: Float[np.ndarray, " landmarks"]
    ) -> int:
        return int(np.argmin(np.maximum(there[:-1], back)))

    def _follow(self, episode: Episode, there: Float[np.ndarray, " nodes"], here: int) -> None:
        """Take down the steps to go, and react to being stuck."""
        lengths, route = self.graph.landmarks, episode.route
        to_go = there[here] + route.costs[here]
        # By a teleporter, or a hand.
        carried_off = to_go > episode.steps_to_go + lengths.edge_cutoff
        if carried_off or to_go < episode.least - lengths.tolerance:
            episode.least, episode.stuck = to_go, 0
        else:
            episode.stuck += 1
        if episode.farther:
            episode.farther, episode.stuck = episode.farther - 1, 0
        elif episode.stuck >= PATIENCE:
            episode.farther, episode.stuck = PATIENCE, 0
            episode.given_up.append((here, int(route.following[here])))
            episode.route = self.graph.route(episode.goal, episode.given_up)
            episode.least = to_go = there[here] + episode.route.costs[here]
        episode.steps_to_go = float(to_go)

    def _ahead(self, episode: Episode, there: Float[np.ndarray, " nodes"], node: int) -> int:
        """The first node on the way, from this one on, beyond a step length but not the cutoff.

        What is nearer would be passed before the next choice.
        """
        lengths, following = self.graph.landmarks, episode.route.following
        times = 2.0 ** len(episode.given_up) if episode.farther else 1.0
        near, far = times * lengths.step_length, times * lengths.edge_cutoff
        while node != len(self.graph) and there[node] <= near and there[following[node]] <= far:
            node = int(following[node])
        return node


class Plan:
    """Steers a policy to one goal.

        plan = farstep.load_policy("run").plan(goal)
        while not plan.reached:
            observation = robot.step(plan.act(observation))

    `reached`, `steps_to_go`, `status`, `subgoal` and `path` are known after `act`, and change every
    `graph.landmarks.replan_every` calls.

    Attributes:
        graph: the landmarks and their edges.
    """

    def __init__(self, policy: FlatPolicy, graph: LandmarkGraph, goal: ArrayLike):
        self.graph = graph
        self._policy = PlannedPolicy(policy, graph)
        self._frames: LastFrames | None = None
        self.new_goal(goal)

    def new_goal(self, goal: ArrayLike) -> None:
        """Go on to another goal from wherever the episode is.

        Raises:
            FarstepError: not a goal like those that the graph is made of.
        """
        spaces = self.graph.metric.spaces
        rows = checked_rows(goal, spaces.frame if spaces.rule.whole else spaces.goal, "the goal")
        rows = rows[None]
        if spaces.rule.whole:
            rows = LastFrames(spaces.frames).repeated(rows)
        self.goal = rows[0, ...]
        self._policy.begin(np.zeros(1, int), rows, rows)

    def act(self, observation: ArrayLike) -> np.ndarray:
        """The next action, (A,).

        Raises:
            FarstepError: not an observation like those that the graph is made of.
        """
        spaces = self.graph.metric.spaces
        frame = checked_rows(observation, spaces.frame, "the observation")[None]
        if self._frames is None:
            self._frames = LastFrames(spaces.frames)
            self._frames.begin(np.zeros(1, int), frame)
        return self._policy.act(self._frames.push(frame), self.goal[None])[0]

    @property
    def subgoal(self) -> Shaped[np.ndarray, "*goal"]:
        """What is aimed at: the goal that a landmark is, or the goal itself."""
        return self._episode.subgoal.copy()

    @property
    def path(self) -> Shaped[np.ndarray, "n *goal"]:
        """The goals that the landmarks from the subgoal on are, and the goal last."""
        episode = self._episode
        path = episode.route.path(episode.aim)[:-1]
        return np.concatenate([self.graph.landmarks.goals[path], self.goal[None]])

    @property
    def steps_to_go(self) -> float:
        """Learned environment steps of the rest of the way; edges without a logged move cost more.

        A learned step is one of the logged behaviour's, which is seldom the shortest.
        """
        return self._episode.steps_to_go

    @property
    def reached(self) -> bool:
        """Whether the goal is as near as the quickest episodes come in one environment step."""
        return self._episode.to_goal <= self.graph.landmarks.tolerance

    @property
    def status(self) -> Status:
        """How the plan stands to the graph.

        A plan that is cut off goes on as far as the graph leads. It may still arrive, if the flat
        policy does the rest; if it does not, plan over data that lead there, or to another goal.
        """
        return self._episode.status

    @property
    def _episode(self) -> Episode:
        episode = self._policy.episodes[0]
        if not episode.age:
            raise ValueError("a plan starts with the first observation: call act before this")
        return episode
