"""Many environments at once: the same episodes however they are spread."""

from __future__ import annotations

import errno
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for _module in ("gymnasium", "mujoco", "ogbench"):
    pytest.importorskip(_module)

from farstep.core.errors import FarstepError  # noqa: E402 (after the checks above)
from farstep.envs import MazeMap, make, own_maze  # noqa: E402
from farstep.envs.pool import EnvironmentPool  # noqa: E402
from farstep.envs.processes import Worker  # noqa: E402

ROOMS = own_maze(
    "pointmaze",
    MazeMap.from_text(
        "######\n#....#\n#.##.#\n#....#\n######\ntask (1, 1) -> (3, 4)\ntask (3, 1) -> (1, 1)",
        "rooms",
    ),
)
EPISODES = [(seed, 1 + seed % 5) for seed in range(6)]
"""Seed and task of each episode."""


def actions_of(seed: int, steps: int, size: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (steps, size)).astype(np.float32)


def single(name: str, seed: int, task: int, steps: int) -> np.ndarray:
    """One episode in an environment of its own: goal, then observations."""
    env = make(name)
    observation, info = env.reset(seed=seed, options={"task_id": task})
    trail = [info["goal"], observation]
    (size,) = env.action_space.sample().shape
    trail += [env.step(action)[0] for action in actions_of(seed, steps, size)]
    env.close()
    return np.stack(trail).astype(np.float32)


@pytest.mark.parametrize(("slots", "workers"), [(6, 0), (4, 1), (5, 2), (6, 3)])
def test_episodes_do_not_depend_on_workers_and_slots(slots: int, workers: int) -> None:
    """As in an evaluation: some slots finish, others go on, new episodes take the free ones."""
    steps = 8
    name = "pointmaze-teleport-v0"
    trails: dict[int, list[np.ndarray]] = {}
    with EnvironmentPool(name, slots, workers) as envs:
        assert envs.observation_shape == (2,)
        assert envs.observation_dtype == np.float32
        assert envs.action_shape == (2,)
        waiting = list(EPISODES)
        running: dict[int, int] = {}
        while waiting or running:
            free = [slot for slot in reversed(range(slots)) if slot not in running]
            starting = free[: len(waiting)]
            if starting:
                episodes = [waiting.pop(0) for _ in starting]
                observations, goals = envs.reset(starting, *zip(*episodes, strict=True))
                for slot, (seed, _), first, goal in zip(
                    starting, episodes, observations, goals, strict=True
                ):
                    running[slot] = seed
                    trails[seed] = [goal, first]
            active = np.array(list(running))
            batch = np.stack(
                [actions_of(seed, steps, 2)[len(trails[seed]) - 2] for seed in running.values()]
            )
            observations, *_ = envs.step(batch, active)
            for slot, observation in zip(active.tolist(), observations, strict=True):
                trails[running[slot]].append(observation)
                if len(trails[running[slot]]) == steps + 2:
                    del running[slot]
    for seed, task in EPISODES:
        np.testing.assert_array_equal(trails[seed], single(name, seed, task, steps))


def test_cube_and_ant_episodes_are_those_of_a_single_environment() -> None:
    for name, size in (("antmaze-medium-v0", 8), ("cube-single-v0", 5)):
        with EnvironmentPool(name, 1, 1) as envs:
            observations, goals = envs.reset([0], [11], [2])
            trail = [goals[0], observations[0]]
            trail += [envs.step(action[None], [0])[0][0] for action in actions_of(11, 4, size)]
        np.testing.assert_array_equal(trail, single(name, 11, 2, 4))


@pytest.mark.parametrize(
    "name", ["cube-double-v0", pytest.param("scene-v0", marks=pytest.mark.slow), "puzzle-3x3-v0"]
)
def test_manipulation_that_shares_models_acts_as_one_that_does_not(name: str) -> None:
    seeds, tasks = (11, 12, 13), (1, 4, 2)
    with EnvironmentPool(name, 3, 0, renders=False) as envs:
        order, trails = [], []
        for order in ([2, 0], [1, 2, 0]):  # slot 2 gets a second episode
            first = envs.reset(order, [seeds[i] for i in order], [tasks[i] for i in order])
            trails = [list(pair) for pair in zip(*reversed(first), strict=True)]
            for actions in zip(*(actions_of(seeds[i], 6, 5) for i in order), strict=True):
                observations, *_ = envs.step(np.stack(actions), order)
                for trail, observation in zip(trails, observations, strict=True):
                    trail.append(observation)
        with pytest.raises(FarstepError, match="renders"):
            envs.render(0)
    for slot, trail in zip(order, trails, strict=True):
        np.testing.assert_array_equal(trail, single(name, seeds[slot], tasks[slot], 6))


def test_flags_extras_and_frames_are_those_of_the_slot() -> None:
    with EnvironmentPool(
        ROOMS, 3, 2, extras=("xy",), max_episode_steps=5, width=16, height=24
    ) as envs:
        observations, goals = envs.reset([0, 1, 2], [0, 1, 2], [1, 2, 1])
        np.testing.assert_allclose(envs.extras["xy"], observations, rtol=1e-6)
        towards = np.sign(goals[[1]] - observations[[1]])
        for _ in range(4):
            _, *flags = envs.step(towards, [1])
            assert [flag.dtype for flag in flags] == [np.dtype(bool)] * 3
            assert not flags[2].any()
        _, _, _, truncated = envs.step(np.zeros((3, 2), np.float32), [0, 1, 2])
        assert truncated.tolist() == [False, True, False]
        np.testing.assert_array_equal(envs.extras["xy"].shape, (3, 2))


def test_success_is_reported_by_slot() -> None:
    with EnvironmentPool(ROOMS, 2, 0) as envs:
        observations, goals = envs.reset([0, 1], [5, 5], [2, 2])
        reached = np.zeros(2, bool)
        for _ in range(60):
            # Slot 0 walks up the left column to its goal; slot 1 stays.
            heading = np.clip((goals - observations) * 5, -1, 1).astype(np.float32)
            heading[1] = 0
            observations, success, terminated, _ = envs.step(heading, [0, 1])
            np.testing.assert_array_equal(success, terminated)
            reached |= success
            if reached[0]:
                break
        assert reached.tolist() == [True, False]


def test_frames_come_through_the_worker() -> None:
    frames = []
    for workers in (0, 1):
        with EnvironmentPool(ROOMS, 2, workers, width=24, height=16) as envs:
            envs.reset([1], [0], [1])
            try:
                frames.append(envs.render(1))
            except FarstepError as error:
                pytest.skip(f"no OpenGL for MuJoCo on this machine: {error}")
    assert frames[0].shape == (16, 24, 3)
    assert frames[0].dtype == np.uint8
    np.testing.assert_array_equal(frames[0], frames[1])


def test_a_killed_worker_is_an_error_and_not_a_wait() -> None:
    with EnvironmentPool(ROOMS, 4, 2) as envs:
        envs.reset(range(4), range(4), [1] * 4)
        victim, other = (worker.pid for worker in envs._workers)
        os.kill(victim, signal.SIGKILL)
        began = time.monotonic()
        with pytest.raises(FarstepError, match=rf"process {victim}\) ended by signal SIGKILL"):
            envs.step(np.zeros((4, 2), np.float32), range(4))
        assert time.monotonic() - began < 5
        with pytest.raises(FarstepError, match="closed"):
            envs.step(np.zeros((4, 2), np.float32), range(4))
        with pytest.raises(ProcessLookupError):
            os.kill(other, 0)


def test_ctrl_c_ends_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    with EnvironmentPool(ROOMS, 2, 2) as envs:
        pids = [worker.pid for worker in envs._workers]

        def interrupted(_: Worker) -> bytes:
            raise KeyboardInterrupt

        monkeypatch.setattr(Worker, "receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            envs.reset([0, 1], [0, 1])
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_shared_memory_has_no_name_while_it_is_used() -> None:
    places = [Path("/dev/shm"), Path(os.environ.get("TMPDIR", "/tmp"))]

    def named() -> set[Path]:
        return {path for place in places if place.exists() for path in place.glob("farstep-*")}

    before = named()
    with EnvironmentPool(ROOMS, 2, 1) as envs:
        envs.reset([0, 1], [0, 1])
        assert named() <= before


def test_a_place_for_shared_memory_that_cannot_be_written_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A container may mount /dev/shm read-only."""
    real, tried = tempfile.mkstemp, []

    def mkstemp(**options: Any) -> tuple[int, str]:
        tried.append(options["dir"])
        if len(tried) == 1 or full:
            raise OSError(errno.EROFS, "Read-only file system")
        return real(**options)

    full = False
    monkeypatch.setattr(tempfile, "mkstemp", mkstemp)
    with EnvironmentPool(ROOMS, 2, 1) as envs:
        assert envs.reset([0, 1], [0, 1])[0].shape == (2, 2)
    assert tried[0] == "/dev/shm"
    full = True
    with pytest.raises(FarstepError, match=r"/dev/shm: Read-only file system; .*: Read-only"):
        EnvironmentPool(ROOMS, 2, 1)


def test_a_worker_that_hangs_is_an_error_that_names_its_slots(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with EnvironmentPool(ROOMS, 3, 2) as envs:
        envs.reset([0, 1, 2], [0, 1, 2])
        os.kill(envs._workers[1].pid, signal.SIGSTOP)
        monkeypatch.setenv("FARSTEP_PATIENCE", "0.3")
        with pytest.raises(FarstepError, match=r"worker of pointmaze-rooms-v0, slots 1 \(process"):
            envs.step(np.zeros((3, 2), np.float32), [0, 1, 2])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            {"environment": "pointmaze-medum-v0", "num_slots": 1},
            "Did you mean 'pointmaze-medium-v0'",
        ),
        ({"environment": "pointmaze-medium-v0", "num_slots": 0}, "at least 1 slot"),
        (
            {
                "environment": "pointmaze-medium-v0",
                "num_slots": 1,
                "num_workers": 1,
                "extras": ("yx",),
            },
            "no entry 'yx'",
        ),
    ],
)
def test_bad_arguments_are_explained(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(FarstepError, match=complaint):
        EnvironmentPool(**arguments)


def test_bad_requests_are_explained() -> None:
    with EnvironmentPool(ROOMS, 2, 0) as envs:
        for call, complaint in (
            (lambda: envs.reset([2], [0]), "from 0 to 1"),
            (lambda: envs.reset([0, 0], [0, 1]), "named once"),
            (lambda: envs.reset([0], [0, 1]), "as many seeds"),
            (lambda: envs.reset([0], [-1]), "must not be negative"),
            (lambda: envs.reset([0], [0], [3]), "tasks 1 to 2, not 3"),
            (lambda: envs.step(np.zeros((1, 3)), [0]), "actions of shape"),
            (lambda: envs.step(np.zeros((1, 2)), [1]), "slot 1 has no episode"),
        ):
            with pytest.raises(FarstepError, match=complaint):
                call()
