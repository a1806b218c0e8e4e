"""How an environment is described before it is made: its contract with farstep.

An `EnvironmentSpec` holds JSON values only, so that a worker process can make the environment
without the registry that it was found in.
"""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Self

from farstep.core.errors import FarstepError, nearest
from farstep.envs.mazes import PUBLISHED, MazeMap

BodyName = Literal["point", "ant", "humanoid"]

Sharing = Literal["none", "argument", "copies"]
"""Whether the environments of a process share one compiled model: not; if the entry point is given
`share_model=True`; or as deep copies of one environment around its model, where nothing renders."""


@dataclass(frozen=True, kw_only=True)
class EnvironmentSpec:
    """How an environment is made, how its tasks are set, and where it says what.

    By default an environment is as farstep's own: `reset(seed=s, options={"task_id": k})` starts
    task k from 1 and gives the goal as `info["goal"]`, and `info["success"]` of a step says whether
    it is reached. Gymnasium's goal environments, whose observation is a dict, name their keys.

    Attributes:
        name: name in data and results.
        max_episode_steps: steps after which an episode is cut.
        entry_point: `module:function` that makes it, from keyword arguments; empty for a world of
            which there are only data.
        kwargs: those arguments, as JSON values.
        tasks: number of tasks, or the `options` of `reset` for each of them. Data can be made
            in a world without any.
        observation_key: the observation in a dict of several, or the names of its arrays; None
            where it is one array, or the whole of a dict.
        goal_key: the goal in that dict, or in `info` where there is none.
        success_key: the flag of success in `info`.
        progress_key: the points earned so far, in `info`; empty where there is success only.
        position: columns of an observation that are the body's place in metres; empty if none are.
        goal_position: the same of a goal.
        sharing: of compiled models between the environments of one process.
        drawn: whether observations are drawn with MuJoCo's OpenGL.
        sized: whether the entry point takes `width` and `height` of what `render` draws.
        family: of the collectors that can make data in it; empty if there are none.
        maze: name of the map, for mazes and antsoccer.
        body: the body in the maze; None outside mazes.
        ball: whether the goal is for a ball (antsoccer), not for the body.
        pixels: whether observations are pictures.
        num_actions: number of discrete actions; None where actions are continuous.
        states: name of the environment of which this one shows pictures, if it does.
    """

    name: str
    max_episode_steps: int
    entry_point: str = ""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    tasks: int | tuple[Mapping[str, Any], ...] = 1
    observation_key: str | tuple[str, ...] | None = None
    goal_key: str = "goal"
    success_key: str = "success"
    progress_key: str = ""
    position: tuple[int, ...] = ()
    goal_position: tuple[int, ...] = ()
    sharing: Sharing = "none"
    drawn: bool = False
    sized: bool = False
    family: str = ""
    maze: str | None = None
    body: BodyName | None = None
    ball: bool = False
    pixels: bool = False
    num_actions: int | None = None
    states: str | None = None

    def __post_init__(self) -> None:
        if self.max_episode_steps < 1:
            raise FarstepError(f"{self.name}: an episode has at least one step")
        if len(self.position) != len(self.goal_position):
            raise FarstepError(
                f"{self.name}: position {self.position} and goal_position {self.goal_position} "
                "must have equally many columns"
            )
        try:
            json.dumps(asdict(self))
        except TypeError as error:
            raise FarstepError(
                f"{self.name}: the arguments and options of an environment must be JSON values, "
                f"since worker processes make it ({error})"
            ) from error

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Reads back what `asdict` and JSON made of a specification."""
        read = {
            name: tuple(values[name]) if isinstance(values[name], list) else values[name]
            for name in ("tasks", "observation_key")
        }
        return cls(**{**values, **read})

    @property
    def num_tasks(self) -> int:
        """How many tasks there are; they are numbered from 1."""
        return self.tasks if isinstance(self.tasks, int) else len(self.tasks)

    @property
    def is_native(self) -> bool:
        """Whether the environment has the interface of farstep's own."""
        keys = self.observation_key, self.goal_key, self.success_key
        return isinstance(self.tasks, int) and keys == (None, "goal", "success")

    @functools.cached_property
    def maze_map(self) -> MazeMap | None:
        """The map that the body, or the ball, moves in."""
        maze = self.kwargs.get("maze")
        if isinstance(maze, Mapping):
            return MazeMap.from_text(maze["text"], maze["name"])
        return PUBLISHED[self.maze] if self.maze is not None else None

    def in_maze(self, maze: MazeMap) -> EnvironmentSpec:
        """The same body in another map."""
        assert self.body is not None
        return replace(
            self,
            kwargs={**self.kwargs, "maze": {"name": maze.name, "text": maze.to_text()}},
            tasks=len(maze.tasks),
            maze=maze.name,
        )

    def load(self) -> Callable[..., Any]:
        """The function that makes it.

        Raises:
            FarstepError: there is no such module or function.
        """
        if not self.entry_point:
            raise FarstepError(f"'{self.name}' names no entry_point by which it could be made")
        return attribute(self.entry_point, f"the entry point of '{self.name}'")


def attribute(reference: str, what: str) -> Any:
    """The `module:name` that `reference` stands for.

    Args:
        what: describes it in errors.

    Raises:
        FarstepError: it cannot be imported, or the module has no such name.
    """
    module_name, _, name = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise FarstepError(f"cannot import '{reference}', {what}: {error}") from error
    if not hasattr(module, name):
        known = [known for known in vars(module) if known[0] != "_"]
        raise FarstepError(
            f"{what} is '{reference}', and {module_name} has no '{name}'.{nearest(name, known)}"
        )
    return getattr(module, name)
