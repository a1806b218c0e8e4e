"""The mazes against OGBench's own, and the randomness that is theirs alone."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")
pytest.importorskip("mujoco")
pytest.importorskip("ogbench")

from ogbench.locomaze.maze import make_maze_env  # noqa: E402 (after the checks above)

from farstep.core.errors import FarstepError  # noqa: E402
from farstep.envs.locomaze import MazeEnv  # noqa: E402
from farstep.envs.mazes import PUBLISHED, MazeMap  # noqa: E402

GLOBAL: Any = np.random
"""NumPy's global generator, from which OGBench draws."""

OGBENCH_MAPS = ("arena", "medium", "large", "giant", "teleport")
HUMANOID_MAPS = OGBENCH_MAPS[:-1]
"""OGBench's humanoid lacks a material that its teleport map asks for, and cannot be built there."""

PIXELS: dict[str, Any] = {
    "ob_type": "pixels",
    "width": 64,
    "height": 64,
    "camera_name": "back",
}


class GlobalDraws:
    """Draws what OGBench draws from NumPy's global generator seeded with `seed`."""

    def __init__(self, seed: int):
        self._state = GLOBAL.RandomState(seed)

    def uniform(self, low: float, high: float) -> float:
        return self._state.uniform(low, high)

    def integers(self, *bounds: int) -> int:
        return int(self._state.randint(*bounds))


def pair(monkeypatch: pytest.MonkeyPatch, body: Any, name: str, **kwargs: Any) -> tuple[Any, Any]:
    """OGBench's environment and ours, with the same draws after `reset(seed=...)`."""
    theirs = make_maze_env(body, "maze", maze_type=name, terminate_at_goal=False, **kwargs)
    Path(theirs.fullpath).unlink()
    ours = MazeEnv(body, PUBLISHED[name], terminate_at_goal=False, **kwargs)
    their_reset = theirs.reset

    def seeded_reset(seed: int, options: dict[str, Any]) -> Any:
        theirs.action_space.seed(seed)
        GLOBAL.seed(seed)
        return their_reset(seed=seed, options=options)

    def matched(seed: int) -> None:
        monkeypatch.setattr(ours, "_np_random", GlobalDraws(seed))
        ours._stabilising_actions.seed(seed)

    monkeypatch.setattr(theirs, "reset", seeded_reset)
    monkeypatch.setattr(ours, "_reseed", matched)
    return theirs, ours


def assert_same_episode(
    theirs: Any, ours: Any, seed: int, task: int | None, steps: int, render: bool
) -> None:
    options: dict[str, Any] = {"render_goal": render} | ({} if task is None else {"task_id": task})
    state = GLOBAL.get_state()
    try:
        expected, expected_info = theirs.reset(seed=seed, options=options)
        observed, info = ours.reset(seed=seed, options=options)
        np.testing.assert_array_equal(observed, expected)
        np.testing.assert_array_equal(info["goal"], expected_info["goal"])
        np.testing.assert_array_equal(ours.goal_xy, theirs.cur_goal_xy)
        if render:
            np.testing.assert_array_equal(info["goal_rendered"], expected_info["goal_rendered"])
        actions = np.random.default_rng(seed).uniform(-1, 1, (steps, *ours.action_space.shape))
        for action in actions.astype(np.float32):
            expected = theirs.step(action)
            observed = ours.step(action)
            np.testing.assert_array_equal(observed[0], expected[0])
            assert observed[1:4] == expected[1:4]
            assert observed[4]["success"] == expected[4]["success"]
            np.testing.assert_array_equal(ours.data.qpos, theirs.data.qpos)
            np.testing.assert_array_equal(ours.data.qvel, theirs.data.qvel)
        if render:
            np.testing.assert_array_equal(ours.render(), theirs.render())
    finally:
        GLOBAL.set_state(state)


def check_all_tasks(
    monkeypatch: pytest.MonkeyPatch, body: Any, name: str, steps: int, **kwargs: Any
) -> None:
    theirs, ours = pair(monkeypatch, body, name, **kwargs)
    try:
        assert ours.observation_space == theirs.observation_space
        assert ours.action_space == theirs.action_space
        for task in (None, *range(1, len(ours.maze.tasks) + 1)):
            assert_same_episode(
                theirs, ours, seed=7 + (task or 0), task=task, steps=steps, render=False
            )
    finally:
        ours.close()
        theirs.close()


@pytest.mark.parametrize("name", OGBENCH_MAPS)
@pytest.mark.parametrize("body", ["point", "ant"])
def test_states_are_ogbenchs_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch, body: str, name: str
) -> None:
    check_all_tasks(monkeypatch, body, name, steps=30)


@pytest.mark.slow
@pytest.mark.parametrize("name", HUMANOID_MAPS)
def test_humanoid_states_are_ogbenchs_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    check_all_tasks(monkeypatch, "humanoid", name, steps=30)


def test_humanoid_state_is_ogbenchs_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours = pair(monkeypatch, "humanoid", "medium")
    assert_same_episode(theirs, ours, seed=3, task=2, steps=10, render=False)


@pytest.mark.parametrize(("body", "name"), [("ant", "teleport"), ("humanoid", "medium")])
def test_pixels_are_ogbenchs(
    monkeypatch: pytest.MonkeyPatch, opengl: None, body: str, name: str
) -> None:
    theirs, ours = pair(monkeypatch, body, name, **PIXELS)
    try:
        assert ours.observation_space == theirs.observation_space
        assert_same_episode(theirs, ours, seed=5, task=1, steps=2, render=True)
    finally:
        ours.close()
        theirs.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "name"),
    [*(("ant", name) for name in OGBENCH_MAPS), *(("humanoid", name) for name in HUMANOID_MAPS)],
)
def test_all_pixels_are_ogbenchs(
    monkeypatch: pytest.MonkeyPatch, opengl: None, body: str, name: str
) -> None:
    check_all_tasks(monkeypatch, body, name, steps=10, **PIXELS)


@pytest.mark.parametrize("body", ["point", "ant"])
def test_the_view_from_above_is_ogbenchs(
    monkeypatch: pytest.MonkeyPatch, opengl: None, body: str
) -> None:
    theirs, ours = pair(monkeypatch, body, "teleport", width=48, height=48)
    assert_same_episode(theirs, ours, seed=1, task=2, steps=1, render=True)
    ours.close()


def test_teleports_are_ogbenchs(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours = pair(monkeypatch, "point", "teleport")
    state = GLOBAL.get_state()
    exits = set()
    try:
        theirs.reset(seed=0, options={"task_id": 1})
        ours.reset(seed=0, options={"task_id": 1})
        for _ in range(12):
            for entrance in ours.maze.teleport_in:
                start = np.array(ours.maze.ij_to_xy(entrance)) + 0.5
                theirs.set_xy(start)
                ours.body.set_xy(start)
                still = np.zeros(2, np.float32)
                expected, observed = theirs.step(still), ours.step(still)
                np.testing.assert_array_equal(observed[0], expected[0])
                np.testing.assert_array_equal(ours.xy, theirs.get_xy())
                exits.add(ours.maze.xy_to_ij(ours.xy))
    finally:
        GLOBAL.set_state(state)
    assert exits == set(ours.maze.teleport_out)


def test_the_humanoid_can_be_teleported_too() -> None:
    env = MazeEnv("humanoid", PUBLISHED["teleport"])
    env.reset(seed=0, options={"task_id": 1})
    env.body.set_xy(np.array(env.maze.ij_to_xy(env.maze.teleport_in[0])))
    env.step(np.zeros(21, np.float32))
    assert env.maze.xy_to_ij(env.xy) in env.maze.teleport_out


def rollout(env: MazeEnv, seed: int, steps: int = 20) -> list[np.ndarray]:
    observation, info = env.reset(seed=seed)
    trail = [observation, info["goal"]]
    for _ in range(steps):
        trail.append(env.step(np.full(env.action_space.shape or (), 0.7, np.float32))[0])
    return trail


@pytest.mark.parametrize("share_model", [False, True])
def test_an_episode_follows_from_its_seed_alone(share_model: bool) -> None:
    env = MazeEnv("ant", PUBLISHED["teleport"], share_model=share_model)
    first = rollout(env, seed=4)
    other = rollout(env, seed=5)
    env.action_space.seed(99)
    env.action_space.sample()
    again = rollout(MazeEnv("ant", PUBLISHED["teleport"], share_model=True), seed=4)
    np.testing.assert_array_equal(first, rollout(env, seed=4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], other[0])


def test_placement_and_body_noise_are_independent() -> None:
    """Streams of the same seed would place every body by its own joint noise."""
    env = MazeEnv("point", PUBLISHED["medium"])
    shifts, noises = [], []
    for seed in range(200):
        observation, _ = env.reset(seed=seed, options={"task_id": 1})
        shifts.append(observation)
        noises.append(env.data.qvel.copy())
    correlations = np.corrcoef(np.concatenate([shifts, noises], axis=1).T)[:2, 2:]
    assert np.abs(correlations).max() < 0.25
    assert np.abs(shifts).max() <= 1.0


def test_neither_the_global_generator_nor_the_disk_is_touched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = GLOBAL.get_state()[1]
    rollout(MazeEnv("point", PUBLISHED["teleport"]), seed=0)
    np.testing.assert_array_equal(before, GLOBAL.get_state()[1])
    assert list(tmp_path.iterdir()) == []


def test_environments_that_share_a_model_do_not_see_each_others_goals(opengl: None) -> None:
    alone = MazeEnv("point", PUBLISHED["medium"], width=48, height=48)
    shared = [
        MazeEnv("point", PUBLISHED["medium"], width=48, height=48, share_model=True)
        for _ in range(2)
    ]
    assert shared[0].model is shared[1].model is not alone.model
    alone.reset(seed=0, options={"task_id": 1})
    for task, env in enumerate(shared, start=1):
        env.reset(seed=0, options={"task_id": task})
    np.testing.assert_array_equal(shared[0].render(), alone.render())
    assert not np.array_equal(shared[1].render(), alone.render())


def test_success_ends_the_episode_at_the_goal_unless_told_otherwise() -> None:
    for terminate in (True, False):
        env = MazeEnv("point", PUBLISHED["medium"], terminate_at_goal=terminate)
        env.reset(seed=0, options={"task_id": 1})
        env.body.set_xy(env.goal_xy)
        _, reward, terminated, _, info = env.step(np.zeros(2, np.float32))
        assert (reward, info["success"], terminated) == (1.0, 1.0, terminate)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"body": "pont"}, "unknown body 'pont'. Did you mean 'point'"),
        ({"ob_type": "pixel"}, "unknown ob_type 'pixel'"),
        ({"ob_type": "pixels"}, "the point mass has no camera"),
        ({"body": "ant", "camera_name": "bakc"}, "no camera 'bakc'. Did you mean 'back'"),
    ],
)
def test_bad_arguments_are_explained(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(FarstepError) as caught:
        MazeEnv(**({"body": "point", "maze": PUBLISHED["arena"]} | arguments))
    assert complaint in str(caught.value)


def test_tasks_that_do_not_exist_are_explained() -> None:
    env = MazeEnv("point", PUBLISHED["medium"])
    with pytest.raises(FarstepError, match="has tasks 1 to 5, not 6"):
        env.reset(options={"task_id": 6})
    bare = MazeEnv("point", MazeMap.from_text("####\n#..#\n####", "bare"))
    with pytest.raises(FarstepError, match="maze 'bare' has no tasks"):
        bare.reset()
    observation, _ = bare.reset(options={"task_info": {"init_ij": (1, 2), "goal_ij": (1, 1)}})
    assert bare.maze.xy_to_ij(observation) == (1, 2)
