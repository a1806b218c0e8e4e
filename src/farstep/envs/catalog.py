"""Every environment and data set by name, and how to make an environment.

The names are OGBench's (Park et al. 2025) and those of MQE's colossal mazes (arXiv 2511.07730). A
user's own maze has a name too: the body's environment and the map's file, `pointmaze:my_maze.txt`.

Reading the catalogue needs no simulator; `make` does.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farstep.core.errors import FarstepError, install_command, nearest
from farstep.envs.mazes import PUBLISHED, MazeMap
from farstep.envs.specs import BodyName, EnvironmentSpec, attribute

if TYPE_CHECKING:
    import gymnasium

OWN_MAZE_STEPS = 4000
"""Default limit on the steps of an episode in a user's own maze."""


ENTRY_POINTS = "farstep.environments"
"""The group of entry points by which an installed package offers environments."""

MAZE_FAMILIES: dict[str, BodyName] = {
    "pointmaze": "point",
    "antmaze": "ant",
    "humanoidmaze": "humanoid",
}


OWN_MAZES = {
    **{family: (family, False) for family in MAZE_FAMILIES},
    **{f"visual-{family}": (family, True) for family in ("antmaze", "humanoidmaze")},
}
"""Prefixes of a map's file: the family, and whether observations are pictures."""


def _maze_spec(name: str, family: str, steps: int, *, pixels: bool = False) -> EnvironmentSpec:
    """A body in a maze whose map is set later."""
    options: dict[str, Any] = {"body": MAZE_FAMILIES[family]}
    if pixels:
        options |= {"ob_type": "pixels", "width": 64, "height": 64, "camera_name": "back"}
    columns = () if pixels else (0, 1)
    return EnvironmentSpec(
        name=name,
        entry_point="farstep.envs.locomaze:make_maze",
        kwargs=options,
        max_episode_steps=steps,
        position=columns,
        goal_position=columns,
        sharing="argument",
        drawn=pixels,
        sized=not pixels,
        family=family,
        body=MAZE_FAMILIES[family],
        pixels=pixels,
    )


def _published() -> tuple[dict[str, EnvironmentSpec], dict[str, str]]:
    """Environments by name, and the environment's name by data set."""
    environments: dict[str, EnvironmentSpec] = {}
    datasets: dict[str, str] = {}

    def add(spec: EnvironmentSpec, behaviours: str) -> None:
        environments[spec.name] = spec
        for behaviour in behaviours.split():
            datasets[f"{spec.name.removesuffix('-v0')}-{behaviour}-v0"] = spec.name

    def mazes(family: str, maze: str, steps: int, behaviours: str, *, seen: bool = True) -> None:
        for prefix in ("", "visual-") if seen else ("",):
            name = f"{prefix}{family}-{maze}-v0"
            spec = _maze_spec(name, family, steps, pixels=bool(prefix))
            tasks = len(PUBLISHED[maze].tasks)
            kwargs = {**spec.kwargs, "maze": maze}
            states = f"{family}-{maze}-v0" if prefix else None
            spec = replace(spec, kwargs=kwargs, maze=maze, tasks=tasks, states=states)
            add(spec, behaviours)

    def ogbench(
        family: str, variant: str, steps: int, behaviours: str, *, draws: bool = False, **more: Any
    ) -> None:
        stem = f"{family}-{variant}" if variant else family
        for prefix in ("", "visual-") if more.pop("seen", False) else ("",):
            name = f"{prefix}{stem}-v0"
            looks: dict[str, Any] = {"sized": True}
            if prefix:
                looks = {"pixels": True, "drawn": True, "states": f"{stem}-v0"}
            spec = EnvironmentSpec(
                name=name,
                entry_point="farstep.envs.isolation:make_isolated",
                kwargs={"name": name, "steps_draw": draws},
                max_episode_steps=steps,
                tasks=5,
                family=family,
                **{**looks, **more},
            )
            add(spec, behaviours)

    for maze in ("medium", "large", "giant", "teleport", "colossal"):
        cap = 4000 if maze == "colossal" else 1000
        explore = " explore" if maze in ("medium", "large", "teleport") else ""
        mazes("pointmaze", maze, cap, "navigate stitch", seen=False)
        mazes("antmaze", maze, cap, f"navigate stitch{explore}")
        cap = 4000 if maze in ("giant", "colossal") else 2000
        mazes("humanoidmaze", maze, cap, "" if maze == "teleport" else "navigate stitch")
    for maze in ("arena", "medium"):
        ogbench("antsoccer", maze, 1000, "navigate stitch", maze=maze, body="ant", ball=True)
    # Cubes and puzzles change only colours of their model; the scene's buttons lock its joints.
    for cubes, cap in (("single", 200), ("double", 500), ("triple", 1000), ("quadruple", 1000)):
        ogbench("cube", cubes, cap, "play noisy", seen=True, sharing="copies")
    ogbench("cube", "octuple", 1500, "play noisy", sharing="copies")
    ogbench("scene", "", 750, "play noisy", seen=True)
    for board, cap in (("3x3", 500), ("4x4", 500), ("4x5", 1000), ("4x6", 1000)):
        ogbench("puzzle", board, cap, "play noisy", seen=True, sharing="copies")
    for elements in ("easy", "medium", "hard"):
        # Its pictures are its state: NumPy, not OpenGL.
        looks: dict[str, Any] = {"num_actions": 8, "pixels": True, "sized": False}
        ogbench("powderworld", elements, 500, "play", draws=True, **looks)
    tabletop = EnvironmentSpec(
        name="widowx-tabletop-v0",
        entry_point="farstep.envs.tabletop:TabletopEnv",
        max_episode_steps=300,
        tasks=6,
        progress_key="progress",
        sized=True,
        family="widowx",
    )
    add(tabletop, "play")
    looks = {"sized": False, "drawn": True, "pixels": True, "kwargs": {"pixels": True}}
    visual = replace(tabletop, name=f"visual-{tabletop.name}", states=tabletop.name, **looks)
    add(visual, "play")
    return environments, datasets


ENVIRONMENTS, DATASETS = _published()
"""Published environments by name; and, by the name of a data set, its environment's name."""

_REGISTERED: dict[str, EnvironmentSpec] = {}


def register_environment(spec: EnvironmentSpec) -> None:
    """Let `environment` find a specification of your own by its name, in this process.

    Raises:
        FarstepError: the name is that of a published environment.
    """
    if spec.name in ENVIRONMENTS:
        raise FarstepError(f"'{spec.name}' is a published environment: choose another name")
    _REGISTERED[spec.name] = spec


def environment(name: str) -> EnvironmentSpec:
    """The environment called `name`; `-v0` may be left out.

    - `pointmaze:my_maze.txt` (or `antmaze:…`, `humanoidmaze:…`, with `visual-` before those two) is
      that body in the map of that file.
    - `mypkg.envs:spec` is the `EnvironmentSpec` of that name in that module, or what the function
      of that name returns. The working directory is looked in last.
    - Names that `register_environment` or the entry points of an installed package give.

    Raises:
        FarstepError: no such environment, or a map that cannot be read.
    """
    family, colon, path = name.partition(":")
    if colon and family in OWN_MAZES:
        return replace(own_maze(family, MazeMap.from_file(path)), name=name)
    if colon and name not in _REGISTERED:
        return _specification(name, name)
    known = {**ENVIRONMENTS, **_REGISTERED}
    for candidate in (name, f"{name}-v0"):
        if candidate in known:
            return known[candidate]
    offered = {entry.name: entry.value for entry in metadata.entry_points(group=ENTRY_POINTS)}
    if name in offered:
        return _specification(offered[name], name)
    hint = nearest(name, [*known, *offered])
    if name in DATASETS or f"{name}-v0" in DATASETS:
        hint = f" That is a data set, of '{environment_of(name).name}'."
    raise FarstepError(f"no environment '{name}'.{hint}")


def _specification(reference: str, name: str) -> EnvironmentSpec:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    found = attribute(reference, f"the environment '{name}'")
    if not isinstance(found, EnvironmentSpec) and callable(found):
        found = found()
    if not isinstance(found, EnvironmentSpec):
        raise FarstepError(
            f"'{reference}' must be a farstep.envs.EnvironmentSpec or a function that returns one, "
            f"not {found!r}"
        )
    return replace(found, name=name)


def environment_of(dataset: str) -> EnvironmentSpec:
    """The environment of a published data set; `-v0` may be left out.

    Raises:
        FarstepError: no such data set.
    """
    for candidate in (dataset, f"{dataset}-v0"):
        if candidate in DATASETS:
            return ENVIRONMENTS[DATASETS[candidate]]
    raise FarstepError(f"no data set '{dataset}'.{nearest(dataset, DATASETS)}")


def make(name: str | EnvironmentSpec, **kwargs: Any) -> gymnasium.Env:
    """Make an environment whose every draw follows from `reset(seed=...)`.

    `reset(seed=s, options={"task_id": k})` starts evaluation task k (from 1) and gives the goal as
    `info["goal"]`; `step` gives `info["success"]`. NumPy's global generator is neither read nor
    changed by those of the catalogue.

    Args:
        name: an environment's name, or its specification.
        kwargs: `max_episode_steps`, and arguments of the environment: `terminate_at_goal`,
            `width`, `height`, `camera_name` …

    Raises:
        FarstepError: no such environment, or the simulators are not installed.
    """
    spec = environment(name) if isinstance(name, str) else name
    check_installed(spec)
    from gymnasium.wrappers import TimeLimit

    from farstep.envs.goals import GoalEnv

    limit = kwargs.pop("max_episode_steps", spec.max_episode_steps)
    env = TimeLimit(spec.load()(**{**spec.kwargs, **kwargs}), limit)
    return env if spec.is_native else GoalEnv(env, spec)


def own_maze(family: str, maze: MazeMap) -> EnvironmentSpec:
    """The environment of a body in a user's own map.

    Args:
        family: `pointmaze`, `antmaze`, `humanoidmaze`, `visual-antmaze` or `visual-humanoidmaze`.
        maze: the map; `antmaze` and a map called `rooms` make `antmaze-rooms-v0`.

    Raises:
        FarstepError: `family` is none of those names.
    """
    if family not in OWN_MAZES:
        raise FarstepError(
            f"no body '{family}' for a maze of your own.{nearest(family, OWN_MAZES)}"
        )
    body_family, pixels = OWN_MAZES[family]
    name = re.sub(r"[^\w.-]", "_", f"{family}-{maze.name}-v0")
    return _maze_spec(name, body_family, OWN_MAZE_STEPS, pixels=pixels).in_maze(maze)


def check_installed(spec: EnvironmentSpec) -> None:
    """Refuse to make what needs simulators that are missing or cannot be imported.

    Raises:
        FarstepError: so it is; says what to install or to set.
    """
    ours = spec.entry_point.partition(".")[0] == "farstep"
    needed = ("gymnasium", "mujoco", "ogbench") if ours else ("gymnasium",)
    missing = [module for module in needed if importlib.util.find_spec(module) is None]
    if not missing:
        try:
            if ours:
                import mujoco  # noqa: F401
        except Exception as error:
            raise FarstepError(
                f"MuJoCo cannot be imported ({type(error).__name__}: {error}). It loads the OpenGL "
                f"that MUJOCO_GL names, here '{os.environ.get('MUJOCO_GL', '')}': unset it, or set "
                "it to egl or to a backend that 'farstep doctor' finds working."
            ) from error
        return
    raise FarstepError(
        f"'{spec.name}' needs {', '.join(missing)}, which are not installed: "
        f"{install_command('ogbench')}. With pip on Python 3.13 see docs/install.md."
    )
