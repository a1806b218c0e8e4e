"""Bodies on open ground that are told where to walk: OGBench's environments for online training."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from jaxtyping import Float

from farstep.collect.walkers.bodies import BodyName
from farstep.envs.seeds import stream

EPISODE_STEPS = 1000
"""Steps after which an episode is cut."""


class Ground:
    """One body, stepped by actions.

    Everything that it does follows from `reset`'s seed and the actions; `state` and `restore` put
    it back to where it was, bit for bit.

    Attributes:
        env: OGBench's environment.
    """

    def __init__(self, body: BodyName):
        mujoco = importlib.import_module("mujoco")
        module = importlib.import_module(f"ogbench.online_locomotion.{body}")
        self._mujoco: Any = mujoco
        self.env: Any = getattr(module, {"ant": "AntEnv", "humanoid": "HumanoidEnv"}[body])()
        self._body = body
        self._kind = mujoco.mjtState.mjSTATE_INTEGRATION
        self._size = mujoco.mj_stateSize(self.env.model, self._kind)

    def reset(self, seed: int) -> Float[np.ndarray, " observation"]:
        """Begin an episode."""
        observation, _ = self.env.reset(seed=seed)
        return observation

    def step(
        self, action: Float[np.ndarray, " action"]
    ) -> tuple[Float[np.ndarray, " observation"], Float[np.ndarray, "2"], float, bool]:
        """The observation, the displacement in metres, the poise, and whether the body fell."""
        env, data = self.env, self.env.data
        before = data.qpos[:2].copy()
        env.do_simulation(action, env.frame_skip)
        observation = env._get_obs()
        displacement = data.qpos[:2] - before
        if self._body == "ant":
            low, high = env._healthy_z_range
            fell = not (low <= observation[0] <= high and np.isfinite(observation).all())
            return observation, displacement, 1.0, fell
        return observation, displacement, _poise(data.xpos[2, 2], data.xmat[1, 8]), False

    @property
    def upright(self) -> bool:
        """Whether the body is on its feet: the ant not on its back, the humanoid's head up."""
        data = self.env.data
        if self._body == "ant":
            return bool(data.xmat[1, 8] > 0)
        return bool(data.xpos[2, 2] > 1.0)

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


def _poise(head: float, upwards: float) -> float:
    """How well a humanoid stands (`stand_reward` of OGBench's wrapper)."""
    standing = 1.0 if head >= 1.4 else 10.0 ** -(((1.4 - head) / 0.35) ** 2)
    upright = 1.0 if upwards >= 0.9 else max(0.0, 1 - (0.9 - upwards) / 1.9)
    return standing * upright


def unit_direction(seed: int, *indices: int) -> Float[np.ndarray, "2"]:
    """A uniform direction, told apart from others by `indices`."""
    angle = stream(seed, "walker/direction", *indices).uniform(-np.pi, np.pi)
    return np.array([np.cos(angle), np.sin(angle)])
