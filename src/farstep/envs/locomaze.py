"""Point masses, ants and humanoids in mazes, with their own randomness.

The bodies are OGBench's (Park et al. 2025), and so are the walls, the goal marker, the teleports,
the picture for pixels and the order of a reset: given the same draws, an environment of a published
map resets and steps bit for bit like OGBench's. Two things differ. Every draw (placement noise,
body noise, stabilising actions, teleport exits) comes from generators that `reset(seed=...)` seeds,
never from NumPy's global one. And the compiled model is never changed, so that environments can
share it, and no XML file is left behind.

This module imports the simulator; `farstep.envs.catalog.make` is the way in that does not.
"""

from __future__ import annotations

import copy
import functools
import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any, Literal

import gymnasium
import mujoco
import numpy as np
from gymnasium.spaces import Box
from jaxtyping import Float, UInt8
from ogbench.locomaze.ant import AntEnv
from ogbench.locomaze.humanoid import HumanoidEnv
from ogbench.locomaze.point import PointEnv

from farstep.core.errors import FarstepError, nearest
from farstep.core.seeds import stream
from farstep.envs.mazes import PUBLISHED, UNIT, WALL, Cell, MazeMap
from farstep.envs.specs import BodyName

# MuJoCo's classes are compiled and have no types that a checker could read.
_mujoco: Any = mujoco
MjModel = Any
MjData = Any

BODIES: dict[BodyName, Any] = {
    "point": PointEnv,
    "ant": AntEnv,
    "humanoid": HumanoidEnv,
}

GOAL_RADIUS: dict[BodyName, float] = {"point": 1.0, "ant": 0.5, "humanoid": 0.5}
"""Distance to the goal in metres that counts as success."""

STABILISING_STEPS: dict[BodyName, int] = {"point": 5, "ant": 5, "humanoid": 40}
"""Random actions before the goal's observation is taken."""

PLACEMENT_NOISE = UNIT / 4
"""Starts and goals lie within this of their cell's centre along x and y, in metres."""

WALL_HEIGHT = UNIT / 2
TELEPORT_RADIUS = 1.0
TELEPORT_REACH = 1.5 * TELEPORT_RADIUS
"""Distance to an entrance's centre in metres at which the body is taken to an exit."""

TELEPORT_SHADES = {"teleport_in": ".2 .3 .5 1", "teleport_out": ".6 .7 .9 1"}
"""Colours of the discs where the body brings none: dark entrances, bright exits."""


class Scene:
    """A body in a maze as a compiled MuJoCo model, with a renderer made when it is first needed.

    The model is not changed after it is built; environments may share one scene.
    """

    def __init__(self, body: BodyName, maze: MazeMap, pixels: bool, width: int, height: int):
        self.model = _mujoco.MjModel.from_xml_string(_mjcf(body, maze, pixels))
        self.model.vis.global_.offwidth = max(self.model.vis.global_.offwidth, width)
        self.model.vis.global_.offheight = max(self.model.vis.global_.offheight, height)
        if pixels:
            _colour_floor(self.model)
        self._size = height, width
        self._renderer: mujoco.Renderer | None = None
        self._target = None if pixels else self.model.geom("target").id

    def frame(
        self, data: MjData, camera: Any, goal_xy: Float[np.ndarray, "2"]
    ) -> UInt8[np.ndarray, "height width 3"]:
        """The picture of `data` from `camera`, with the goal marker at `goal_xy` if there is one.

        Raises:
            FarstepError: no OpenGL context can be made.
        """
        if self._renderer is None:
            try:
                self._renderer = mujoco.Renderer(self.model, *self._size)
            except Exception as error:  # MuJoCo's backends raise classes of their own
                raise FarstepError(
                    f"MuJoCo cannot render here ({error}); without a display set MUJOCO_GL=egl "
                    "(or osmesa) before Python starts, and install libegl1 (or libosmesa6)"
                ) from error
        if self._target is not None:
            data.geom_xpos[self._target, :2] = goal_xy
        self._renderer.update_scene(data, camera=camera)
        return self._renderer.render()

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


_shared_scene = functools.lru_cache(maxsize=None)(Scene)


class MazeEnv(gymnasium.Env):
    """A body that is to reach a goal position in a maze.

    `reset(seed=..., options=...)` takes `task_id` (from 1), or `task_info` with cells `init_ij` and
    `goal_ij`, or draws a task; `render_goal` adds a picture of the goal. The goal's observation is
    `info["goal"]`. `step` reports `info["success"]` (1.0 or 0.0), the reward is the same, and the
    position before any teleport is `info["xy"]` in metres.

    Arguments:
        body: `point`, `ant` or `humanoid`.
        maze: the map.
        terminate_at_goal: end the episode at the goal.
        ob_type: `states`, or `pixels`: what the body's own camera sees (`ant` and `humanoid`).
        add_noise_to_goal: place the goal up to 1 m off its cell's centre along each axis.
        render_mode: `rgb_array`.
        width, height: size of pictures in pixels.
        camera_name, camera_id: a camera of the body's model; without one, the maze from above.
        share_model: use one compiled model (and renderer) for all environments of this process
            that ask for the same; for many environments in one thread.

    Raises:
        FarstepError: unknown body or observation type, or a camera that the body lacks.
    """

    def __init__(
        self,
        body: BodyName,
        maze: MazeMap,
        *,
        terminate_at_goal: bool = True,
        ob_type: Literal["states", "pixels"] = "states",
        add_noise_to_goal: bool = True,
        render_mode: str = "rgb_array",
        width: int = 200,
        height: int = 200,
        camera_name: str | None = None,
        camera_id: int | None = None,
        share_model: bool = False,
    ):
        if body not in BODIES:
            raise FarstepError(f"unknown body '{body}'.{nearest(str(body), BODIES)}")
        if ob_type not in ("states", "pixels"):
            raise FarstepError(f"unknown ob_type '{ob_type}': use 'states' or 'pixels'")
        if ob_type == "pixels" and body == "point":
            raise FarstepError("the point mass has no camera: use ob_type='states'")
        self.maze = maze
        self.goal_radius = GOAL_RADIUS[body]
        self.goal_xy = np.zeros(2)
        self.render_mode = render_mode
        self._pixels = ob_type == "pixels"
        self._terminate_at_goal = terminate_at_goal
        self._add_noise_to_goal = add_noise_to_goal
        self._stabilising_steps = STABILISING_STEPS[body]
        self._entrances = [maze.ij_to_xy(cell) for cell in maze.teleport_in]
        self._exits = [maze.ij_to_xy(cell) for cell in maze.teleport_out]

        self._owns_scene = not share_model
        self.scene = (_shared_scene if share_model else Scene)(
            body, maze, self._pixels, width, height
        )
        self.body = body_with_model(BODIES[body], self.scene.model)
        self.metadata = {
            "render_modes": ["rgb_array"],
            "render_fps": self.body.metadata["render_fps"],
        }
        self._camera = self._find_camera(camera_name, camera_id)
        self.action_space = self.body.action_space
        if self._pixels:
            self.observation_space = Box(0, 255, (height, width, 3), np.uint8)
        else:
            state = self.body.get_ob()
            self.observation_space = Box(-np.inf, np.inf, state.shape, state.dtype.type)
        # Stabilising actions come from a space of their own: a caller that samples or seeds
        # `action_space` must not change what an episode's seed gives.
        self._stabilising_actions = copy.deepcopy(self.body.action_space)

    @property
    def model(self) -> MjModel:
        """The compiled model; do not change it where `share_model` is set."""
        return self.scene.model

    @property
    def data(self) -> MjData:
        """The simulator's state."""
        return self.body.data

    @property
    def xy(self) -> Float[np.ndarray, "2"]:
        """Position of the body in metres."""
        return self.body.get_xy()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self._reseed(seed)
        options = options or {}
        start, goal = self._task(options)
        start_xy = self._near(start)
        self.aim(goal)

        # The goal's observation is one of a body that stands there after a few random actions.
        self.body.reset(seed=seed)
        for _ in range(self._stabilising_steps):
            self.body.step(self._stabilising_actions.sample())
        self.body.set_xy(self.goal_xy)
        info: dict[str, Any] = {"goal": self._observation()}
        if options.get("render_goal", False):
            info["goal_rendered"] = self.render()

        self.body.reset(seed=seed)
        self.body.set_xy(start_xy)
        info["xy"] = self.xy
        return self._observation(), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, _, terminated, truncated, info = self.body.step(action)
        x, y = info["xy"]
        success = math.dist((x, y), self.goal_xy) <= self.goal_radius
        if self._pixels:
            observation = self._observation()
        for entrance in self._entrances:
            if math.dist((x, y), entrance) <= TELEPORT_REACH:
                # The observation stays that of the entrance; the next step starts at the exit.
                self.body.set_xy(self._exits[int(self.np_random.integers(len(self._exits)))])
                break
        info["success"] = float(success)
        terminated = terminated or (success and self._terminate_at_goal)
        return observation, float(success), terminated, truncated, info

    def aim(self, goal: Cell) -> None:
        """Move the goal to `goal`: near its centre, or there if `add_noise_to_goal` is off."""
        self.goal_xy = np.array(
            self._near(goal) if self._add_noise_to_goal else self.maze.ij_to_xy(goal)
        )

    def render(self) -> UInt8[np.ndarray, "height width 3"]:
        return self.scene.frame(self.data, self._camera, self.goal_xy)

    def close(self) -> None:
        if self._owns_scene:
            self.scene.close()
        self.body.close()

    def _reseed(self, seed: int) -> None:
        """Placement and teleports, and stabilising actions, from streams apart from the body's."""
        self.np_random = stream(seed, "placement")
        actions_seed = stream(seed, "stabilising actions").integers(2**31)
        self._stabilising_actions.seed(int(actions_seed))

    def _task(self, options: dict[str, Any]) -> tuple[Cell, Cell]:
        tasks = self.maze.tasks
        if (task := options.get("task_id")) is not None:
            if not 1 <= task <= len(tasks):
                raise FarstepError(
                    f"maze '{self.maze.name}' has tasks 1 to {len(tasks)}, not {task}"
                )
            return tasks[task - 1]
        if (cells := options.get("task_info")) is not None:
            return cells["init_ij"], cells["goal_ij"]
        if not tasks:
            raise FarstepError(
                f"maze '{self.maze.name}' has no tasks: add lines such as "
                "'task (1, 1) -> (6, 6)', or reset with options={'task_info': "
                "{'init_ij': ..., 'goal_ij': ...}}"
            )
        return tasks[int(self.np_random.integers(1, len(tasks) + 1)) - 1]

    def _near(self, cell: Cell) -> tuple[float, float]:
        """A point near the centre of `cell`."""
        x, y = self.maze.ij_to_xy(cell)
        shift_x = self.np_random.uniform(-PLACEMENT_NOISE, PLACEMENT_NOISE)
        shift_y = self.np_random.uniform(-PLACEMENT_NOISE, PLACEMENT_NOISE)
        return x + shift_x, y + shift_y

    def _observation(self) -> np.ndarray:
        return self.render() if self._pixels else self.body.get_ob()

    def _find_camera(self, name: str | None, index: int | None) -> Any:
        if index is not None:
            return index
        if name is not None:
            known = [self.model.camera(i).name for i in range(self.model.ncam)]
            if name not in known:
                raise FarstepError(f"this body has no camera '{name}'.{nearest(name, known)}")
            return name
        rows, columns = self.maze.shape
        overhead = _mujoco.MjvCamera()
        overhead.lookat[:2] = 2 * (columns - 3), 2 * (rows - 3)
        overhead.distance = 5 * (columns - 2)
        overhead.elevation = -90
        return overhead


def make_maze(body: BodyName, maze: str | Mapping[str, str], **kwargs: Any) -> MazeEnv:
    """`MazeEnv` from JSON values.

    Args:
        body: as there.
        maze: the name of a published map, or `name` and `text` of one's own.
        kwargs: as there.
    """
    found = (
        PUBLISHED[maze] if isinstance(maze, str) else MazeMap.from_text(maze["text"], maze["name"])
    )
    return MazeEnv(body, found, **kwargs)


def body_with_model(base: Any, model: MjModel) -> Any:
    """OGBench's body, simulating `model` instead of its own XML file."""

    def simulation(_: Any) -> tuple[MjModel, MjData]:
        return model, _mujoco.MjData(model)

    return type(base.__name__, (base,), {"_initialize_simulation": simulation})()


def _mjcf(body: BodyName, maze: MazeMap, pixels: bool) -> str:
    """The body's MJCF with floor, walls, teleports and goal marker, as OGBench builds it."""
    root = ET.parse(BODIES[body].xml_file).getroot()
    world = _only(root, ".//worldbody")
    for i, row in enumerate(maze.rows):
        for j, mark in enumerate(row):
            if mark == WALL:
                x, y = maze.ij_to_xy((i, j))
                ET.SubElement(
                    world,
                    "geom",
                    name=f"block_{i}_{j}",
                    type="box",
                    pos=f"{x} {y} {WALL_HEIGHT / 2}",
                    size=f"{UNIT / 2} {UNIT / 2} {WALL_HEIGHT / 2}",
                    material="wall",
                    contype="1",
                    conaffinity="1",
                )
    rows, columns = maze.shape
    floor = _only(root, ".//geom[@name='floor']")
    floor.set("pos", f"{2 * (columns - 3)} {2 * (rows - 3)} 0")
    floor.set("size", f"{2 * columns} {2 * rows} 0.2")
    for material, cells in (("teleport_in", maze.teleport_in), ("teleport_out", maze.teleport_out)):
        if root.find(f".//material[@name='{material}']") is None:
            # OGBench's humanoid has none, so that its own humanoidmaze-teleport cannot be built.
            shade = TELEPORT_SHADES[material]
            ET.SubElement(_only(root, ".//asset"), "material", name=material, rgba=shade)
        for number, cell in enumerate(cells):
            x, y = maze.ij_to_xy(cell)
            _add_disc(world, f"{material}_{number}", material, TELEPORT_RADIUS, x, y)
    if pixels:
        _dress_for_pixels(root, body)
    else:
        _add_disc(world, "target", "target", 0.5, 0, 0)
    return ET.tostring(root, encoding="unicode")


def _add_disc(
    world: ET.Element, name: str, material: str, radius: float, x: float, y: float
) -> None:
    """A flat marker on the floor that nothing collides with."""
    ET.SubElement(
        world,
        "geom",
        name=name,
        type="cylinder",
        size=f"{radius} .05",
        pos=f"{x} {y} .05",
        material=material,
        contype="0",
        conaffinity="0",
    )


def _dress_for_pixels(root: ET.Element, body: BodyName) -> None:
    """OGBench's changes by which a picture shows position and heading."""
    _only(root, ".//material[@name='wall']").set("rgba", ".6 .6 .6 1")
    _only(root, ".//light[@name='global']").attrib.pop("ambient")
    _only(root, ".//light[@name='torso_light']/..").remove(
        _only(root, ".//light[@name='torso_light']")
    )
    _only(root, ".//material[@name='grid']").set("texuniform", "false")
    if body == "ant":
        for leg in ("aux_1_geom", "left_leg_geom", "left_ankle_geom"):
            _only(root, f".//geom[@name='{leg}']").set("material", "self_white")


def _only(root: ET.Element, path: str) -> ET.Element:
    element = root.find(path)
    if element is None:
        raise RuntimeError(f"OGBench's body has no element {path}; is its version supported?")
    return element


def _colour_floor(model: MjModel) -> None:
    """Paint the floor with red along rows and green along columns: position shows as colour."""
    texture = model.tex("grid")
    height, width, start = int(texture.height[0]), int(texture.width[0]), int(texture.adr[0])
    values = model.tex_data if hasattr(model, "tex_data") else model.tex_rgb  # before MuJoCo 3.2.1
    picture = values[start : start + 3 * height * width].reshape(height, width, 3)
    picture[..., 0] = (np.arange(height) / height * 192).astype(np.uint8)[:, None]
    picture[..., 1] = (np.arange(width) / width * 192).astype(np.uint8)[None, :]
    picture[..., 2] = 128
