"""Every environment and data set by name, and how to make an environment.

The names are OGBench's (Park et al. 2025) and those of MQE's colossal mazes (arXiv 2511.07730). A
user's own maze has a name too: the body's environment and the map's file, `pointmaze:my_maze.txt`.

Reading the catalogue needs no simulator; `make` does.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from farstep.core.errors import FarstepError, install_command, nearest
from farstep.envs.mazes import PUBLISHED, MazeMap

if TYPE_CHECKING:
    import gymnasium

BodyName = Literal["point", "ant", "humanoid"]

OWN_MAZE_STEPS = 4000
"""Steps after which an episode in a user's own maze is cut, unless `make` is told otherwise."""


@dataclass(frozen=True)
class EnvironmentSpec:
    """What is known of an environment without making it.

    Attributes:
        name: `pointmaze-medium-v0`, or `pointmaze:my_maze.txt`.
        family: `pointmaze`, `cube` …, the same for pictures as for states.
        max_episode_steps: steps after which an episode is cut.
        tasks: number of evaluation tasks.
        maze: name of the map, for mazes and antsoccer.
        body: what moves in the maze; `None` outside mazes.
        pixels: whether observations are pictures.
        discrete: whether actions are integers.
        states: the environment of which this one shows pictures, if it does.
    """

    name: str
    family: str
    max_episode_steps: int
    tasks: int = 5
    maze: str | None = None
    body: BodyName | None = None
    pixels: bool = False
    discrete: bool = False
    states: str | None = None

    @property
    def ball(self) -> bool:
        """Whether the goal is for a ball (antsoccer), not for the body."""
        return self.family == "antsoccer"

    @property
    def drawn(self) -> bool:
        """Whether observations are drawn with OpenGL; Powderworld's pictures are its state."""
        return self.pixels and not self.discrete

    @functools.cached_property
    def maze_map(self) -> MazeMap | None:
        """The map, read from its file for a user's own maze.

        Raises:
            FarstepError: that file cannot be read or is no map.
        """
        _, colon, path = self.name.partition(":")
        if colon:
            return MazeMap.from_file(path)
        return PUBLISHED[self.maze] if self.maze is not None else None


def _published() -> tuple[dict[str, EnvironmentSpec], dict[str, str]]:
    """Environments by name, and the environment's name by data set."""
    environments: dict[str, EnvironmentSpec] = {}
    datasets: dict[str, str] = {}

    def add(family: str, variant: str, steps: int, behaviours: str, **more: Any) -> None:
        stem = f"{family}-{variant}" if variant else family
        for prefix in ("", "visual-") if more.pop("seen", False) else ("",):
            seen = {"pixels": True, "states": f"{stem}-v0"} if prefix else {}
            spec = EnvironmentSpec(f"{prefix}{stem}-v0", family, steps, **more, **seen)
            environments[spec.name] = spec
            for behaviour in behaviours.split():
                datasets[f"{prefix}{stem}-{behaviour}-v0"] = spec.name

    for maze in ("medium", "large", "giant", "teleport", "colossal"):
        cap = 4000 if maze == "colossal" else 1000
        explore = " explore" if maze in ("medium", "large", "teleport") else ""
        add("pointmaze", maze, cap, "navigate stitch", maze=maze, body="point")
        add("antmaze", maze, cap, f"navigate stitch{explore}", maze=maze, body="ant", seen=True)
        cap = 4000 if maze in ("giant", "colossal") else 2000
        logged = "" if maze == "teleport" else "navigate stitch"
        add("humanoidmaze", maze, cap, logged, maze=maze, body="humanoid", seen=True)
    for maze in ("arena", "medium"):
        add("antsoccer", maze, 1000, "navigate stitch", maze=maze, body="ant")
    for cubes, cap in (("single", 200), ("double", 500), ("triple", 1000), ("quadruple", 1000)):
        add("cube", cubes, cap, "play noisy", seen=True)
    add("cube", "octuple", 1500, "")
    add("scene", "", 750, "play noisy", seen=True)
    for board, cap in (("3x3", 500), ("4x4", 500), ("4x5", 1000), ("4x6", 1000)):
        add("puzzle", board, cap, "play noisy", seen=True)
    for elements in ("easy", "medium", "hard"):
        add("powderworld", elements, 500, "play", discrete=True)
        name = f"powderworld-{elements}-v0"
        environments[name] = dataclasses.replace(environments[name], pixels=True)
    return environments, datasets


ENVIRONMENTS, DATASETS = _published()
"""Published environments by name; and, by the name of a data set, its environment's name."""

_BODIES: dict[str, BodyName] = {"pointmaze": "point", "antmaze": "ant", "humanoidmaze": "humanoid"}


def environment(name: str) -> EnvironmentSpec:
    """The environment called `name`; `-v0` may be left out.

    `pointmaze:my_maze.txt` (or `antmaze:…`, `humanoidmaze:…`, with `visual-` before those two) is
    that body in the map of that file.

    Raises:
        FarstepError: no such environment, or a map that cannot be read.
    """
    family, colon, path = name.partition(":")
    if colon:
        return own_maze(family, MazeMap.from_file(path), name)
    for candidate in (name, f"{name}-v0"):
        if candidate in ENVIRONMENTS:
            return ENVIRONMENTS[candidate]
    hint = nearest(name, ENVIRONMENTS)
    if name in DATASETS or f"{name}-v0" in DATASETS:
        hint = f" That is a data set, of '{environment_of(name).name}'."
    raise FarstepError(f"no environment '{name}'.{hint}")


def environment_of(dataset: str) -> EnvironmentSpec:
    """The environment of a published data set; `-v0` may be left out.

    Raises:
        FarstepError: no such data set.
    """
    for candidate in (dataset, f"{dataset}-v0"):
        if candidate in DATASETS:
            return ENVIRONMENTS[DATASETS[candidate]]
    raise FarstepError(f"no data set '{dataset}'.{nearest(dataset, DATASETS)}")


def make(name: str, *, maze: MazeMap | None = None, **kwargs: Any) -> gymnasium.Env:
    """Make an environment whose every draw follows from `reset(seed=...)`.

    `reset(seed=s, options={"task_id": k})` starts evaluation task k (from 1) and gives the goal's
    observation as `info["goal"]`; `step` gives `info["success"]`. NumPy's global generator is
    neither read nor changed.

    Args:
        name: an environment's name, or with `maze` a body's: `pointmaze`, `antmaze`,
            `humanoidmaze`, `visual-antmaze` or `visual-humanoidmaze`.
        maze: a map of your own.
        kwargs: for `gymnasium.make` and the environment: `max_episode_steps`,
            `terminate_at_goal`, `width`, `height`, `camera_name` …

    Raises:
        FarstepError: no such environment, or the simulators are not installed.
    """
    spec = environment(name) if maze is None else own_maze(name, maze)
    check_installed(spec.name)
    import gymnasium
    from gymnasium.envs.registration import EnvSpec

    if spec.body is None or spec.ball:
        from farstep.envs.isolation import make_isolated

        return make_isolated(spec.name, **kwargs)
    # An EnvSpec of our own, because OGBench registers its class under the same names.
    return gymnasium.make(EnvSpec(**gymnasium_arguments(spec, maze or spec.maze_map)), **kwargs)


def gymnasium_arguments(spec: EnvironmentSpec, maze: MazeMap | None) -> dict[str, Any]:
    """The arguments with which Gymnasium registers a maze."""
    assert spec.body is not None
    assert maze is not None
    options: dict[str, Any] = {"body": spec.body, "maze": maze}
    if spec.pixels:
        options |= {"ob_type": "pixels", "width": 64, "height": 64, "camera_name": "back"}
    family, colon, _ = spec.name.partition(":")
    return {
        "id": f"{family}-{_as_id(maze.name)}-v0" if colon else spec.name,
        "entry_point": "farstep.envs.locomaze:MazeEnv",
        "max_episode_steps": spec.max_episode_steps,
        "kwargs": options,
    }


def own_maze(family: str, maze: MazeMap, name: str | None = None) -> EnvironmentSpec:
    """The environment of a body in a user's own map.

    Raises:
        FarstepError: `family` is not one of the names that `make` takes with `maze`.
    """
    body_family = family.removeprefix("visual-")
    pixels = body_family != family
    if body_family not in _BODIES or (pixels and body_family == "pointmaze"):
        known = [*_BODIES, "visual-antmaze", "visual-humanoidmaze"]
        raise FarstepError(f"no body '{family}' for a maze of your own.{nearest(family, known)}")
    return EnvironmentSpec(
        name or f"{family}-{_as_id(maze.name)}-v0",
        body_family,
        OWN_MAZE_STEPS,
        tasks=len(maze.tasks),
        maze=maze.name,
        body=_BODIES[body_family],
        pixels=pixels,
    )


def _as_id(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)


def check_installed(name: str) -> None:
    """Refuse to make `name` where its simulators are missing or cannot be imported.

    Raises:
        FarstepError: so it is; says what to install or to set.
    """
    missing = [m for m in ("gymnasium", "mujoco", "ogbench") if importlib.util.find_spec(m) is None]
    if not missing:
        try:
            import mujoco  # noqa: F401
        except Exception as error:
            raise FarstepError(
                f"MuJoCo cannot be imported ({type(error).__name__}: {error}). It loads the OpenGL "
                f"that MUJOCO_GL names, here '{os.environ.get('MUJOCO_GL', '')}': unset it, or set "
                "it to egl or to a backend that 'farstep doctor' finds working."
            ) from error
        return
    raise FarstepError(
        f"'{name}' needs {', '.join(missing)}, which are not installed: "
        f"{install_command('ogbench')}. With pip on Python 3.13 see docs/install.md."
    )
