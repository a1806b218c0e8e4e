"""What walks: the ant and the humanoid, seen from the command to walk in a direction.

A walker is fed the observation without its position and a unit direction (x, y). The dynamics do
not depend on where north is, so both are first turned into numbers that do not either: a walker
that has learned one heading has learned all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from farstep.core.errors import FarstepError, nearest

BodyName = Literal["ant", "humanoid"]

Features = Callable[[Any, Any, Any], Any]
"""From NumPy or its JAX twin, observations (..., D) and directions (..., 2) to network inputs."""


@dataclass(frozen=True)
class WalkerBody:
    """A body, its command and its reward.

    The reward of a step is `poise · (bonus + scale · displacement · direction)`, in metres, where
    `poise` in [0, 1] says how well the body stands (OGBench's `GymXYWrapper` for the ant, and
    `DMCHumanoidXYWrapper`). So the reward of a step for any other direction is known too.

    Attributes:
        name: `ant` or `humanoid`.
        observation_size: D, without the position.
        action_size: dimensions of an action, each in [−1, 1].
        inputs: size of what `features` gives.
        features: the observation and the command as the networks see them.
        seconds: duration of a step.
        redraw: steps between commands in training.
        bonus: reward of standing.
        scale: reward of a metre along the command.
    """

    name: BodyName
    observation_size: int
    action_size: int
    inputs: int
    features: Features
    seconds: float
    redraw: int
    bonus: float
    scale: float


def _ant(xp: Any, observations: Any, directions: Any) -> Any:
    """Everything in the torso's frame: the command, upwards, and the velocity.

    The observation is height, quaternion (w, x, y, z), 8 joints, velocity in the world's frame,
    angular velocity in the torso's, and 8 joint velocities.
    """
    w, x, y, z = (observations[..., 1 + i : 2 + i] for i in range(4))
    # Rows of the rotation matrix: the world's axes in the torso's frame.
    east = xp.concatenate(
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], axis=-1
    )
    north = xp.concatenate(
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], axis=-1
    )
    up = xp.concatenate(
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], axis=-1
    )
    velocity = [observations[..., 13 + i : 14 + i] for i in range(3)]
    ahead = directions[..., :1] * east + directions[..., 1:] * north
    moving = velocity[0] * east + velocity[1] * north + velocity[2] * up
    still = [observations[..., :1], observations[..., 5:13], observations[..., 16:]]
    return xp.concatenate([ahead, up, moving, *still], axis=-1)


def _humanoid(xp: Any, observations: Any, directions: Any) -> Any:
    """World velocities turned so that the command points along x; the rest has no heading.

    The observation is 21 joints, head height, 12 numbers of extremities, the torso's upwards, the
    velocity of the centre of mass, and 27 velocities that begin with the root's. It does not tell
    which way the body faces, in OGBench neither.
    """
    cosine, sine = directions[..., :1], directions[..., 1:]

    def turned(start: int) -> list[Any]:
        east, north = observations[..., start : start + 1], observations[..., start + 1 : start + 2]
        return [cosine * east + sine * north, cosine * north - sine * east]

    pieces = [
        observations[..., :37],
        *turned(37),
        observations[..., 39:40],
        *turned(40),
        observations[..., 42:],
    ]
    return xp.concatenate(pieces, axis=-1)


BODIES: dict[str, WalkerBody] = {
    "ant": WalkerBody("ant", 27, 8, 29, _ant, 0.1, 100, bonus=0.0, scale=1.0),
    "humanoid": WalkerBody("humanoid", 67, 21, 67, _humanoid, 0.025, 200, bonus=1.0, scale=100.0),
}


def walker_body(name: str) -> WalkerBody:
    """The body called `name`.

    Raises:
        FarstepError: no such body.
    """
    if name not in BODIES:
        raise FarstepError(f"no body '{name}' that could walk.{nearest(name, BODIES)}")
    return BODIES[name]
