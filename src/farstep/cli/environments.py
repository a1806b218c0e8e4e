"""Which environment a policy is evaluated in, and whether its maze can be drawn."""

from __future__ import annotations

from pathlib import Path

from farstep.core.errors import FarstepError
from farstep.envs.catalog import environment
from farstep.envs.mazes import MazeMap
from farstep.envs.specs import EnvironmentSpec
from farstep.serving.policy import Policy


def environment_of(policy: Policy, path: Path, asked: str | None) -> EnvironmentSpec:
    """The environment `asked` for, or that of the data of the policy at `path`.

    Raises:
        FarstepError: there is none.
    """
    name = asked or policy.environment
    if name is None:
        raise FarstepError(
            f"the data of {path} name no environment; say which one with --environment"
        )
    return environment(name)


def drawable_maze(policy: Policy, path: Path, asked: str | None) -> tuple[EnvironmentSpec, MazeMap]:
    """The same, and its maze.

    Raises:
        FarstepError: there is none, or its observations do not say where the body is.
    """
    spec = environment_of(policy, path, asked)
    maze = spec.maze_map
    if maze is None or spec.position != (0, 1):
        raise FarstepError(
            f"{spec.name} cannot be drawn: the picture needs a body in a maze that observes "
            "its position"
        )
    return spec, maze
