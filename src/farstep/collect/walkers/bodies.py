"""What walks, seen from its command: the ant, the humanoid, and the ant that dribbles a ball.

A walker is fed the observation without its position and a unit direction (x, y); a dribbler the
vector from the ball to its goal in metres. The dynamics do not depend on where north is, so both
are first turned into numbers that do not either: a walker that has learned one heading has learned
all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from farstep.core.errors import FarstepError, nearest

BodyName = Literal["ant", "humanoid", "antball"]

Features = Callable[[Any, Any, Any], Any]
"""From NumPy or its JAX twin, observations (..., D) and commands (..., 2) to network inputs."""


@dataclass(frozen=True)
class WalkerBody:
    """A body, its command and its reward.

    What is commanded is a direction of the body, or a goal of the ball, relative to the ball. The
    reward of a step is `poise · (bonus + scale · progress) + approach · gain`: `poise` in [0, 1]
    says how well the body stands, `progress` are metres along the direction or nearer to the goal,
    and `gain` metres by which the body came nearer to the ball (OGBench's `GymXYWrapper` for the
    ant, `DMCHumanoidXYWrapper` and `AntBallEnv`). So the reward of a step for any other command is
    known too.

    Attributes:
        name: `ant`, `humanoid` or `antball`.
        observation_size: D, without the position; it ends with the way to the ball where one is.
        action_size: dimensions of an action, each in [−1, 1].
        inputs: size of what `features` gives.
        features: the observation and the command as the networks see them.
        seconds: duration of a step.
        episode: steps after which an episode is cut.
        redraw: steps between commands in training.
        bonus: reward of standing.
        scale: reward of a metre of progress.
        approach: reward of a metre nearer to the ball.
        reach: metres to the farthest goal in relabelled steps; 0 where directions are commanded.
    """

    name: BodyName
    observation_size: int
    action_size: int
    inputs: int
    features: Features
    seconds: float
    episode: int
    redraw: int
    bonus: float = 0.0
    scale: float = 1.0
    approach: float = 0.0
    reach: float = 0.0

    @property
    def role(self) -> str:
        """What a policy of the body is called."""
        return "dribbler" if self.reach else "walker"

    def following(self, commands: Any, displacements: Any) -> Any:
        """Commands (..., 2) after a step: directions stay, a goal is nearer to a ball that moved.

        Args:
            displacements: of the body or the ball, (..., 2), in metres.
        """
        return commands - displacements if self.reach else commands

    def progress(self, xp: Any, commands: Any, displacements: Any) -> Any:
        """Metres along the direction, or nearer to the goal."""
        if not self.reach:
            return xp.sum(commands * displacements, axis=-1)
        return _length(xp, commands) - _length(xp, commands - displacements)

    def reward(
        self,
        xp: Any,
        observations: Any,
        following: Any,
        commands: Any,
        displacements: Any,
        poise: Any,
    ) -> Any:
        """Rewards (...) of steps from `observations` to `following`, with `poise` (...)."""
        progress = self.progress(xp, commands, displacements)
        reward = poise * (self.bonus + self.scale * progress)
        if self.approach:
            gain = _length(xp, observations[..., -2:]) - _length(xp, following[..., -2:])
            reward = reward + self.approach * gain
        return reward


def _length(xp: Any, vectors: Any) -> Any:
    return xp.sqrt(xp.sum(vectors * vectors, axis=-1))


def _axes(xp: Any, observations: Any, start: int) -> tuple[Any, Any, Any]:
    """The world's axes in the frame of the quaternion (w, x, y, z) at column `start`."""
    w, x, y, z = (observations[..., start + i : start + i + 1] for i in range(4))
    east = [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)]
    north = [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)]
    up = [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]
    return (
        xp.concatenate(east, axis=-1),
        xp.concatenate(north, axis=-1),
        xp.concatenate(up, axis=-1),
    )


def _ant(xp: Any, observations: Any, directions: Any) -> Any:
    """Everything in the torso's frame: the command, upwards, and the velocity.

    The observation is height, quaternion (w, x, y, z), 8 joints, velocity in the world's frame,
    angular velocity in the torso's, and 8 joint velocities.
    """
    east, north, up = _axes(xp, observations, 1)
    velocity = [observations[..., 13 + i : 14 + i] for i in range(3)]
    ahead = directions[..., :1] * east + directions[..., 1:] * north
    moving = velocity[0] * east + velocity[1] * north + velocity[2] * up
    still = [observations[..., :1], observations[..., 5:13], observations[..., 16:]]
    return xp.concatenate([ahead, up, moving, *still], axis=-1)


def _antball(xp: Any, observations: Any, commands: Any) -> Any:
    """The ant's, and in the torso's frame the ball's place, velocity and spin.

    The observation is the ant's first 13 numbers, the ball's height and quaternion, the ant's 14
    velocities, the ball's velocity in the world's frame and angular velocity in its own, and the
    way to the ball. A ball looks the same from all sides, so that its quaternion only says where
    its spin points.
    """
    distance = _length(xp, commands)[..., None]
    ant = xp.concatenate([observations[..., :13], observations[..., 18:32]], axis=-1)
    east, north, up = _axes(xp, observations, 1)

    def seen(x: Any, y: Any, z: Any) -> Any:
        return x * east + y * north + z * up

    way = observations[..., -2:-1], observations[..., -1:]
    height = observations[..., 13:14] - observations[..., :1]
    velocity = (observations[..., 32 + i : 33 + i] for i in range(3))
    spin = observations[..., 35:38]
    turned = (xp.sum(spin * axis, axis=-1)[..., None] for axis in _axes(xp, observations, 14))
    return xp.concatenate(
        [
            _ant(xp, ant, commands / (distance + 1e-6)),
            distance / 10,
            seen(*way, height),
            seen(*velocity),
            seen(*turned) / 10,
        ],
        axis=-1,
    )


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
    "ant": WalkerBody("ant", 27, 8, 29, _ant, 0.1, 1000, 100),
    "humanoid": WalkerBody(
        "humanoid", 67, 21, 67, _humanoid, 0.025, 1000, 200, bonus=1.0, scale=100.0
    ),
    "antball": WalkerBody(
        "antball", 40, 8, 39, _antball, 0.1, 200, 200, scale=25.0, approach=10.0, reach=12.0
    ),
}


def walker_body(name: str) -> WalkerBody:
    """The body called `name`.

    Raises:
        FarstepError: no such body.
    """
    if name not in BODIES:
        raise FarstepError(f"no body '{name}' that could walk.{nearest(name, BODIES)}")
    return BODIES[name]
