"""What a walker is fed, and the ground that it walks on."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
import pytest

for _module in ("gymnasium", "ogbench"):
    pytest.importorskip(_module)

from ogbench.online_locomotion.ant import AntEnv  # noqa: E402 (after the checks above)
from ogbench.online_locomotion.humanoid import HumanoidEnv  # noqa: E402
from ogbench.online_locomotion.wrappers import (  # noqa: E402
    DMCHumanoidXYWrapper,
    GymXYWrapper,
)

from farstep.collect.walkers.bodies import BodyName, walker_body  # noqa: E402
from farstep.collect.walkers.ground import Ground, unit_direction  # noqa: E402
from farstep.core.errors import FarstepError  # noqa: E402

_mujoco: Any = mujoco

BOTH = pytest.mark.parametrize("name", ["ant", "humanoid"])


def actions(name: str, count: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (count, walker_body(name).action_size))


@BOTH
def test_turning_body_and_command_together_changes_nothing(name: BodyName) -> None:
    body = walker_body(name)
    east, north = Ground(name), Ground(name)
    east.reset(0)
    north.reset(0)
    for action in actions(name, 20):
        east.step(action)
    angle = 1.1
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    qpos, qvel = east.env.data.qpos.copy(), east.env.data.qvel.copy()
    east.env.set_state(qpos, qvel)
    quaternion = np.zeros(4)
    yaw = np.array([np.cos(angle / 2), 0, 0, np.sin(angle / 2)])
    _mujoco.mju_mulQuat(quaternion, yaw, qpos[3:7])
    qpos[:2], qpos[3:7], qvel[:2] = turn @ qpos[:2], quaternion, turn @ qvel[:2]
    north.env.set_state(qpos, qvel)
    command = np.array([0.6, 0.8])
    for action in actions(name, 3):
        ahead, one, *_ = east.step(action)
        turned, other, *_ = north.step(action)
        assert not np.allclose(ahead, turned)
        np.testing.assert_allclose(one @ command, other @ (turn @ command), atol=1e-9)
        seen = body.features(np, ahead, command)
        assert seen.shape == (body.inputs,)
        np.testing.assert_allclose(seen, body.features(np, turned, turn @ command), atol=1e-9)


def test_the_command_is_seen() -> None:
    for name in ("ant", "humanoid"):
        body = walker_body(name)
        ground = Ground(body.name)
        ground.reset(0)
        observation, *_ = ground.step(np.ones(body.action_size))
        ahead, back = (body.features(np, observation, sign * np.array([1, 0])) for sign in (1, -1))
        assert not np.allclose(ahead, back)


@BOTH
def test_the_reward_is_that_of_ogbenchs_wrapper(name: BodyName) -> None:
    """Its observations, rewards and falls too, from the same seed and actions."""
    theirs: Any = GymXYWrapper(AntEnv()) if name == "ant" else DMCHumanoidXYWrapper(HumanoidEnv())
    body, ours = walker_body(name), Ground(name)
    expected, _ = theirs.reset(seed=3)
    np.testing.assert_array_equal(ours.reset(3), expected[:-2])
    theirs.z = np.array([0.6, 0.8])
    for action in actions(name, 60):
        observation, displacement, poise, fell = ours.step(action)
        expected, reward, terminated, *_ = theirs.step(action)
        np.testing.assert_array_equal(observation, expected[:-2])
        progress = displacement @ np.array([0.6, 0.8])
        assert poise * (body.bonus + body.scale * progress) == pytest.approx(reward, rel=1e-9)
        assert fell == terminated


@BOTH
def test_a_restored_body_goes_on_bit_for_bit(name: BodyName) -> None:
    one, other = Ground(name), Ground(name)
    one.reset(0)
    other.reset(1)
    for action in actions(name, 30):
        one.step(action)
    other.restore(one.state)
    for action in actions(name, 30):
        for ours, theirs in zip(one.step(action), other.step(action), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_directions_are_of_unit_length_and_their_own() -> None:
    directions = np.array([unit_direction(0, index) for index in range(200)])
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    assert np.abs(directions.mean(axis=0)).max() < 0.2
    np.testing.assert_array_equal(unit_direction(0, 7), directions[7])


def test_unknown_bodies_are_refused() -> None:
    with pytest.raises(FarstepError, match=r"no body 'humanoit'.*humanoid"):
        walker_body("humanoit")
