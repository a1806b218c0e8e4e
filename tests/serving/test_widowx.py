"""A policy on the robot's protocol, against a server of that protocol around the tabletop."""

from __future__ import annotations

import json
import os
import pickle
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

for _module in ("zmq", "lz4", "gymnasium", "mujoco", "ogbench"):
    pytest.importorskip(_module)

import lz4.frame  # noqa: E402 (after the checks above)
import zmq  # noqa: E402

from farstep.agents.mqe import MQE  # noqa: E402
from farstep.cli.main import main  # noqa: E402
from farstep.core.errors import FarstepError  # noqa: E402
from farstep.core.types import Actions, Space, Spaces  # noqa: E402
from farstep.data.normalize import Normalization  # noqa: E402
from farstep.envs.tabletop import MOST, TabletopEnv  # noqa: E402
from farstep.serving.policy import Policy  # noqa: E402
from farstep.serving.session import SessionOptions  # noqa: E402
from farstep.serving.widowx import (  # noqa: E402
    CONTRACT,
    DriveOptions,
    Limits,
    Robot,
    StopKey,
    drive,
)

GOAL = np.array([0.3, 0.0, 0.1, 0, 0, 0, 1], np.float32)
NEVER = SessionOptions(reached_steps=0.0, patience=1000)


class TabletopServer:
    """The robot server's side: a reply to each request, by the simulated arm."""

    def __init__(self) -> None:
        self.env = TabletopEnv()
        self.asked: list[Any] = []
        self.late = 0.0
        self.contract: Any = {"port_number": 1, **CONTRACT, "broadcast_port": 2}
        self.forged: bytes | None = None
        self.drawn: np.ndarray | None = None
        self._size = None
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.REP)
        self.port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        self._over = False
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._over:
            if not self._socket.poll(50):
                continue
            request = pickle.loads(lz4.frame.decompress(self._socket.recv()))
            reply = self.forged or pickle.dumps(self._answer(request), protocol=4)
            self._socket.send(lz4.frame.compress(reply))
        self.env.close()

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["type"] == "hash":
            return {"success": True, "payload": json.dumps(self.contract)}
        if request["type"] == "obs":
            if self._size is None:
                return {"image": np.zeros((480, 640, 3), np.uint8), "state": {}, "full_image": 0}
            image = np.zeros(0)
            if self._size == 64:  # Drawn in this thread only.
                self.drawn = drawn = self.env.draw()
                image = drawn.transpose(2, 0, 1).ravel() / 255
            return {"image": image, "state": self.env.state()[:7], "full_image": b"jpeg"}
        self.asked.append((request["key"], request["payload"]))
        if request["key"] == "init":
            self._size = request["payload"]["image_size"]
            self.env.reset(seed=0, options={"task_id": 1})
        elif self._size is None:
            return {"status": 3}
        elif request["key"] == "step_action":
            self.env.step(request["payload"]["action"])
            time.sleep(self.late)
        return {"status": 1}

    @property
    def actions(self) -> list[np.ndarray]:
        return [payload["action"] for key, payload in self.asked if key == "step_action"]

    def close(self) -> None:
        self._over = True
        self._thread.join(10)
        self._socket.close(0)
        self._context.term()


@contextmanager
def robot_server() -> Iterator[TabletopServer]:
    server = TabletopServer()
    try:
        yield server
    finally:
        server.close()


def untrained(space: Space) -> Policy:
    spaces = Spaces.from_observation(space, Actions(7))
    agent = MQE(hidden=(8, 8), latent=16, groups=2, batch_size=4)
    return Policy(
        agent=agent,
        params=agent.networks(spaces, jax.random.key(0)),
        spaces=spaces,
        normalization=Normalization.identity(spaces),
        dataset="toy",
        environment=None,
        step=7,
    )


@pytest.fixture(scope="module")
def policy() -> Policy:
    return untrained(Space((7,)))


class Wild:
    """A policy with actions beyond all bounds."""

    def __init__(self, policy: Policy):
        self._policy = policy

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def chunk(self, *arguments: Any, **options: Any) -> np.ndarray:
        return np.array([[9, 9, -9, 0, 0, 0, -1.0]], np.float32)


def run(robot: Robot, policy: Any, **options: Any) -> tuple[Any, list[str]]:
    lines: list[str] = []
    limits = options.pop("limits", Limits())
    stop = options.pop("stop", lambda: False)
    session = options.pop("session", NEVER)
    wanted = DriveOptions(**{"go": True, "steps": 3, "stale": 5.0, **options})
    outcome = drive(robot, policy, GOAL, wanted, limits, session, stop=stop, tell=lines.append)
    return outcome, lines


def test_a_dry_run_shows_actions_and_sends_none(
    policy: Policy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the command line, first with an arm that nobody has started."""
    policy.save(tmp_path / "policy")
    np.save(tmp_path / "goal.npy", GOAL)
    words = ["widowx", str(tmp_path / "policy"), "--goal", str(tmp_path / "goal.npy")]
    with robot_server() as server:
        words += ["--port", str(server.port), "--steps", "2", "--reached-steps", "0"]
        with pytest.raises(SystemExit):
            main(words)
        assert "it has not been started" in capsys.readouterr().err
        with Robot("127.0.0.1", server.port) as robot:
            robot.act("init", {"env_params": {}, "image_size": 256})
        main([*words, "--stale", "5"])
        said = capsys.readouterr().err
        assert said.count("would send [") == 2
        assert "nothing was sent" in said
        assert server.actions == []
        # Nor does it move with --go where no key could stop it.
        with pytest.raises(SystemExit):
            main([*words, "--go"])
        assert "no key could stop the robot" in capsys.readouterr().err
        main([*words, "--go", "--without-key", "--stale", "5"])
        assert len(server.actions) == 2


def test_actions_keep_the_limits_whatever_the_policy_says(policy: Policy) -> None:
    limits = Limits(low=(0.2, -0.1, 0.1), high=(0.34, 0.1, 0.3), part=0.5, gripper=(0.2, 1.0))
    with robot_server() as server, Robot("127.0.0.1", server.port) as robot:
        outcome, _ = run(robot, Wild(policy), steps=8, limits=limits)
        assert outcome.steps == 8
        assert [key for key, _ in server.asked[:2]] == ["init", "reset"]
        assert server.asked[0][1]["env_params"]["override_workspace_boundaries"][0][:3] == [
            *limits.low
        ]
        for action in server.actions:
            assert (np.abs(action[:6]) <= MOST / 2 + 1e-9).all()
            assert action[6] == 0.2
        # The arm lags behind its commands, so it may pass a bound by part of a step.
        here = server.env.state()[:3]
        assert (here > np.array(limits.low) - 0.02).all()
        assert (here < np.array(limits.high) + 0.02).all()
        with pytest.raises(FarstepError, match="outside the workspace"):
            run(
                robot,
                policy,
                limits=Limits(low=(0.4, -0.1, 0.1)),
                start=(0.42, 0, 0.15, 0, 0, 0, 1),
            )


def test_an_action_without_an_answer_is_not_sent_again(policy: Policy) -> None:
    with robot_server() as server, Robot("127.0.0.1", server.port, timeout=0.3) as robot:
        server.late = 0.5
        with pytest.raises(FarstepError, match="answers in a row failed"):
            run(robot, policy, steps=20, misses=3)
        sent = server.actions
        # Late answers cost observations too; every action that was asked for ran once.
        assert 1 <= len(sent) <= 3
        server.late = 0.0
        time.sleep(0.6)
        outcome, _ = run(robot, policy, steps=1)
        assert (outcome.steps, len(server.actions)) == (1, len(sent) + 1)
        with pytest.raises(FarstepError, match="answers in a row failed"):
            run(robot, policy, stale=1e-6)  # What comes too late is not acted by.
        assert len(server.actions) == len(sent) + 1


def test_a_key_stops_the_arm(policy: Policy) -> None:
    keyboard, terminal = os.openpty()
    with robot_server() as server, Robot("127.0.0.1", server.port) as robot:
        with StopKey(terminal) as stop:
            threading.Timer(1.0, os.write, (keyboard, b" ")).start()
            outcome, _ = run(robot, policy, steps=50, stop=stop)
        assert outcome.reason == "stopped by key"
        assert outcome.steps == len(server.actions) < 50
    os.close(keyboard)
    os.close(terminal)


def test_a_drive_ends_with_the_goal_or_without_hope(policy: Policy) -> None:
    with robot_server() as server, Robot("127.0.0.1", server.port) as robot:
        outcome, _ = run(robot, policy, session=SessionOptions(reached_steps=1e9))
        assert (outcome.reached, outcome.steps, server.actions) == (True, 0, [])
        outcome, _ = run(robot, policy, session=SessionOptions(reached_steps=0, patience=1))
        assert outcome.reason.startswith("stalled")


@pytest.mark.usefixtures("opengl")
def test_a_policy_of_pictures_sees_the_robots() -> None:
    policy = untrained(Space((64, 64, 3), "uint8", "image"))
    seen: list[np.ndarray] = []

    class Watching(Wild):
        def chunk(self, observations: Any, *rest: Any, **options: Any) -> np.ndarray:
            seen.append(observations)
            return np.zeros((1, 7), np.float32)

        def distance(self, *arguments: Any) -> np.ndarray:
            return np.array(9.0)

    goal = np.zeros((64, 64, 3), np.uint8)
    watching: Any = Watching(policy)
    with robot_server() as server, Robot("127.0.0.1", server.port, timeout=5) as robot:
        options = DriveOptions(go=True, steps=1, stale=5)
        drive(
            robot, watching, goal, options, Limits(), NEVER, stop=lambda: False, tell=lambda _: None
        )
        np.testing.assert_array_equal(seen[-1], server.drawn)


def test_what_is_no_robot_server_is_refused() -> None:
    began = time.monotonic()
    with pytest.raises(FarstepError, match="No robot server answers at tcp"):
        Robot("127.0.0.1", 9, timeout=0.1)
    assert time.monotonic() - began < 5
    with robot_server() as server:
        server.contract["action_keys"] = ["fly"]
        with pytest.raises(FarstepError, match="of another version"):
            Robot("127.0.0.1", server.port)
        for forged in (b"cos\nsystem\n(S'touch /tmp/owned'\ntR.", b"no pickle", b"N."):
            server.forged = forged
            with pytest.raises(FarstepError, match=r"cannot be read|no robot server"):
                Robot("127.0.0.1", server.port)
    assert not Path("/tmp/owned").exists()
    with robot_server() as server, Robot("127.0.0.1", server.port) as robot:
        with pytest.raises(FarstepError, match=r"this policy takes vectors, float32 \(20,\)"):
            run(robot, untrained(Space((20,))))
        assert server.asked == []
