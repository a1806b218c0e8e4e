"""Ways that policies take: one from a place to another, or some of every task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np

from farstep.core.errors import FarstepError
from farstep.core.types import BatchPolicy
from farstep.envs.specs import EnvironmentSpec
from farstep.evaluation.results import Evaluation
from farstep.evaluation.rollout import Recorder, evaluate
from farstep.evaluation.temperature import AtTemperature, protocol_temperature
from farstep.evaluation.trajectories import Trajectories
from farstep.planning.policy import PlannedPolicy
from farstep.viewing.arrays import encoded
from farstep.viewing.maps import Map


class Stopped(Exception):
    """Nobody waits for the way any more."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A way that the page asks for.

    Attributes:
        agent: number of the policy.
        planned: whether it is steered along its graph.
        start: where it begins, in the chart's coordinates; an episode starts in that maze cell.
        goal: where it is to go.
    """

    agent: int
    planned: bool
    start: tuple[float, float]
    goal: tuple[float, float]

    @classmethod
    def of(cls, values: Any, shown: Map) -> Asked:
        """Read what was sent.

        Raises:
            FarstepError: it is no such request.
        """
        try:
            start, goal = ((float(x), float(y)) for x, y in (values["start"], values["goal"]))
            asked = cls(
                agent=int(values["agent"]),
                planned=values["planned"] is True,
                start=start,
                goal=goal,
            )
        except (TypeError, KeyError, ValueError) as error:
            raise FarstepError(f"That asks for no way: {error!r}.") from None
        if not 0 <= asked.agent < len(shown.policies) or not np.isfinite([start, goal]).all():
            raise FarstepError("That asks for no way: there is no such policy, or no such place.")
        return asked


def possible(shown: Map) -> bool:
    """Whether policies can be rolled out here, from any cell of a maze to any other."""
    spec = shown.spec
    if spec is None or spec.maze_map is None or len(spec.position) != 2:
        return False
    return spec.goal_position == spec.position and find_spec("ogbench") is not None


def walk(shown: Map, asked: Asked, tell: Callable[[dict[str, Any]], None]) -> None:
    """Roll the policy out, and tell of each step.

    Args:
        tell: is given `{"points": …, "subgoals": …}` of one step, and at the end
            `{"success": …, "steps": …}`; may raise `Stopped`.

    Raises:
        FarstepError: no way leads there, or the environment cannot be made.
    """
    spec = shown.spec
    if spec is None or spec.maze_map is None:
        raise FarstepError("Policies are rolled out in mazes, and these data are of none.")
    maze = spec.maze_map
    cells = maze.xy_to_ij(asked.start), maze.xy_to_ij(asked.goal)
    policy = _policy(shown, asked.agent, asked.planned)
    watcher = _Teller(shown, policy, tell)
    task = spec.in_maze(replace(maze, tasks=(cells,)))
    (episode,) = _evaluated(shown, asked.agent, policy, task, 1, watcher, slots=1).episodes
    tell({"success": episode.success, "steps": episode.steps})


def recorded(shown: Map, episodes: int) -> list[dict[str, Any]]:
    """So many ways of every task, of each policy as it is and steered along its graph."""
    if not episodes or not possible(shown):
        return []
    assert shown.spec is not None
    ways = []
    for agent, planned in enumerate(shown.planned):
        for steered in (False, True) if isinstance(planned, PlannedPolicy) else (False,):
            recorder = Trajectories(episodes)
            policy = _policy(shown, agent, steered)
            result = _evaluated(shown, agent, policy, shown.spec, episodes, recorder)
            ways += [
                {
                    "agent": agent,
                    "planned": steered,
                    "task": episode.task,
                    "success": episode.success,
                    "steps": episode.steps,
                    "points": encoded(
                        recorder.routes[episode.task, episode.index].astype(np.float32)
                    ),
                }
                for episode in result.episodes
            ]
    return ways


def _policy(shown: Map, agent: int, steered: bool) -> Any:
    if not steered:
        return shown.policies[agent]
    planned = shown.planned[agent]
    if isinstance(planned, str):
        raise FarstepError(planned)
    return planned


def _evaluated(
    shown: Map,
    agent: int,
    policy: Any,
    spec: EnvironmentSpec,
    episodes: int,
    record: Recorder,
    **how: Any,
) -> Evaluation:
    spaces = shown.policies[agent].spaces
    acting: BatchPolicy = AtTemperature(policy, protocol_temperature(spaces), 0)
    return evaluate(
        acting,
        spec,
        episodes_per_task=episodes,
        workers=0,
        spaces=spaces,
        record=record,
        **how,
    )


class _Teller:
    """Tells where the body is after each step, and what it aims at."""

    def __init__(self, shown: Map, policy: Any, tell: Callable[[dict[str, Any]], None]):
        self._positions = shown.chart.positions
        self._steered = policy if isinstance(policy, PlannedPolicy) else None
        self._tell = tell

    def start(self, task: int, index: int) -> bool:
        return True

    def see(
        self,
        task: int,
        index: int,
        observation: np.ndarray,
        goal: np.ndarray,
        render: Callable[[], np.ndarray],
    ) -> None:
        subgoals = []
        if self._steered is not None:
            aim, landmarks = self._steered.episodes[0].aim, self._steered.graph.landmarks
            if aim < len(landmarks.observations):
                subgoals = self._positions(landmarks.observations[[aim]]).tolist()
            elif goal.shape == observation.shape:
                subgoals = self._positions(goal[None]).tolist()
        points = self._positions(observation[None]).tolist()
        self._tell({"points": points, "subgoals": subgoals})
