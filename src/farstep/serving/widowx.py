"""A policy on a WidowX-250, through the robot server of BridgeData V2 (its `widowx_env_service`).

Requests and replies are pickled maps in LZ4 frames over ZeroMQ. What the server sends is read by an
unpickler that knows numbers and arrays and nothing else. An action is never sent twice: when no
answer comes in time, the arm may have moved all the same, and what follows is a new action for what
is then seen.
"""

from __future__ import annotations

import json
import pickle
import select
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Self

import lz4.frame
import numpy as np
import zmq
from jaxtyping import Float

from farstep.core.errors import FarstepError
from farstep.data.sources.raw_bridge import arrays_in
from farstep.serving.policy import Policy
from farstep.serving.session import Session, SessionOptions

PERIOD = 0.2
"""Seconds from one action to the next."""

MOST = np.array([0.05, 0.05, 0.05, 0.25, 0.25, 0.25])
"""The largest change of position (metres) and rotation (radians) that the server lets through."""

CONTRACT = {
    "action_keys": ["init", "move", "gripper", "reset", "step_action", "reboot_motor"],
    "observation_keys": ["image", "state", "full_image"],
    "version": "0.0.1",
}
"""What the server must say that it offers; ports aside."""

LARGEST = 2**26
"""Bytes of the largest reply that is read, and of what it holds unpacked."""

SETTLING = 60.0
"""Seconds that the server may take to start the arm, or to bring it to its first pose."""


class Status(IntEnum):
    """How an action ended."""

    NO_CONNECTION = 0
    SUCCESS = 1
    EXECUTION_FAILURE = 2
    NOT_INITIALIZED = 3


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the arm may do, whatever the policy says.

    Attributes:
        low: least x, y and z of the hand, in metres from the arm's base.
        high: greatest x, y and z.
        part: part of the server's largest change in a step, from 0 to 1.
        gripper: least and greatest opening, 1 being open.

    Raises:
        FarstepError: bounds that leave nothing between them.
    """

    low: tuple[float, float, float] = (0.1, -0.25, 0.0)
    high: tuple[float, float, float] = (0.45, 0.25, 0.3)
    part: float = 1.0
    gripper: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if not (np.array(self.low) < self.high).all():
            raise FarstepError(f"no workspace lies between {self.low} and {self.high}")
        if not 0 < self.part <= 1:
            raise FarstepError(f"part must be in (0, 1], not {self.part}")
        if not 0 <= self.gripper[0] <= self.gripper[1] <= 1:
            raise FarstepError(f"gripper must be two numbers in [0, 1], not {self.gripper}")

    def inside(self, position: np.ndarray) -> bool:
        """Whether the hand is in the workspace, or within a step of it."""
        beyond = np.maximum(self.low - position, position - self.high)
        return bool((beyond <= MOST[:3]).all())

    def apply(
        self, action: Float[np.ndarray, " 7"], position: np.ndarray
    ) -> Float[np.ndarray, " 7"]:
        """The action that is nearest to `action` and keeps the limits."""
        most = self.part * MOST
        limited = np.append(np.clip(action[:6], -most, most), np.clip(action[6], *self.gripper))
        # Back into the workspace no faster than a step allows.
        aim = np.clip(position + limited[:3], self.low, self.high) - position
        limited[:3] = np.clip(aim, -most[:3], most[:3])
        return limited


class Robot(AbstractContextManager):
    """The connection to a robot server.

    Args:
        host: where it runs.
        port: its port.
        timeout: seconds to wait for an answer.

    Raises:
        FarstepError: nothing answers, or it is no such server.
    """

    def __init__(self, host: str = "localhost", port: int = 5556, timeout: float = 0.8):
        self._address, self._timeout = f"tcp://{host}:{port}", timeout
        self._context = zmq.Context()
        self._socket = self._connected()
        try:
            said = self._ask({"type": "hash"}, timeout)
            contract = json.loads(said["payload"])
            offered = {name: contract.get(name) for name in CONTRACT}
        except TimeoutError:
            self.close()
            raise FarstepError(
                f"No robot server answers at {self._address}: start widowx_env_service.py --server"
                " on the robot's computer, and see that the port can be reached."
            ) from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.close()
            raise FarstepError(
                f"What answers at {self._address} is no robot server: {error!r}."
            ) from None
        except BaseException:
            self.close()
            raise
        if offered != CONTRACT:
            self.close()
            raise FarstepError(
                f"The robot server at {self._address} is of another version: it offers {offered},"
                f" and this program speaks {CONTRACT}."
            )

    def observe(self) -> Mapping[str, Any]:
        """The `image` (3·S·S floats, channels first, in [0, 1]) and the `state` (7).

        Raises:
            TimeoutError: no answer in time.
            FarstepError: the answer cannot be read, or the arm has not been started.
        """
        said = self._ask({"type": "obs", "keys": set(CONTRACT["observation_keys"])}, self._timeout)
        state = said.get("state") if isinstance(said, Mapping) else None
        if not isinstance(state, np.ndarray | list) or np.shape(state) != (7,):
            raise FarstepError(
                f"The robot at {self._address} has no state: it has not been started. Run with --go"
                " once, or start it with another client."
            )
        state = np.asarray(state, np.float64)
        if not np.isfinite(state).all():
            raise FarstepError(f"The robot at {self._address} tells no finite state: {state}.")
        return {**said, "state": state}

    def act(self, key: str, payload: Mapping[str, Any], timeout: float | None = None) -> Status:
        """Ask for an action once; `NO_CONNECTION` means that it may or may not have been done.

        Raises:
            FarstepError: the answer cannot be read.
        """
        request = {"type": "act", "key": key, "payload": dict(payload)}
        try:
            said = self._ask(request, timeout or self._timeout)
            return Status(said["status"])
        except TimeoutError:
            return Status.NO_CONNECTION
        except (KeyError, TypeError, ValueError) as error:
            raise FarstepError(f"{self._address} answered '{key}' by no status: {error}.") from None

    def close(self) -> None:
        """End the connection. The arm stays where it is."""
        self._socket.close()
        self._context.term()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connected(self) -> Any:
        socket = self._context.socket(zmq.REQ)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, LARGEST)
        socket.connect(self._address)
        return socket

    def _ask(self, request: Mapping[str, Any], timeout: float) -> Any:
        # Protocol 4 is what the robot's Python reads.
        self._socket.send(lz4.frame.compress(pickle.dumps(request, protocol=4)))
        if not self._socket.poll(1000 * timeout):
            # A REQ socket that has asked cannot ask again; a late answer goes with the old one.
            self._socket.close()
            self._socket = self._connected()
            raise TimeoutError
        content = self._socket.recv()
        try:
            unpacked = lz4.frame.LZ4FrameDecompressor().decompress(content, LARGEST)
            return arrays_in(unpacked)
        except (RuntimeError, ValueError) as error:
            raise FarstepError(f"{self._address} sent what cannot be read: {error}.") from None


class StopKey(AbstractContextManager):
    """Any key of a terminal means stop.

    Args:
        terminal: its file descriptor; standard input if left out.

    Raises:
        FarstepError: it is no terminal.
    """

    def __init__(self, terminal: int | None = None):
        import termios
        import tty

        try:
            self._terminal = sys.stdin.fileno() if terminal is None else terminal
            self._before = termios.tcgetattr(self._terminal)
        except (OSError, ValueError, termios.error):
            raise FarstepError(
                "Standard input is no terminal, so no key could stop the robot. Run it from one, or"
                " say --without-key where another stop is at hand."
            ) from None
        self._pressed = False
        tty.setcbreak(self._terminal)

    def __call__(self) -> bool:
        """Whether a key has been pressed since the beginning."""
        self._pressed = self._pressed or bool(select.select([self._terminal], [], [], 0)[0])
        return self._pressed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        import termios

        termios.tcflush(self._terminal, termios.TCIFLUSH)
        termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._before)


@dataclass(frozen=True, kw_only=True)
class DriveOptions:
    """How a policy is let at the arm.

    Attributes:
        go: send actions. Without it they are shown only.
        steps: the most actions.
        stale: seconds after which an observation is too old to act by.
        misses: answers that may fail one after another before the arm is left alone.
        camera: topic of the camera that the policy sees by.
        start: x, y, z, roll, pitch, yaw and gripper that the arm begins with.
    """

    go: bool = False
    steps: int = 100
    stale: float = 0.4
    misses: int = 3
    camera: str = "/blue/image_raw"
    start: tuple[float, ...] = (0.3, 0.0, 0.15, 0.0, 0.0, 0.0, 1.0)

    def __post_init__(self) -> None:
        for name in ("steps", "stale", "misses"):
            if not getattr(self, name) > 0:
                raise FarstepError(f"{name} must be positive, not {getattr(self, name)}")
        if len(self.start) != 7:
            raise FarstepError(f"start is seven numbers, not {len(self.start)}")


@dataclass(frozen=True)
class Outcome:
    """How a drive ended: why, and after how many actions that were sent or shown."""

    reason: str
    steps: int
    reached: bool


def drive(
    robot: Robot,
    policy: Policy,
    goal: np.ndarray,
    options: DriveOptions,
    limits: Limits,
    session: SessionOptions,
    *,
    stop: Callable[[], bool],
    tell: Callable[[str], None],
) -> Outcome:
    """Act at 5 Hz until the goal is reached, the steps are over, or something says stop.

    Args:
        stop: asked before every action; once it says so none is sent any more.
        tell: takes a line for each action, and for whatever else happens.

    Raises:
        FarstepError: the policy is for other observations or actions, the robot fails, or its hand
            is outside the workspace.
    """
    if not limits.inside(np.array(options.start[:3])):
        raise FarstepError(f"start {options.start[:3]} lies outside the workspace")
    size = check_policy(policy)
    asked = Session(policy, session, goal)
    # Compiled before the arm moves.
    space = policy.spaces.frame
    asked.answer({session.observation_key: np.zeros(space.shape, space.dtype), "reset": True})
    asked = Session(policy, session, goal)
    if options.go:
        _start(robot, options, limits, size)
    misses = sent = 0
    while sent < options.steps:
        began = time.monotonic()
        if stop():
            return Outcome("stopped by key", sent, False)
        if misses == options.misses:
            raise FarstepError(f"{misses} answers in a row failed; the arm is left where it is.")
        try:
            seen = robot.observe()
        except TimeoutError:
            misses += 1
            tell("no observation in time")
            continue
        position = seen["state"][:3]
        if not limits.inside(position):
            raise FarstepError(
                f"The hand is at {np.round(position, 3).tolist()}, outside the workspace from"
                f" {limits.low} to {limits.high}: move it inside first."
            )
        reply = asked.answer({session.observation_key: _observation(seen, size, policy)})
        if reply.get("reached"):
            return Outcome("reached", sent, True)
        if reply.get("stalled"):
            return Outcome("stalled: the distance to the goal does not fall", sent, False)
        if time.monotonic() - began > options.stale:
            misses += 1
            tell(f"the answer took longer than {options.stale:g} s; it is dropped")
            continue
        action = limits.apply(np.asarray(reply["actions"][0], np.float64), position)
        if stop():
            return Outcome("stopped by key", sent, False)
        how = "would send"
        if options.go:
            status = robot.act("step_action", {"action": action, "blocking": False})
            how = "sent"
            if status is Status.NO_CONNECTION:
                misses += 1
                how = "sent once, without an answer in time,"
            elif status is not Status.SUCCESS:
                raise FarstepError(f"The robot could not do an action: {status.name}.")
            else:
                misses = 0
        sent += 1
        togo = f", {reply['steps_to_go']:.0f} steps to go" if "steps_to_go" in reply else ""
        tell(f"{sent}: {how} {np.round(action, 3).tolist()}{togo}")
        with suppress(ValueError):
            time.sleep(PERIOD - (time.monotonic() - began))
    return Outcome("all steps taken", sent, False)


def check_policy(policy: Policy) -> int | None:
    """The side of the pictures that the policy takes, or None where it takes the state.

    Raises:
        FarstepError: it takes neither, or has no seven continuous actions.
    """
    space, action = policy.spaces.frame, policy.spaces.action
    if action.discrete or action.size != 7:
        raise FarstepError(
            f"The arm takes seven numbers (x, y, z, roll, pitch, yaw, gripper), and this policy"
            f" gives {action.size}{' choices' if action.discrete else ''}."
        )
    if space.shape == (7,):
        return None
    if space.kind == "image" and space.shape == (space.shape[0], space.shape[0], 3):
        return space.shape[0]
    raise FarstepError(
        f"The robot tells its state (7,) and square pictures, and this policy takes {space}."
    )


def _start(robot: Robot, options: DriveOptions, limits: Limits, size: int | None) -> None:
    parameters = {
        "fix_zangle": 0.1,
        "move_duration": PERIOD,
        "adaptive_wait": True,
        "move_to_rand_start_freq": 1,
        # The server keeps the workspace too; its last two bounds are of rotation and gripper.
        "override_workspace_boundaries": [[*limits.low, -1.57, 0], [*limits.high, 1.57, 0]],
        "action_clipping": "xyz",
        "catch_environment_except": False,
        "start_state": list(options.start),
        "skip_move_to_neutral": False,
        "return_full_image": False,
        "camera_topics": [{"name": options.camera}],
    }
    payload = {"env_params": parameters, "image_size": size or 256}
    for key, said in (("init", payload), ("reset", {})):
        status = robot.act(key, said, SETTLING)
        if status is not Status.SUCCESS:
            raise FarstepError(f"The robot could not be started ('{key}'): {status.name}.")


def _observation(seen: Mapping[str, Any], size: int | None, policy: Policy) -> np.ndarray:
    """What the policy sees, of what the robot tells."""
    if size is None:
        return seen["state"].astype(policy.spaces.frame.dtype)
    picture = np.asarray(seen.get("image"))
    if picture.size != 3 * size * size:
        raise FarstepError(
            f"The robot sends pictures of {picture.size} numbers, and the policy takes"
            f" {size} × {size} × 3: start the robot with --go, which asks for that size."
        )
    rows = picture.reshape(3, size, size).transpose(1, 2, 0)
    return np.clip(np.round(255 * rows), 0, 255).astype(np.uint8)
