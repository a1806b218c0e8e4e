"""How well a walker walks, and how well a dribbler brings the ball to its goals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from farstep.collect.walkers.ground import Ground, unit_direction
from farstep.collect.walkers.policy import Walker
from farstep.core.seeds import stream

LEG = 100
"""Steps before the command is turned by 180°."""

SETTLED = 30
"""Steps of a leg after which walking counts as steady."""

GOAL_RADIUS = 0.5
"""Distance between ball and goal in metres that counts as reached (OGBench)."""

Progress = Callable[[int, int], None]
"""Told (episodes done, in all)."""


@dataclass(frozen=True)
class Walking:
    """Means over episodes of 1,000 steps in which the command is reversed every 100.

    Attributes:
        speed: metres a second along the command, all steps.
        steady_speed: the same without the first 30 steps after each turn.
        turning_steps: steps after a turn until the body has walked a metre along the new command;
            a leg's 100 where it never does.
        falls: share of episodes that end on the back or out of the healthy heights.
        episodes: how many.
    """

    speed: float
    steady_speed: float
    turning_steps: float
    falls: float
    episodes: int


@dataclass(frozen=True)
class Dribbling:
    """Means over episodes of 200 steps, each with a ball and a goal as in training.

    Attributes:
        reached: share of goals that the ball reaches.
        steps: mean number of steps until then; 0 if there are none.
        falls: share of episodes that end on the back or out of the healthy heights.
        episodes: how many.
    """

    reached: float
    steps: float
    falls: float
    episodes: int


def fitness(
    walker: Walker,
    *,
    episodes: int = 10,
    noise: float = 0.0,
    seed: int = 0,
    steps: int | None = None,
    progress: Progress | None = None,
) -> Walking | Dribbling:
    """Measure `walker` on open ground.

    Args:
        noise: standard deviation of noise added to actions, which are then clipped.
        steps: of an episode; the body's unless told otherwise.
    """
    test = _dribble if walker.body.reach else _walk
    return test(walker, episodes, noise, seed, steps or walker.body.episode, progress)


def _walk(
    walker: Walker, episodes: int, noise: float, seed: int, steps: int, progress: Progress | None
) -> Walking:
    ground = Ground(walker.body.name)
    legs = max(1, math.ceil(steps / LEG))
    advances = np.zeros((episodes, steps))
    turning = []
    fallen = 0
    for episode in range(episodes):
        observation = ground.reset(int(stream(seed, "walker/test", episode).integers(2**31)))
        shocks = stream(seed, "walker/test noise", episode)
        command = unit_direction(seed, episode)
        fell = False
        for step in range(steps):
            if step and step % LEG == 0:
                command = -command
            action = walker(observation, command)
            action = np.clip(action + noise * shocks.standard_normal(action.shape), -1, 1)
            observation, displacement, _, fell = ground.step(action)
            advances[episode, step] = displacement @ command
            if fell:
                break
        fallen += fell or not ground.upright
        for leg in range(1, legs):
            walked = np.cumsum(advances[episode, leg * LEG : (leg + 1) * LEG])
            # From where the body comes to rest, which lies a little beyond where it was told.
            gained = walked - np.minimum.accumulate(walked)
            turning.append(int(np.argmax(gained >= 1)) if gained[-1] >= 1 else LEG)
        if progress is not None:
            progress(episode + 1, episodes)
    steady = np.arange(steps) % LEG >= SETTLED
    seconds = walker.body.seconds
    return Walking(
        speed=float(advances.mean() / seconds),
        steady_speed=float(advances[:, steady].mean() / seconds) if steady.any() else 0.0,
        turning_steps=float(np.mean(turning)) if turning else float(LEG),
        falls=fallen / episodes,
        episodes=episodes,
    )


def _dribble(
    walker: Walker, episodes: int, noise: float, seed: int, steps: int, progress: Progress | None
) -> Dribbling:
    ground = Ground(walker.body.name)
    reached = []
    fallen = 0
    for episode in range(episodes):
        observation = ground.reset(int(stream(seed, "walker/test", episode).integers(2**31)))
        shocks = stream(seed, "walker/test noise", episode)
        command = ground.command(seed, episode)
        fell = False
        for step in range(steps):
            action = walker(observation, command)
            action = np.clip(action + noise * shocks.standard_normal(action.shape), -1, 1)
            observation, displacement, _, fell = ground.step(action)
            command = walker.body.following(command, displacement)
            if math.hypot(*command) <= GOAL_RADIUS:
                reached.append(step + 1)
                break
            if fell:
                break
        fallen += fell or not ground.upright
        if progress is not None:
            progress(episode + 1, episodes)
    return Dribbling(
        reached=len(reached) / episodes,
        steps=float(np.mean(reached)) if reached else 0.0,
        falls=fallen / episodes,
        episodes=episodes,
    )
