"""The simulated tabletop: its arm, its tasks, and data of single primitives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

for _module in ("gymnasium", "mujoco", "ogbench"):
    pytest.importorskip(_module)

from farstep.analysis.tables import evaluation_cells  # noqa: E402
from farstep.cli.main import main  # noqa: E402 (after the checks above)
from farstep.collect.tabletop import EpisodeCollector, published_recipe  # noqa: E402
from farstep.collect.tabletop import _carry as carry_legs  # noqa: E402
from farstep.collect.tabletop import _drawer as drawer_legs  # noqa: E402
from farstep.core.goals import GoalRule  # noqa: E402
from farstep.data.table import open_dataset  # noqa: E402
from farstep.envs import opengl  # noqa: E402
from farstep.envs.catalog import make  # noqa: E402
from farstep.envs.tabletop import (  # noqa: E402
    DRAWER,
    FAR,
    FROM_HAND,
    MOST,
    REST,
    THINGS,
    TRAVEL,
    Arrangement,
    TabletopEnv,
    mujoco,
    roll_pitch_yaw,
    rotation,
)
from farstep.evaluation.results import Evaluation  # noqa: E402
from farstep.evaluation.rollout import evaluate  # noqa: E402


@pytest.fixture(scope="module")
def env() -> TabletopEnv:
    return TabletopEnv()


def test_the_arm_has_the_published_kinematics(env: TabletopEnv) -> None:
    """The hand's pose is the product of exponentials of the WidowX-250s' screws."""
    screws = np.array(
        [
            [0, 0, 1, 0, 0, 0],
            [0, 1, 0, -0.11065, 0, 0],
            [0, 1, 0, -0.36065, 0, 0.04975],
            [1, 0, 0, 0, 0.36065, 0],
            [0, 1, 0, -0.36065, 0, 0.29975],
            [1, 0, 0, 0, 0.36065, 0],
        ]
    )
    from scipy.linalg import expm

    data = mujoco.MjData(env.model)
    for joints in np.random.default_rng(0).uniform(-1, 1, (5, 6)):
        pose = np.eye(4)
        for (a, b, c, *linear), angle in zip(screws, joints, strict=True):
            twist = np.zeros((4, 4))
            twist[:3, :3] = [[0, -c, b], [c, 0, -a], [-b, a, 0]]
            twist[:3, 3] = linear
            pose = pose @ expm(angle * twist)
        home = np.eye(4)
        home[:3, 3] = 0.458325, 0, 0.36065
        pose = pose @ home
        data.qpos[:6] = joints
        mujoco.mj_kinematics(env.model, data)
        np.testing.assert_allclose(data.site("hand").xpos, pose[:3, 3], atol=1e-9)
        np.testing.assert_allclose(data.site("hand").xmat.reshape(3, 3), pose[:3, :3], atol=1e-9)


def test_actions_are_clipped_and_tracked_imperfectly(env: TabletopEnv) -> None:
    places = np.array([[0.25, -0.1], [0.35, -0.1], [0.25, 0.0], [0.35, 0.0]])
    env.arrange(Arrangement(places, np.zeros(4)))
    before = env.state()
    env.step(np.array([1, 0, 0, 0, 0, 1, 1]))
    one = env.state()[:6] - before[:6]
    for _ in range(3):
        env.step(np.array([0, 0, 0, 0, 0, 0, 1]))
    settled = env.state()[:6] - before[:6]
    assert 0.2 * MOST[0] < one[0] < 0.95 * MOST[0]
    assert settled[[0, 5]] == pytest.approx(MOST[[0, 5]], abs=0.005)
    assert np.abs(settled[[1, 2, 3, 4]]).max() < 0.01
    for _ in range(12):
        env.step(np.array([1, 1, 1, 0, 0, 0, 1]))
    assert (env._position <= [0.44, 0.25, 0.25]).all()
    angles = np.array([0.3, -0.4, 0.5])
    np.testing.assert_allclose(roll_pitch_yaw(rotation(angles)), angles)


def test_tasks_ask_for_their_points(env: TabletopEnv) -> None:
    columns = GoalRule.parse(",".join(map(str, range(THINGS.start, THINGS.stop))))
    for task, points in enumerate((1, 2, 3, 4, 1, 2), start=1):
        start, info = env.reset(seed=task, options={"task_id": task})
        assert (info["points"], info["progress"], info["success"]) == (points, 0, 0)
        gaps = (columns.goals(info["goal"][None]) - columns.goals(start[None]))[0]
        moved = np.linalg.norm(gaps[:-1].reshape(4, 3), axis=1) > FAR - 0.01
        assert moved.sum() == (points if task < 5 else points - 1)
        assert gaps[-1] == pytest.approx(TRAVEL * (task >= 5), abs=0.003)
        # What the goal shows is success once the hand has let go.
        again, _ = env.reset(seed=task, options={"task_id": task})
        np.testing.assert_array_equal(start, again)
    env.data.qpos[env.model.joint("drawer").qposadr[0]] = TRAVEL
    _, _, terminated, _, info = env.step(np.append(np.zeros(6), 1))
    assert (info["progress"], info["success"], terminated) == (1, 0, False)
    assert env.state()[DRAWER] > 0.09


def test_no_episode_of_the_data_holds_two_primitives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "play"
    words = ["--episodes", "4", "--processes", "1", "--out", str(out)]
    main(["data", "make", "widowx-tabletop-play", *words])
    table = open_dataset(out).train
    # Metres are to the networks what the gripper is.
    low, high = np.array(table.manifest.action_bounds)
    assert low[6] == 0
    assert high[6] == 1
    assert (high[:6] > MOST / 5).all()
    assert (high[:6] <= MOST.astype(np.float32)).all()
    from_hand = table.observations[:, THINGS][:, :12].reshape(-1, 4, 3)
    from_hand = from_hand - table.observations[:, None, :3]
    np.testing.assert_array_equal(table.observations[:, FROM_HAND], from_hand.reshape(-1, 12))
    starts = [0, *table.episode_ends[:-1] + 1]
    lengths = np.diff([*starts, table.num_steps])
    assert 15 < lengths.min() < lengths.max() <= 64
    for start, end in zip(starts, table.episode_ends, strict=True):
        things = table.observations[start : end + 1, THINGS]
        travel = np.abs(things - things[0]).max(axis=0)
        moved = [*(travel[:12].reshape(4, 3).max(axis=1) > 0.01), travel[12] > 0.01]
        assert sum(moved) == 1
        # The hand goes back, so that an episode's end is a goal as the tasks show them.
        assert np.linalg.norm(table.observations[end, :3] - REST) < 0.06
    # Where nothing can be drawn that is said before anything is begun.
    opengl.require_drawing.cache_clear()
    monkeypatch.setattr(opengl, "start_probe", lambda backend: None)
    monkeypatch.setattr(opengl, "failure", lambda probe, seconds: "no driver")
    with pytest.raises(SystemExit):
        main(["data", "render", str(out), "--out", str(tmp_path / "pictures")])
    opengl.require_drawing.cache_clear()
    assert "MuJoCo cannot draw pictures" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["play"]


def test_a_tables_actions_replay(env: TabletopEnv) -> None:
    collector = EpisodeCollector(
        "widowx-tabletop-v0", published_recipe("widowx-tabletop-v0", "play")
    )
    stored = collector.episode(np.random.default_rng(3))
    again = collector.episode(np.random.default_rng(3))
    for name, rows in stored.items():
        np.testing.assert_array_equal(rows, again[name])


@pytest.mark.usefixtures("opengl")
def test_goals_can_be_pictures() -> None:
    env = make("visual-widowx-tabletop-v0")
    picture, info = env.reset(seed=1, options={"task_id": 1})
    inner = env.unwrapped
    assert isinstance(inner, TabletopEnv)
    assert picture.shape == info["goal"].shape == (64, 64, 3)
    np.testing.assert_array_equal(inner.draw(info["qpos"]), picture)
    # Only an object and the hand differ between them.
    differs = np.abs(picture.astype(int) - info["goal"]).max(axis=2) > 30
    assert 5 < differs.sum() < 800
    env.close()


class Still:
    """Does nothing."""

    def begin(self, slots, observations, goals):
        pass

    def end(self, slots):
        pass

    def act(self, observations, goals):
        return np.zeros((len(observations), 7), np.float32)


def test_points_are_evaluated(tmp_path: Path) -> None:
    result = evaluate(
        Still(), "widowx-tabletop-v0", episodes_per_task=2, tasks=[5], max_steps=2, workers=0
    )
    (task,) = Evaluation.from_json(result.to_json()).tasks
    assert (task.mean_progress, task.progress_error, task.success_rate) == (0, 0, 0)
    assert [row[-1] for row in evaluation_cells(result)] == ["points", "0.00 ± 0.00", "0.00"]


@pytest.mark.parametrize("task", [4, 6])
def test_one_primitive_after_another_earns_every_point(env: TabletopEnv, task: int) -> None:
    """What the data show one at a time is enough for the tasks."""
    collector = EpisodeCollector(
        "widowx-tabletop-v0", replace(published_recipe("", "play"), steps=300)
    )
    collector.env = env
    _, info = env.reset(seed=task, options={"task_id": task})
    earned = []
    if task == 6:
        collector._follow(drawer_legs(env.state(), "open"), np.random.default_rng(0))
        earned.append(env._info()["progress"])
    for mover in env.movers:
        target = env.goal_state[7 + 3 * mover : 9 + 3 * mover]
        legs = carry_legs(env.state(), mover, target, task == 6)
        collector._follow(legs, np.random.default_rng(mover))
        earned.append(env._info()["progress"])
    assert earned == [*np.arange(1, info["points"] + 1)]
    assert env._info()["success"]
