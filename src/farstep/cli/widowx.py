"""`farstep widowx`: a policy on a WidowX-250, through the robot server of BridgeData V2."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from farstep.cli.console import plain_console
from farstep.cli.serve import array_file
from farstep.core.errors import FarstepError, install_command
from farstep.serving.policy import load_policy
from farstep.serving.session import SessionOptions


@dataclass(frozen=True, kw_only=True)
class WidowX:
    """Let a policy move a WidowX-250 towards a goal. Without --go it only shows what it would do.

    Any key stops it, and the arm stays where it is.
    """

    policy: Annotated[Path, tyro.conf.arg(name="POLICY"), tyro.conf.Positional]
    """Directory of an exported policy, or of a run."""
    goal: Path
    """An .npy file with the goal: a state of 7 numbers, or a picture as the policy takes it."""
    host: str = "localhost"
    """Where the robot server runs."""
    port: int = 5556
    """Its port."""
    timeout: float = 0.8
    """Seconds to wait for its answers. An action is never sent twice."""
    go: bool = False
    """Start the arm, and send actions."""
    steps: int = 100
    """Most actions, at five a second."""
    stale: float = 0.4
    """Seconds after which an observation is too old to act by."""
    low: tuple[float, float, float] = (0.1, -0.25, 0.0)
    """Least x, y, z of the hand in metres from the arm's base."""
    high: tuple[float, float, float] = (0.45, 0.25, 0.3)
    """Greatest x, y, z."""
    part: float = 1.0
    """Part of the largest change in a step (5 cm, 0.25 rad); begin with a small one."""
    gripper: tuple[float, float] = (0.0, 1.0)
    """Least and greatest opening of the gripper, 1 being open."""
    start: tuple[float, ...] = (0.3, 0.0, 0.15, 0.0, 0.0, 0.0, 1.0)
    """x, y, z, roll, pitch, yaw and gripper that the arm begins with."""
    camera: str = "/blue/image_raw"
    """Topic of the policy's camera."""
    without_key: bool = False
    """Run with --go where no terminal is at hand; have another stop ready."""
    session: tyro.conf.OmitArgPrefixes[SessionOptions] = field(default_factory=SessionOptions)

    def run(self) -> None:
        try:
            from farstep.serving.widowx import DriveOptions, Limits, Robot, StopKey, drive
        except ImportError as error:
            raise FarstepError(
                f"The robot's protocol needs {error.name}, which is not installed:"
                f" {install_command('widowx')}."
            ) from error
        options = DriveOptions(
            go=self.go, steps=self.steps, stale=self.stale, camera=self.camera, start=self.start
        )
        limits = Limits(low=self.low, high=self.high, part=self.part, gripper=self.gripper)
        policy, goal = load_policy(self.policy), array_file(self.goal)
        console = plain_console(stderr=True)

        def tell(line: str) -> None:
            console.print(line, markup=False, soft_wrap=True)

        with ExitStack() as resources:
            stop = lambda: False  # noqa: E731
            if self.go and not self.without_key:
                stop = resources.enter_context(StopKey())
                tell("Any key stops the robot.")
            robot = resources.enter_context(Robot(self.host, self.port, self.timeout))
            outcome = drive(
                robot, policy, goal, options, limits, self.session, stop=stop, tell=tell
            )
        done = "sent" if self.go else "shown; nothing was sent (--go sends)"
        tell(f"{outcome.reason}; {outcome.steps} actions {done}")
