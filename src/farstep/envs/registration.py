"""Gymnasium names for the environments that OGBench does not register."""

from __future__ import annotations

from typing import Any

from farstep.core.errors import FarstepError
from farstep.envs.catalog import ENVIRONMENTS, own_maze
from farstep.envs.mazes import MazeMap
from farstep.envs.specs import EnvironmentSpec


def register() -> None:
    """Register colossal mazes and the tabletop with Gymnasium. Does nothing the second time."""
    from gymnasium.envs import registration

    for spec in ENVIRONMENTS.values():
        if (
            spec.maze == "colossal" or spec.family == "widowx"
        ) and spec.name not in registration.registry:
            registration.register(**_arguments(spec))


def register_maze(family: str, maze: MazeMap, max_episode_steps: int | None = None) -> str:
    """Register a map of your own with Gymnasium and return the name to make it by.

    Args:
        family: `pointmaze`, `antmaze`, `humanoidmaze`, `visual-antmaze` or `visual-humanoidmaze`.
        maze: the map; `antmaze` and a map called `rooms` make `antmaze-rooms-v0`.
        max_episode_steps: when an episode is cut, if not after 4000 steps.

    Raises:
        FarstepError: unknown family, or the name is that of a published environment.
    """
    from gymnasium.envs import registration

    arguments = _arguments(own_maze(family, maze))
    if arguments["id"] in ENVIRONMENTS:
        raise FarstepError(
            f"'{arguments['id']}' is a published environment: give your map another name"
        )
    if max_episode_steps is not None:
        arguments["max_episode_steps"] = max_episode_steps
    registration.registry.pop(arguments["id"], None)  # a map that was edited replaces itself
    registration.register(**arguments)
    return arguments["id"]


def _arguments(spec: EnvironmentSpec) -> dict[str, Any]:
    return {
        "id": spec.name,
        "entry_point": spec.entry_point,
        "max_episode_steps": spec.max_episode_steps,
        "kwargs": dict(spec.kwargs),
    }
