"""The behaviours of OGBench's manipulation data (Park et al. 2025, arXiv 2410.20092, Appendix F).

An arm does one random primitive after another: it moves a cube, presses a button, slides a drawer
or a window. `play` follows a plan that is computed at the primitive's start and disturbed by
correlated noise. `noisy` acts by a Markovian rule with Gaussian noise, and takes a random action
now and then. The rules themselves are OGBench's `manipspace.oracles`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Float

from farstep.collect.collector import Layout, Recipe
from farstep.core.errors import FarstepError
from farstep.envs.isolation import make_quietly, private_generator

EPISODES = {"triple": 3000, "4x5": 3000, "quadruple": 5000, "octuple": 5000, "4x6": 5000}
"""Episodes of the published training tables, by cubes or board; 1000 of the others."""

STACKING = {"": (0.5, 0.5), "single": (0.0, 0.0), "double": (0.0, 0.25), "triple": (0.05, 0.35)}
"""Range of an episode's probability to stack a cube on another, by the number of cubes."""

MANY_STACKING = (0.1, 0.5)
"""The same for more cubes than three."""

NOISE_SHAPE = (1.0, 1.0, 1.0, 3.0, 10.0)
"""Noise of `noisy` actions in each dimension, position, yaw and gripper, in units of its level."""

CUBE = slice(14, 17)
"""Where a scene's `qpos` has the cube's position, in metres."""


@dataclass(frozen=True)
class ManipulationRecipe(Recipe):
    """How a table of manipulation is made.

    Attributes:
        noise: level of the noise. `play` disturbs its plans by it; each `noisy` episode draws its
            own level up to it.
        random_actions: probability of a uniformly random action at each step.

    Raises:
        FarstepError: a value out of range.
    """

    noise: float = 0.1
    random_actions: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.noise >= 0:
            raise FarstepError(f"noise must be at least 0, not {self.noise}")
        if not 0 <= self.random_actions <= 1:
            raise FarstepError(
                f"the share of random actions must be in [0, 1], not {self.random_actions}"
            )


def published_recipe(environment: str, behaviour: str) -> ManipulationRecipe:
    """Episodes, steps and random actions of the published table."""
    family, variant = _parts(environment)
    random_actions = 0.0
    if behaviour == "noisy":
        random_actions = 0.2 if family == "puzzle" else 0.1
    return ManipulationRecipe(
        behaviour, EPISODES.get(variant, 1000), steps=1001, random_actions=random_actions
    )


class EpisodeCollector:
    """Makes episodes of one environment: `observations`, `actions`, `qpos`, `qvel`, button states.

    It counts how many primitives ended, and how many of these succeeded.

    Args:
        environment: OGBench's name of it, such as `cube-double-v0`.
        recipe: how they are made.
    """

    def __init__(self, environment: str, recipe: ManipulationRecipe):
        self.recipe = recipe
        self.about: Mapping[str, Any] = {}
        self._family, variant = _parts(environment)
        self._stacking = STACKING.get(variant, MANY_STACKING)
        self._env = make_quietly(
            environment,
            terminate_at_goal=False,
            mode="data_collection",
            max_episode_steps=recipe.steps,
        )
        self._oracles = _oracles(self._family, self._env, recipe)
        observation, info = self._env.reset(seed=0)
        arrays = {
            "observations": (observation.shape, "float32"),
            "actions": ((5,), "float32"),
            "qpos": (info["qpos"].shape, "float32"),
            "qvel": (info["qvel"].shape, "float32"),
        }
        if "button_states" in info:
            arrays["button_states"] = (info["button_states"].shape, "int64")
        self.layout = Layout(arrays, counts=("primitives", "primitives_succeeded"))

    def episode(self, generator: np.random.Generator) -> dict[str, Any]:
        """One episode; a scene's is made anew until its cube stays in view, as published."""
        # OGBench's oracles draw from NumPy's global generator.
        with private_generator(generator):
            while True:
                stored = self._attempt(generator)
                if self._family != "scene" or _cube_is_visible(stored["qpos"]):
                    return stored

    def _attempt(self, generator: np.random.Generator) -> dict[str, Any]:
        env: Any = self._env.unwrapped
        recipe = self.recipe
        observation, info = self._env.reset(seed=int(generator.integers(2**31)))
        stack = generator.uniform(*self._stacking)
        level = generator.uniform(0, recipe.noise) if recipe.behaviour == "noisy" else 0.0
        oracle = self._oracles[info["privileged/target_task"]]
        oracle.reset(observation, info)
        stored: dict[str, Any] = {
            name: np.empty((recipe.steps, *shape), dtype)
            for name, (shape, dtype) in self.layout.arrays.items()
        }
        ended = succeeded = 0
        for step in range(recipe.steps):
            if generator.uniform() < recipe.random_actions:
                action = generator.uniform(-1, 1, 5)
            else:
                action = np.asarray(oracle.select_action(observation, info))
                action = action + level * generator.normal(0.0, NOISE_SHAPE)
            # The rounded action is the one that acts, so that a table's actions replay exactly.
            action = np.clip(action, -1, 1).astype(np.float32)
            following, _, _, _, info = self._env.step(action)
            stored["observations"][step], stored["actions"][step] = observation, action
            for name in ("qpos", "qvel", "button_states"):
                if name in stored:
                    stored[name][step] = info[f"prev_{name}"]
            if oracle.done:
                ended += 1
                succeeded += bool(info["success"])
                # The next action already aims at the new target. The published script's does not:
                # it reads a target that may be left over from an episode before.
                _, info = env.set_new_target(p_stack=stack)
                oracle = self._oracles[info["privileged/target_task"]]
                oracle.reset(following, info)
            observation = following
        return {**stored, "primitives": ended, "primitives_succeeded": succeeded}


def _oracles(family: str, env: gymnasium.Env, recipe: ManipulationRecipe) -> dict[str, Any]:
    """OGBench's behaviour for each kind of primitive."""
    if recipe.behaviour == "play":
        kind, module = "Plan", "plan"
        options: dict[str, Any] = {"noise": recipe.noise, "noise_smoothing": 0.5}
    else:
        kind, module, options = "Markov", "markov", {"min_norm": 0.4}
    own: dict[str, dict[str, Any]]
    if family == "cube":
        own = {"cube": {}}
    elif family == "puzzle":
        own = {"button": {"gripper_always_closed": True}}
    else:
        own = {"cube": {}, "button": {}, "drawer": {}, "window": {}}
        if kind == "Markov":
            own["cube"] = {"max_step": 100}

    def oracle(thing: str) -> Any:
        source = importlib.import_module(f"ogbench.manipspace.oracles.{module}.{thing}_{module}")
        return getattr(source, f"{thing.capitalize()}{kind}Oracle")

    return {thing: oracle(thing)(env=env, **options, **extra) for thing, extra in own.items()}


def _cube_is_visible(qpos: Float[np.ndarray, "steps coordinates"]) -> bool:
    """Whether a scene's cube stayed in view or in the drawer, as pictures of goals need."""
    _, y, z = qpos[:, CUBE].T
    in_drawer = (z >= 0.06) & (z <= 0.08)
    return not ((y >= 0.29) | ((y <= -0.3) & ~in_drawer)).any()


def _parts(environment: str) -> tuple[str, str]:
    """Family and variant: (`cube`, `double`), or (`scene`, ``)."""
    family, _, variant = environment.removesuffix("-v0").partition("-")
    return family, variant
