"""The behaviour of OGBench's Powderworld data (Park et al. 2025, arXiv 2410.20092, Appendix F).

A drawing is made of brush strokes, and a stroke of three actions: element, x and y. With
probability one half a stroke is random; the others fill the canvas, draw a line or draw a square,
one such figure after another. The figures are OGBench's `powderworld.behaviors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from farstep.collect.collector import Layout, Recipe
from farstep.core.errors import FarstepError
from farstep.envs.isolation import make_quietly, private_generator

FIGURES = {"FillBehavior": 1 / 7, "LineBehavior": 3 / 7, "SquareBehavior": 3 / 7}
"""What is drawn, with its probability."""

STROKE = 3
"""Actions of a stroke."""


@dataclass(frozen=True)
class PowderworldRecipe(Recipe):
    """How a table of drawings is made.

    Attributes:
        random_strokes: probability that a stroke is random.

    Raises:
        FarstepError: a value out of range.
    """

    random_strokes: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.random_strokes <= 1:
            raise FarstepError(
                f"the share of random strokes must be in [0, 1], not {self.random_strokes}"
            )


def published_recipe(environment: str, behaviour: str) -> PowderworldRecipe:
    """Episodes and steps of the published table."""
    episodes = {"powderworld-medium-v0": 3000, "powderworld-hard-v0": 5000}
    return PowderworldRecipe(behaviour, episodes.get(environment, 1000), steps=1001)


class EpisodeCollector:
    """Makes episodes of one environment: `observations` (uint8) and `actions`.

    Args:
        environment: its name, such as `powderworld-medium-v0`.
        recipe: how they are made.
    """

    def __init__(self, environment: str, recipe: PowderworldRecipe):
        from ogbench.powderworld import behaviors

        self.recipe = recipe
        self.about: Mapping[str, Any] = {}
        self._env = make_quietly(
            environment, mode="data_collection", max_episode_steps=recipe.steps
        )
        self._figures = [getattr(behaviors, name)(env=self._env) for name in FIGURES]
        space: Any = self._env
        self.layout = Layout(
            {
                "observations": (space.observation_space.shape, "uint8"),
                "actions": ((), "int32"),
            },
            num_actions=int(space.action_space.n),
            images=True,
        )

    def episode(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        """One episode."""
        # The world's physics and OGBench's behaviours draw from NumPy's global generator.
        with private_generator(generator):
            return self._drawing(generator)

    def _drawing(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        env: Any = self._env.unwrapped
        observation, info = self._env.reset()
        observations, actions = (
            np.empty((self.recipe.steps, *shape), dtype)
            for shape, dtype in self.layout.arrays.values()
        )

        def figure() -> Any:
            chosen = generator.choice(len(FIGURES), p=list(FIGURES.values()))
            drawn = self._figures[chosen]
            drawn.reset(observation, info)
            return drawn

        drawn, stroke = figure(), ()
        for step in range(self.recipe.steps):
            if step % STROKE == 0:
                if generator.uniform() < self.recipe.random_strokes:
                    stroke = env.sample_semantic_action()
                else:
                    stroke = drawn.select_action(observation, info)
            observations[step] = observation
            actions[step] = env.semantic_action_to_action(*stroke)
            observation, _, _, _, info = self._env.step(actions[step])
            if drawn.done:
                drawn = figure()
        return {"observations": observations, "actions": actions}
