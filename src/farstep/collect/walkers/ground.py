"""Bodies on open ground that are told where to go: OGBench's environments for online training."""

from __future__ import annotations

import importlib
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
from jaxtyping import Float

from farstep.collect.walkers.bodies import BodyName
from farstep.core.seeds import stream

GOAL_BOX = 12.0
"""The ball's goals lie within this of the origin along x and y, in metres."""


class Ground:
    """One body, stepped by actions.

    Everything that it does follows from `reset`'s seed and the actions; `state` and `restore` put
    it back to where it was, bit for bit.

    Attributes:
        env: OGBench's environment.
    """

    def __init__(self, body: BodyName):
        mujoco = importlib.import_module("mujoco")
        self._mujoco: Any = mujoco
        self.env: Any = _environment(body)
        self._body = body
        # What is commanded: the body, or the ball.
        self._mover = slice(-7, -5) if body == "antball" else slice(0, 2)
        self._kind = mujoco.mjtState.mjSTATE_INTEGRATION
        self._size = mujoco.mj_stateSize(self.env.model, self._kind)

    def reset(self, seed: int) -> Float[np.ndarray, " observation"]:
        """Begin an episode."""
        observation, _ = self.env.reset(seed=seed)
        if self._body == "antball":
            generator = stream(seed, "walker/placement")
            qpos = self.env.data.qpos.copy()
            qpos[:2] = generator.uniform(-1, 1, 2)
            qpos[-7:-5] = generator.uniform(-2, 2, 2)
            self.env.set_state(qpos, self.env.data.qvel.copy())
            observation = self._observation()
        return observation

    def command(self, seed: int, *indices: int) -> Float[np.ndarray, "2"]:
        """A random direction, or the way of the ball to a random goal."""
        if self._body != "antball":
            return unit_direction(seed, *indices)
        goal = stream(seed, "walker/goal", *indices).uniform(-GOAL_BOX, GOAL_BOX, 2)
        return goal - self.env.data.qpos[self._mover]

    def step(
        self, action: Float[np.ndarray, " action"]
    ) -> tuple[Float[np.ndarray, " observation"], Float[np.ndarray, "2"], float, bool]:
        """The observation, the displacement of what is commanded in metres, the poise, and whether
        the body fell."""
        env, data = self.env, self.env.data
        before = data.qpos[self._mover].copy()
        env.do_simulation(action, env.frame_skip)
        observation = self._observation()
        displacement = data.qpos[self._mover] - before
        if self._body == "humanoid":
            return observation, displacement, _poise(data.xpos[2, 2], data.xmat[1, 8]), False
        low, high = env._healthy_z_range
        fell = not (low <= observation[0] <= high and np.isfinite(observation).all())
        return observation, displacement, 1.0, fell

    @property
    def upright(self) -> bool:
        """Whether the body is on its feet: the ant not on its back, the humanoid's head up."""
        data = self.env.data
        if self._body == "humanoid":
            return bool(data.xpos[2, 2] > 1.0)
        return bool(data.xmat[1, 8] > 0)

    @property
    def state(self) -> Float[np.ndarray, " state"]:
        """All that the next step depends on."""
        vector = np.empty(self._size)
        self._mujoco.mj_getState(self.env.model, self.env.data, vector, self._kind)
        return vector

    def restore(self, state: Float[np.ndarray, " state"]) -> None:
        """Go back to `state`."""
        self._mujoco.mj_setState(self.env.model, self.env.data, state, self._kind)
        # dm_control's bodies begin a step with the second half of MuJoCo's.
        self._mujoco.mj_step1(self.env.model, self.env.data)

    def _observation(self) -> Float[np.ndarray, " observation"]:
        if self._body != "antball":
            return self.env._get_obs()
        qpos, qvel = self.env.data.qpos, self.env.data.qvel
        return np.concatenate([qpos[2:-7], qpos[-5:], qvel, qpos[-7:-5] - qpos[:2]])


def _environment(body: BodyName) -> Any:
    """OGBench's environment; of the ant with a ball only what needs no window."""
    if body == "humanoid":
        return importlib.import_module("ogbench.online_locomotion.humanoid").HumanoidEnv()
    ant = importlib.import_module("ogbench.online_locomotion.ant").AntEnv
    if body == "ant":
        return ant()
    from farstep.envs.locomaze import body_with_model

    root = ET.parse(ant.xml_file).getroot()
    world = root.find("worldbody")
    assert world is not None
    ball = ET.SubElement(world, "body", name="ball", pos="0 0 3")
    ET.SubElement(ball, "freejoint", name="ball_root")
    ET.SubElement(
        ball,
        "geom",
        name="ball",
        size=".25",
        material="ball",
        priority="1",
        condim="6",
        conaffinity="1",
    )
    text = ET.tostring(root, encoding="unicode")
    return body_with_model(ant, importlib.import_module("mujoco").MjModel.from_xml_string(text))


def _poise(head: float, upwards: float) -> float:
    """How well a humanoid stands (`stand_reward` of OGBench's wrapper)."""
    standing = 1.0 if head >= 1.4 else 10.0 ** -(((1.4 - head) / 0.35) ** 2)
    upright = 1.0 if upwards >= 0.9 else max(0.0, 1 - (0.9 - upwards) / 1.9)
    return standing * upright


def unit_direction(seed: int, *indices: int) -> Float[np.ndarray, "2"]:
    """A uniform direction, told apart from others by `indices`."""
    angle = stream(seed, "walker/direction", *indices).uniform(-np.pi, np.pi)
    return np.array([np.cos(angle), np.sin(angle)])
