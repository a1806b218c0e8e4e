"""Every environment keeps one contract: ours, OGBench's, and one that a user has written."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for _module in ("gymnasium", "mujoco", "ogbench"):
    pytest.importorskip(_module)

from farstep.cli.main import main  # noqa: E402 (after the checks above)
from farstep.core.errors import FarstepError  # noqa: E402
from farstep.envs import (  # noqa: E402
    EnvironmentPool,
    EnvironmentSpec,
    environment,
    make,
    register_environment,
)
from farstep.evaluation.results import Evaluation  # noqa: E402
from farstep.evaluation.rollout import evaluate  # noqa: E402

USERS = '''
"""A square room, as a user of Gymnasium's goal environments writes one."""

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict

from farstep.envs import EnvironmentSpec

CORNERS = {"near": (0.5, 0.5), "far": (-1.5, 1.5)}


class Room(gymnasium.Env):
    def __init__(self, size=2.0):
        place = Box(-size, size, (2,), np.float64)
        self.size = size
        self.observation_space = Dict(observation=place, achieved_goal=place, desired_goal=place)
        self.action_space = Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-0.1, 0.1, 2)
        corner = (options or {}).get("corner") or self.np_random.choice(list(CORNERS))
        self.goal = np.array(CORNERS[corner])
        return self._observe(), {}

    def step(self, action):
        self.place = np.clip(self.place + 0.1 * action, -self.size, self.size)
        reached = np.linalg.norm(self.place - self.goal) < 0.2
        return self._observe(), 0.0, bool(reached), False, {"is_success": np.float32(reached)}

    def render(self):
        picture = np.zeros((16, 16, 3), np.uint8)
        x, y = ((self.place + self.size) / (2 * self.size) * 15).astype(int)
        picture[y, x] = 255
        return picture

    def _observe(self):
        return {"observation": self.place, "achieved_goal": self.place, "desired_goal": self.goal}


spec = EnvironmentSpec(
    name="room",
    entry_point="users_room:Room",
    max_episode_steps=30,
    tasks=({"corner": "near"}, {"corner": "far"}),
    observation_key="observation",
    goal_key="desired_goal",
    success_key="is_success",
    position=(0, 1),
    goal_position=(0, 1),
)


def made():
    return spec
'''

NAMES = ["pointmaze-medium-v0", "cube-single-v0", "widowx-tabletop-v0", "users_room:spec"]


@pytest.fixture(autouse=True)
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's working directory, which Python does not look in by itself."""
    (tmp_path / "users_room.py").write_text(USERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    sys.modules.pop("users_room", None)
    importlib.invalidate_caches()
    return tmp_path


class Straight:
    """Heads for the goal by the first numbers of both."""

    def begin(self, slots, observations, goals):
        pass

    def end(self, slots):
        pass

    def act(self, observations, goals):
        actions = np.zeros((len(observations), self.size), np.float32)
        actions[:, :2] = 5 * (goals - observations)[:, :2]
        return actions

    def __init__(self, size: int):
        self.size = size


def trail(env: Any, seed: int, task: int, steps: int = 5) -> np.ndarray:
    """Goal and observations of an episode of random actions."""
    observation, info = env.reset(seed=seed, options={"task_id": task})
    seen = [info["goal"], observation]
    actions = np.random.default_rng(seed).uniform(-1, 1, (steps, *env.action_space.shape))
    for action in actions.astype(np.float32):
        observation, _, _, _, info = env.step(action)
        assert bool(info["success"]) in (True, False)
        seen.append(observation)
    return np.stack(seen).astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_an_environment_keeps_the_contract(name: str) -> None:
    spec = environment(name)
    assert spec.name == name
    assert (
        EnvironmentSpec.from_json(json.loads(json.dumps(asdict(spec)))).num_tasks == spec.num_tasks
    )
    env = make(spec)
    # An episode follows from its seed and its task alone.
    first = trail(env, 3, 1)
    assert not np.array_equal(first, trail(env, 4, 2))
    np.testing.assert_array_equal(first, trail(env, 3, 1))
    # In a worker process it is the same.
    with EnvironmentPool(spec, 2, 1, renders=False) as pool:
        observations, goals = pool.reset([1, 0], [3, 4], [1, 2])
        assert observations.shape == (2, *pool.observation_shape)
        assert goals.shape == (2, *pool.goal_shape)
        np.testing.assert_array_equal([goals[0], observations[0]], first[:2])
        actions = np.random.default_rng(3).uniform(-1, 1, (5, *pool.action_shape))
        for action, expected in zip(actions.astype(np.float32), first[2:], strict=True):
            observations, *flags = pool.step(action[None], [1])
            np.testing.assert_array_equal(observations[0], expected)
            assert all(flag.dtype == bool for flag in flags)
    # It is cut where the specification says, and evaluated task by task.
    size = pool.action_shape[0]
    result = evaluate(
        Straight(size), spec, episodes_per_task=1, tasks=[1, 2], max_steps=12, workers=0, slots=2
    )
    assert [episode.task for episode in result.episodes] == [1, 2]
    assert all(episode.steps <= 12 for episode in result.episodes)
    assert all((e.final_distance is not None) == bool(spec.position) for e in result.episodes)
    with pytest.raises(FarstepError, match=f"tasks 1 to {spec.num_tasks}, not"):
        evaluate(Straight(size), spec, tasks=[9])


def test_tasks_of_a_users_environment_are_its_options_of_reset() -> None:
    near, far = evaluate(Straight(2), "users_room:spec", episodes_per_task=2, workers=2).tasks
    assert (near.success_rate, far.success_rate) == (1, 1)
    assert near.mean_steps < far.mean_steps
    assert near.mean_final_distance is not None
    assert near.mean_final_distance < 0.2


def test_a_name_is_a_registered_one_or_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farstep.envs.catalog._REGISTERED", {})
    register_environment(replace(environment("users_room:spec"), name="my-room"))
    assert environment("my-room").entry_point == "users_room:Room"
    with pytest.raises(FarstepError, match="is a published environment"):
        register_environment(environment("cube-single-v0"))

    def entry_points(*, group: str) -> list[metadata.EntryPoint]:
        assert group == "farstep.environments"
        return [metadata.EntryPoint("installed-room", "users_room:made", group)]

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    assert environment("installed-room").name == "installed-room"
    with pytest.raises(FarstepError, match="Did you mean 'installed-room'"):
        environment("instaled-room")


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("users_rom:spec", "cannot import 'users_rom:spec', the environment"),
        ("users_room:spek", "users_room has no 'spek'.* Did you mean 'spec'"),
        ("users_room:CORNERS", "must be a farstep.envs.EnvironmentSpec"),
    ],
)
def test_a_reference_that_leads_nowhere_is_explained(name: str, complaint: str) -> None:
    with pytest.raises(FarstepError, match=complaint):
        environment(name)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"success_key": "success"}, "`info` have no 'success'.*is_success"),
        ({"goal_key": "goal"}, "observations have no 'goal'.*desired_goal"),
        ({"observation_key": None}, "by observation_key where both lie in one dict"),
        ({"entry_point": "users_room:Roam"}, "users_room has no 'Roam'. Did you mean 'Room'"),
    ],
)
def test_a_specification_that_does_not_fit_is_explained(
    change: dict[str, Any], complaint: str
) -> None:
    spec = replace(environment("users_room:spec"), **change)
    with pytest.raises(FarstepError, match=complaint):
        evaluate(Straight(2), spec, episodes_per_task=1, workers=0)


def test_what_a_worker_could_not_be_told_is_refused() -> None:
    with pytest.raises(FarstepError, match="must be JSON values"):
        EnvironmentSpec(name="x", entry_point="a:b", max_episode_steps=1, kwargs={"f": print})


def test_a_users_environment_from_data_to_video(
    users: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the command line, from a directory that only the shell knows."""
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (200, 2)).astype(np.float32)
    ends = np.zeros(200, bool)
    ends[19::20] = True
    places = np.concatenate([np.cumsum(part, 0) / 10 for part in np.split(actions, 10)])
    np.savez(users / "walks.npz", observations=places.astype("f"), actions=actions, terminals=ends)
    main(["data", "import", "walks.npz", "--environment", "users_room:spec"])
    small = ["--hidden", "8", "--batch-size", "4", "--steps", "2", "--evaluation-episodes", "1"]
    main(["train", "walks", "--agent", "gcbc", *small, "--out", "run"])
    (record,) = map(json.loads, (users / "run" / "eval.jsonl").read_text().splitlines())
    assert (record["max_steps"], "task2/success" in record) == (30, True)
    words = "eval run --episodes 1 --slots 2 --video videos --video-format gif --out eval.json"
    with monkeypatch.context() as patch:
        # Pictures of this room need no OpenGL.
        patch.setattr("farstep.cli.evaluate.require_drawing", lambda: None)
        main(words.split())
    result = Evaluation.load(users / "eval.json")
    assert result.protocol["environment"] == "users_room:spec"
    assert len(result.episodes) == 2
    videos = sorted((users / "videos").iterdir())
    assert [video.read_bytes()[:4] for video in videos] == [b"GIF8"] * 2
