"""How well a walker walks: speed along the command, falls, and turning back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from farstep.collect.walkers.ground import EPISODE_STEPS, Ground, unit_direction
from farstep.collect.walkers.policy import Walker
from farstep.envs.seeds import stream

LEG = 100
"""Steps before the command is turned by 180°."""

SETTLED = 30
"""Steps of a leg after which walking counts as steady."""


@dataclass(frozen=True)
class Fitness:
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


def fitness(
    walker: Walker,
    *,
    episodes: int = 10,
    noise: float = 0.0,
    seed: int = 0,
    steps: int = EPISODE_STEPS,
    progress: Callable[[int, int], None] | None = None,
) -> Fitness:
    """Measure `walker` on open ground.

    Args:
        noise: standard deviation of noise added to actions, which are then clipped.
        steps: of an episode.
        progress: told (episodes done, in all).
    """
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
    return Fitness(
        speed=float(advances.mean() / seconds),
        steady_speed=float(advances[:, steady].mean() / seconds) if steady.any() else 0.0,
        turning_steps=float(np.mean(turning)) if turning else float(LEG),
        falls=fallen / episodes,
        episodes=episodes,
    )
