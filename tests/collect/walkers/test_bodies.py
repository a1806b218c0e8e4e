"""What a walker is fed, and the ground that it walks on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import mujoco
import numpy as np
import pytest

for _module in ("gymnasium", "ogbench"):
    pytest.importorskip(_module)

from ogbench.online_locomotion.ant import AntEnv  # noqa: E402 (after the checks above)
from ogbench.online_locomotion.ant_ball import AntBallEnv  # noqa: E402
from ogbench.online_locomotion.humanoid import HumanoidEnv  # noqa: E402
from ogbench.online_locomotion.wrappers import (  # noqa: E402
    DMCHumanoidXYWrapper,
    GymXYWrapper,
)

from farstep.collect.walkers.bodies import BODIES, BodyName, walker_body  # noqa: E402
from farstep.collect.walkers.ground import Ground, unit_direction  # noqa: E402
from farstep.core.errors import FarstepError  # noqa: E402

_mujoco: Any = mujoco

ALL = pytest.mark.parametrize("name", ["ant", "humanoid", "antball"])


def actions(name: str, count: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (count, walker_body(name).action_size))


@ALL
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
    yaw = np.array([np.cos(angle / 2), 0, 0, np.sin(angle / 2)])
    # The free joints: the body's, and the ball's.
    for place, speed in ((0, 0), (15, 14)) if name == "antball" else ((0, 0),):
        quaternion = np.zeros(4)
        _mujoco.mju_mulQuat(quaternion, yaw, qpos[place + 3 : place + 7])
        qpos[place + 3 : place + 7] = quaternion
        qpos[place : place + 2] = turn @ qpos[place : place + 2]
        qvel[speed : speed + 2] = turn @ qvel[speed : speed + 2]
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
    for name in BODIES:
        body = walker_body(name)
        ground = Ground(body.name)
        ground.reset(0)
        observation, *_ = ground.step(np.ones(body.action_size))
        ahead, back = (body.features(np, observation, sign * np.array([1, 0])) for sign in (1, -1))
        assert not np.allclose(ahead, back)


@pytest.fixture
def headless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """OGBench's ant with a ball opens a window and leaves a file behind."""
    monkeypatch.setattr("gymnasium.envs.mujoco.mujoco_rendering.MujocoRenderer", MagicMock())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


THEIRS: dict[str, Callable[[], Any]] = {
    "ant": lambda: GymXYWrapper(AntEnv()),
    "humanoid": lambda: DMCHumanoidXYWrapper(HumanoidEnv()),
    "antball": AntBallEnv,
}


@ALL
@pytest.mark.usefixtures("headless")
def test_the_reward_is_that_of_ogbenchs_environment(name: BodyName) -> None:
    """Its observations, rewards and falls too, from the same seed and actions."""
    theirs = THEIRS[name]()
    body, ours = walker_body(name), Ground(name)
    expected, _ = theirs.reset(seed=3)
    observation = ours.reset(3)
    if name == "antball":
        theirs.set_state(ours.env.data.qpos, ours.env.data.qvel)
        expected = theirs._get_obs()
        command = np.array([0.6, 0.8])
        theirs.set_goal(theirs.get_agent_ball_xy()[1] + command)
    else:
        theirs.z = command = np.array([0.6, 0.8])
    np.testing.assert_array_equal(observation, expected[:-2])
    for action in actions(name, 60):
        following, displacement, poise, fell = ours.step(action)
        expected, reward, terminated, *_ = theirs.step(action)
        np.testing.assert_array_equal(following, expected[:-2])
        own = body.reward(np, observation, following, command, displacement, poise)
        assert own == pytest.approx(reward, rel=1e-9, abs=1e-12)
        assert fell == terminated
        observation, command = following, body.following(command, displacement)
        np.testing.assert_allclose(command, expected[-2:], atol=1e-12)


def test_balls_and_goals_lie_where_ogbench_places_them() -> None:
    """Within a metre, two metres and twelve of the origin, along each axis."""
    ground = Ground("antball")
    ants, balls, goals = [], [], []
    for seed in range(200):
        ground.reset(seed)
        qpos = ground.env.data.qpos
        ants.append(qpos[:2].copy())
        balls.append(qpos[-7:-5].copy())
        goals.append(ground.command(0, seed) + balls[-1])
    for places, box in ((ants, 1), (balls, 2), (goals, 12)):
        assert 0.95 * box < np.abs(places).max() < box
        assert np.abs(np.mean(places, axis=0)).max() < 0.2 * box


@ALL
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
