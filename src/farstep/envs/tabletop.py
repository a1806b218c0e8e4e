"""A WidowX-250s at a table with four objects and a drawer, in the conventions of BridgeData V2.

The world is made of primitives only, so that a picture costs milliseconds without a GPU. The arm
has the published kinematics (product of exponentials), and its hand is steered as the robot server
of BridgeData V2 (Walke et al. 2023) does it: five times a second a change of the commanded pose
comes in, is clipped, and the joints follow it as well as they can. There are six tasks, those of
the robot experiments of MQE (arXiv 2511.07730): bring one, two, three or four objects to their
places, open the drawer, open it and put an object in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import mujoco as _typed_mujoco
import numpy as np
from gymnasium.spaces import Box
from jaxtyping import Float, UInt8

mujoco: Any = _typed_mujoco

OBJECTS = (
    ("red cube", "box", (0.016, 0.016, 0.016), "0.85 0.12 0.1 1"),
    ("green can", "cylinder", (0.016, 0.018), "0.1 0.65 0.2 1"),
    ("blue block", "box", (0.018, 0.014, 0.018), "0.12 0.25 0.9 1"),
    ("yellow can", "cylinder", (0.014, 0.02), "0.95 0.8 0.1 1"),
)
"""Name, shape, half sizes in metres and colour of each object."""

TABLE = np.array([[0.24, -0.16], [0.4, 0.04]])
"""Lower and upper bounds of x and y where objects are laid, in metres from the arm's base."""

CLEARANCE = np.array([0.044, 0.07])
"""Objects are apart by one of these, along x or along y, so that the open hand fits between."""

FAR = 0.09
"""Least metres between where a task finds an object and where it wants it."""

WORKSPACE = np.array([[0.14, -0.24, 0.012], [0.44, 0.25, 0.25]])
"""Bounds of the commanded position, as the robot server keeps them."""

MOST = np.array([0.05, 0.05, 0.05, 0.25, 0.25, 0.25])
"""The largest commanded change of position (metres) and rotation (radians) in a step."""

TRAVEL = 0.1
"""Metres from the closed drawer to the open one."""

TRAY = np.array([0.375, 0.17])
"""Centre of the closed drawer; it opens towards the arm, along −x."""

TRAY_HALF = np.array([0.055, 0.05])
"""Half of the drawer's inside along x and y, in metres."""

HANDLE = np.array([-0.082, 0.0, 0.042])
"""Where the hand pulls the drawer, from its centre."""

REST = np.array([0.25, 0.04, 0.17])
"""Where the hand waits."""

STATE = slice(0, 7)
"""Columns of an observation: the hand's position, roll, pitch, yaw and gripper, as in Bridge."""

THINGS = slice(7, 20)
"""Columns of an observation: x, y, z of each object and the opening of the drawer, in metres."""

DRAWER = 19
"""Column of the drawer's opening."""

FROM_HAND = slice(20, 32)
"""Columns of an observation: x, y, z of each object from the hand, in metres. A grasp takes a
centimetre of them, which is little beside where on the table the object is."""

OPEN = 0.8 * TRAVEL
"""Opening from which the drawer counts as open."""

PLACED = 0.04
"""Metres from its place within which an object counts as there."""

TASKS = (
    "one object",
    "two objects",
    "three objects",
    "four objects",
    "drawer",
    "drawer and object",
)
"""What task 1, 2 … asks for."""

FREQUENCY = 5
"""Actions a second."""

_SUBSTEPS = 40
_SPREAD = 0.037
"""Metres from the middle of the hand to an open finger."""

_DOWN = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
"""The hand's rotation at roll = pitch = yaw = 0: it points down."""

_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")

_LIMITS = np.array(
    [(-3.14, 3.14), (-1.88, 1.99), (-2.15, 1.61), (-3.14, 3.14), (-1.745, 2.15), (-3.14, 3.14)]
)


def _scene() -> str:
    """The world in MuJoCo's XML."""
    objects = "".join(
        f'<body name="{name}" pos="0.3 {0.1 * i} 0.03"><freejoint/><geom type="{shape}" '
        f'size="{" ".join(map(str, size))}" rgba="{colour}" mass="0.04" friction="1 0.02 0.001" '
        'condim="4"/></body>'
        for i, (name, shape, size, colour) in enumerate(OBJECTS)
    )
    x, y = TRAY
    wall = 'type="box" rgba="0.75 0.55 0.35 1" mass="0.05" friction="0.6"'
    shell = 'type="box" rgba="0.5 0.35 0.22 1"'
    link = 'type="capsule" contype="0" conaffinity="0" rgba="0.16 0.16 0.18 1"'
    pad = 'type="box" size="0.032 0.004 0.009" friction="2 0.05 0.001" condim="4" mass="0.02"'
    # Bodies lie at their joints, in the arm's home pose: all joints at 0.
    return f"""
<mujoco model="tabletop">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{1 / FREQUENCY / _SUBSTEPS}" integrator="implicitfast" cone="elliptic"
    impratio="10"/>
  <visual>
    <headlight ambient="0.5 0.5 0.5" diffuse="0.4 0.4 0.4" specular="0 0 0"/>
    <quality shadowsize="0" offsamples="0"/>
    <global offwidth="1280" offheight="960"/>
  </visual>
  <default>
    <joint armature="0.1"/>
    <position kp="150" kv="9" forcerange="-25 25"/>
  </default>
  <worldbody>
    <camera name="bridge" pos="0 -0.16 0.36" xyaxes="{_camera()}" resolution="640 480"
      focalpixel="623.6 623.6" sensorsize="0.00640 0.0048"/>
    <light pos="0.2 -0.3 1" dir="0.1 0.3 -1" diffuse="0.4 0.4 0.4" castshadow="false"/>
    <geom name="table" type="box" size="0.4 0.5 0.02" pos="0.3 0 -0.02" rgba="0.82 0.8 0.76 1"/>
    <body name="base" gravcomp="0">
      <geom type="cylinder" size="0.05 0.03" pos="0 0 0.03" contype="0" conaffinity="0"
        rgba="0.16 0.16 0.18 1"/>
      <body name="shoulder" gravcomp="0.6"><joint name="waist" axis="0 0 1"/>
        <geom {link} size="0.03" fromto="0 0 0.04 0 0 0.11" mass="0.6"/>
        <body name="upper" pos="0 0 0.11065" gravcomp="0.6"><joint name="shoulder" axis="0 1 0"/>
          <geom {link} size="0.022" fromto="0 0 0 0.04975 0 0.25" mass="0.7"/>
          <body name="forearm" pos="0.04975 0 0.25" gravcomp="0.6">
            <joint name="elbow" axis="0 1 0"/>
            <geom {link} size="0.02" fromto="0 0 0 0.12 0 0" mass="0.3"/>
            <body name="roll" gravcomp="0.6"><joint name="forearm_roll" axis="1 0 0"/>
              <geom {link} size="0.018" fromto="0.12 0 0 0.25 0 0" mass="0.2"/>
              <body name="wrist" pos="0.25 0 0" gravcomp="0.6">
                <joint name="wrist_angle" axis="0 1 0"/>
                <geom {link} size="0.018" fromto="0 0 0 0.06 0 0" mass="0.15"/>
                <body name="hand" gravcomp="0.6"><joint name="wrist_rotate" axis="1 0 0"/>
                  <geom type="box" size="0.02 0.03 0.015" pos="0.085 0 0" mass="0.15"
                    rgba="0.2 0.2 0.22 1"/>
                  <site name="hand" pos="0.158575 0 0" group="4"/>
                  <body name="left" pos="0.135 0 0" gravcomp="0.6">
                    <joint name="left" type="slide" axis="0 1 0" range="0 {_SPREAD}" armature="0.02"
                      damping="1"/>
                    <geom {pad} pos="0 0.004 0" rgba="0.3 0.3 0.32 1"/></body>
                  <body name="right" pos="0.135 0 0" gravcomp="0.6">
                    <joint name="right" type="slide" axis="0 -1 0" range="0 {_SPREAD}"
                      armature="0.02" damping="1"/>
                    <geom {pad} pos="0 -0.004 0" rgba="0.3 0.3 0.32 1"/></body>
                </body>
              </body>
            </body>
          </body>
        </body>
      </body>
    </body>
    <body name="cabinet" pos="{x} {y} 0">
      <geom {shell} size="0.062 0.003 0.028" pos="0 0.058 0.028"/>
      <geom {shell} size="0.062 0.003 0.028" pos="0 -0.058 0.028"/>
      <geom {shell} size="0.003 0.061 0.028" pos="0.065 0 0.028"/>
      <geom {shell} size="0.062 0.061 0.003" pos="0 0 0.059"/>
      <body name="drawer" pos="0 0 0.002">
        <joint name="drawer" type="slide" axis="-1 0 0" range="0 {TRAVEL}" armature="0.05"
          damping="4" frictionloss="0.4"/>
        <geom {wall} size="0.059 0.054 0.002" pos="0 0 0.004"/>
        <geom {wall} size="0.059 0.002 0.018" pos="0 0.052 0.024"/>
        <geom {wall} size="0.059 0.002 0.018" pos="0 -0.052 0.024"/>
        <geom {wall} size="0.002 0.05 0.018" pos="0.057 0 0.024"/>
        <geom {wall} size="0.002 0.054 0.02" pos="-0.057 0 0.026"/>
        <geom type="box" size="0.018 0.006 0.018" pos="{HANDLE[0] + 0.006} 0 0.035" mass="0.02"
          rgba="0.9 0.9 0.92 1" friction="1.5" condim="4"/>
      </body>
    </body>
    {objects}
  </worldbody>
  <contact><exclude body1="cabinet" body2="drawer"/></contact>
  <equality><joint joint1="left" joint2="right" polycoef="0 1 0 0 0"/></equality>
  <actuator>
    {"".join(f'<position joint="{name}"/>' for name in _JOINTS)}
    <position name="gripper" joint="left" kp="400" kv="15" forcerange="-12 12"/>
  </actuator>
</mujoco>"""


def _camera() -> str:
    """The camera's right and up; its published quaternion has x for the line of sight, z for up."""
    turned = np.empty(9)
    mujoco.mju_quat2Mat(turned, np.array([0.8993, -0.0926, 0.3589, 0.2321]))
    _, left, up = turned.reshape(3, 3).T
    return " ".join(f"{value:.5f}" for value in (*-left, *up))


@dataclass(frozen=True)
class Arrangement:
    """Where the things are.

    Attributes:
        places: x and y of each object; in metres.
        yaws: of each object.
        opening: of the drawer.
        inside: numbers of the objects that lie in the drawer.
        hand: position of the hand, which points down.
        gripper: from 0, closed, to 1, open.
    """

    places: Float[np.ndarray, "4 2"]
    yaws: Float[np.ndarray, " 4"]
    opening: float = 0.0
    inside: tuple[int, ...] = ()
    hand: tuple[float, float, float] = tuple(REST.tolist())
    gripper: float = 1.0


def free_places(
    generator: np.random.Generator, count: int, far: Sequence[tuple[int, int]] = ()
) -> Float[np.ndarray, "count 2"]:
    """`count` places on the table, clear of each other.

    Args:
        far: pairs of numbers of places that lie at least `FAR` apart.
    """
    apart = {pair for one, other in far for pair in ((one, other), (other, one))}
    while True:
        found: list[np.ndarray] = []
        for number in range(count):
            for place in generator.uniform(TABLE[0], TABLE[1], (100, 2)):
                if all(
                    (np.abs(place - other) > CLEARANCE).any()
                    and ((number, index) not in apart or math.dist(place, other) > FAR)
                    for index, other in enumerate(found)
                ):
                    found.append(place)
                    break
            else:
                break  # No room is left: begin anew.
        else:
            return np.array(found)


def in_drawer(opening: float) -> np.ndarray:
    """The middle of the drawer, x and y."""
    return TRAY - [opening, 0]


class TabletopEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """The tabletop as a goal-reaching environment.

    An action is Bridge's: the change of the commanded position (metres) and of roll, pitch and yaw
    (radians), and the gripper from 0, closed, to 1, open. An observation is Bridge's state and the
    things' places (`STATE`, `THINGS`), or a picture. Each task's start and goal are drawn from the
    seed. `info` has the `goal` (an observation), the points that are earned now as `progress`, the
    most that there are as `points`, and `success` where all are earned. An object's point takes it
    within `PLACED` of its place and out of the hand; the drawer's takes it open.

    Args:
        pixels: whether observations are pictures of 64 × 64 instead.
        width, height: of what `render` draws, in pixels.
        terminate_at_goal: whether an episode ends with success.
    """

    metadata: ClassVar[dict[str, Any]] = {  # pyright: ignore[reportIncompatibleVariableOverride]
        "render_modes": ["rgb_array"],
        "render_fps": FREQUENCY,
    }
    render_mode = "rgb_array"

    def __init__(
        self,
        pixels: bool = False,
        width: int = 64,
        height: int = 64,
        terminate_at_goal: bool = True,
    ):
        self.model = mujoco.MjModel.from_xml_string(_scene())
        self.data = mujoco.MjData(self.model)
        self._scratch = mujoco.MjData(self.model)
        self._pixels = pixels
        self._terminate = terminate_at_goal
        self._size = height, width
        self._renderers: dict[tuple[int, int], Any] = {}
        self._drawer = self.model.joint("drawer").qposadr[0]
        self._objects = [self.model.body(name).id for name, *_ in OBJECTS]
        self._free = [self.model.jnt_qposadr[self.model.body_jntadr[b]] for b in self._objects]
        self._low, self._high = np.append(-MOST, 0), np.append(MOST, 1)
        self.action_space = Box(self._low.astype(np.float32), self._high.astype(np.float32))
        self.observation_space = (
            Box(0, 255, (64, 64, 3), np.uint8)
            if pixels
            else Box(-np.inf, np.inf, (FROM_HAND.stop,), np.float32)
        )
        self._position, self._rotation = REST.copy(), _DOWN.copy()
        self._home = self._solve(REST, _DOWN, np.array([0.15, -0.5, 0.5, 0.0, 1.57, 0.0]), 200)
        self._command = self._home
        self.task = 1
        self.goal_state = np.zeros(FROM_HAND.stop, np.float32)
        self._goal = self.goal_state
        self.movers: tuple[int, ...] = ()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        generator = self.np_random
        task = (options or {}).get("task_id")
        self.task = int(generator.integers(1, len(TASKS) + 1)) if task is None else int(task)
        count = {5: 0, 6: 1}.get(self.task, self.task)
        movers = generator.permutation(4)[:count]
        self.movers = tuple(int(mover) for mover in movers)
        opening, inside = 0.0, ()
        drawn = free_places(generator, 4 + count, [(n, 4 + i) for i, n in enumerate(self.movers)])
        yaws = generator.uniform(-0.15, 0.15, 4)
        starts, places = drawn[:4], drawn[:4].copy()
        places[movers] = drawn[4:]
        if self.task >= 5:
            opening = TRAVEL
        if self.task == 6:
            inside = self.movers
            places[movers] = in_drawer(TRAVEL)
        self.arrange(Arrangement(places, yaws, opening, inside))
        self.goal_state = self.state()
        self._goal = self.draw() if self._pixels else self.goal_state
        jitter = generator.uniform(-0.02, 0.02, 3)
        self.arrange(Arrangement(starts, yaws, hand=tuple((REST + jitter).tolist())))
        return self._observe(), self._info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        action = np.clip(np.asarray(action, np.float64), self._low, self._high)
        self._position = np.clip(self._position + action[:3], *WORKSPACE)
        self._rotation = rotation(action[3:6]) @ self._rotation
        self._follow(self._solve(self._position, self._rotation, self._command), action[6])
        info = self._info()
        done = bool(info["success"]) and self._terminate
        return self._observe(), float(info["success"]), done, False, info

    def arrange(self, arrangement: Arrangement) -> None:
        """Lay the things, let them come to rest, and hold the hand still."""
        data = self.data
        mujoco.mj_resetData(self.model, data)
        data.qpos[self._drawer] = arrangement.opening
        for number, start in enumerate(self._free):
            height = OBJECTS[number][2][-1] + (0.009 if number in arrangement.inside else 0.0005)
            yaw = arrangement.yaws[number] / 2
            pose = [*arrangement.places[number], height, math.cos(yaw), 0, 0, math.sin(yaw)]
            data.qpos[start : start + 7] = pose
        self._position, self._rotation = np.array(arrangement.hand), _DOWN.copy()
        self._command = self._solve(self._position, _DOWN, self._home, 100)
        data.qpos[:6] = self._command
        data.qpos[6:8] = arrangement.gripper * _SPREAD
        self._follow(self._command, arrangement.gripper)

    def state(self) -> Float[np.ndarray, " 32"]:
        """The state of the hand and the things, whatever observations are."""
        data = self.data
        site = data.site("hand")
        turned = site.xmat.reshape(3, 3) @ _DOWN.T
        gripper = data.qpos[6:8].mean() / _SPREAD
        things = [data.xpos[body] for body in self._objects]
        state = np.concatenate(
            [site.xpos, roll_pitch_yaw(turned), [gripper], *things, [data.qpos[self._drawer]]]
        ).astype(np.float32)
        return np.append(state, state[THINGS][:12].reshape(4, 3) - state[:3])

    def draw(self, qpos: np.ndarray | None = None, size: tuple[int, int] = (64, 64)) -> UInt8:
        """The camera's picture (height, width, 3) of now, or of the joint positions `qpos`."""
        data = self.data
        if qpos is not None:
            data = self._scratch
            data.qpos[:] = qpos
            mujoco.mj_kinematics(self.model, data)
            mujoco.mj_camlight(self.model, data)
        if size not in self._renderers:
            renderer = self._renderers[size] = mujoco.Renderer(self.model, *size)
            for flag in ("SHADOW", "REFLECTION", "SKYBOX", "HAZE"):
                renderer.scene.flags[getattr(mujoco.mjtRndFlag, f"mjRND_{flag}")] = 0
        renderer = self._renderers[size]
        renderer.update_scene(data, "bridge")
        return renderer.render()

    def render(self) -> UInt8:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The camera's picture, in the size asked for."""
        return self.draw(size=self._size)

    def close(self) -> None:
        """Free what pictures are drawn with."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def _observe(self) -> np.ndarray:
        return self.draw() if self._pixels else self.state()

    def _info(self) -> dict[str, Any]:
        points = self._points()
        return {
            "goal": self._goal,
            "progress": float(sum(points)),
            "points": float(len(points)),
            "success": float(all(points)),
            "qpos": self.data.qpos.copy(),
            "qvel": self.data.qvel.copy(),
        }

    def _points(self) -> list[bool]:
        """What is earned now: the drawer's point first, where the task is about it."""
        state = self.state()
        points = [bool(state[DRAWER] > OPEN)] if self.task >= 5 else []
        for mover in self.movers:
            place = slice(7 + 3 * mover, 10 + 3 * mover)
            gap = state[place] - self.goal_state[place]
            if self.task == 6:
                middle = in_drawer(float(state[DRAWER]))
                there = bool((np.abs(state[place][:2] - middle) < TRAY_HALF).all())
            else:
                there = bool(np.linalg.norm(gap[:2]) < PLACED)
            held = state[6] < 0.6 and bool(np.linalg.norm(state[:3] - state[place]) < 0.04)
            points.append(there and abs(float(gap[2])) < 0.02 and not held)
        return points

    def _follow(self, target: np.ndarray, gripper: float) -> None:
        """A fifth of a second, in which the commanded joints go to `target` in a straight line."""
        control, start = self.data.ctrl, self._command
        control[6] = gripper * _SPREAD
        for number in range(1, _SUBSTEPS + 1):
            control[:6] = start + (target - start) * (number / _SUBSTEPS)
            mujoco.mj_step(self.model, self.data)
        self._command = target
        # What is observed belongs to the positions of now.
        mujoco.mj_kinematics(self.model, self.data)

    def _solve(
        self, position: np.ndarray, turned: np.ndarray, start: np.ndarray, iterations: int = 15
    ) -> np.ndarray:
        """Joint angles that bring the hand to a pose or near it, by damped least squares."""
        data, joints = self._scratch, start.copy()
        site = self.model.site("hand").id
        jacobian, error = np.zeros((6, self.model.nv)), np.empty(6)
        for _ in range(iterations):
            data.qpos[:6] = joints
            mujoco.mj_kinematics(self.model, data)
            mujoco.mj_comPos(self.model, data)
            error[:3] = position - data.site_xpos[site]
            now = data.site_xmat[site].reshape(3, 3)
            # Half the sum of the axes' cross products turns one frame towards the other.
            error[3:] = np.cross(now.T, turned.T).sum(axis=0) / 2
            if np.abs(error).max() < 1e-4:
                break
            mujoco.mj_jacSite(self.model, data, jacobian[:3], jacobian[3:], site)
            local = jacobian[:, :6]
            step = local.T @ np.linalg.solve(local @ local.T + 1e-4 * np.eye(6), error)
            joints = np.clip(joints + np.clip(step, -0.3, 0.3), *_LIMITS.T)
        return joints


def rotation(angles: np.ndarray) -> Float[np.ndarray, "3 3"]:
    """The rotation by roll, pitch and yaw about the fixed axes, in this order."""
    (r, p, y), cos, sin = angles, math.cos, math.sin
    about_x = np.array([[1, 0, 0], [0, cos(r), -sin(r)], [0, sin(r), cos(r)]])
    about_y = np.array([[cos(p), 0, sin(p)], [0, 1, 0], [-sin(p), 0, cos(p)]])
    about_z = np.array([[cos(y), -sin(y), 0], [sin(y), cos(y), 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def roll_pitch_yaw(turned: np.ndarray) -> Float[np.ndarray, " 3"]:
    """The angles of `rotation`, with pitch in [−π/2, π/2]."""
    roll = math.atan2(turned[2, 1], turned[2, 2])
    pitch = math.asin(min(max(-turned[2, 0], -1.0), 1.0))
    return np.array([roll, pitch, math.atan2(turned[1, 0], turned[0, 0])])
