"""What a behaviour has to offer so that `generate` makes data sets of it.

A *family* of environments says how its published data sets are made (a recipe for each behaviour),
and which collector makes an episode. Ours are in `FAMILIES`; `register_family` adds one's own.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np

from farstep.core.errors import FarstepError, nearest


@dataclass(frozen=True)
class Recipe:
    """How a data set is made; families add fields of their own, of JSON values.

    Attributes:
        behaviour: the behaviour's name.
        episodes: episodes of the training table; the validation table has a tenth.
        steps: stored observations of an episode, at most.

    Raises:
        FarstepError: no episodes, or fewer than two steps.
    """

    behaviour: str
    episodes: int
    steps: int

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.steps < 2:
            raise FarstepError(
                "a table needs at least 1 episode of at least 2 steps, not "
                f"{self.episodes} × {self.steps}"
            )

    @property
    def validation_episodes(self) -> int:
        """A tenth of the training table's, and at least one."""
        return max(1, self.episodes // 10)


@dataclass(frozen=True)
class Layout:
    """What each episode consists of.

    Attributes:
        arrays: shape of a step and dtype, by name; `observations` (float32, or uint8 for images)
            and `actions` (float32, or int32 where discrete) are among them.
        images: whether observations are images.
        num_actions: how many discrete actions there are; `None` for continuous ones.
        counts: integers that an episode gives besides; their sums are kept with the data.
    """

    arrays: Mapping[str, tuple[tuple[int, ...], str]]
    num_actions: int | None = None
    images: bool = False
    counts: tuple[str, ...] = ()


class Collector(Protocol):
    """Makes episodes, in a process that has no JAX. Made by `(environment name, recipe)`.

    Attributes:
        layout: what `episode` gives.
        about: what else the data depend on, as JSON values; kept with them.
    """

    layout: Layout
    about: Mapping[str, Any]

    def episode(self, generator: np.random.Generator) -> Mapping[str, Any]:
        """One episode, in which everything random comes from `generator`.

        The layout's arrays, each of as many rows, at most the recipe's `steps`; and its counts.
        """
        ...


@dataclass(frozen=True)
class Family:
    """A family of environments and how its data sets are made.

    Attributes:
        module: the module that has what follows; imported when a data set is asked for.
        behaviours: names of the behaviours.
        recipe: name of a function from (environment name, behaviour) to the published recipe.
        collector: name of the `Collector`'s class.
    """

    module: str
    behaviours: tuple[str, ...]
    recipe: str = "published_recipe"
    collector: str = "EpisodeCollector"

    def published(self, environment: str, behaviour: str, **changes: Any) -> Recipe:
        """The published recipe with `changes` to its fields.

        Raises:
            FarstepError: no such behaviour, or a field that the recipe does not have.
        """
        if behaviour not in self.behaviours:
            raise FarstepError(f"no behaviour '{behaviour}'.{nearest(behaviour, self.behaviours)}")
        recipe = getattr(importlib.import_module(self.module), self.recipe)(environment, behaviour)
        known = {one.name for one in fields(recipe)}
        for name in changes:
            if name not in known:
                option = name.replace("_", "-")
                raise FarstepError(f"--{option} means nothing to the data of {environment}")
        return replace(recipe, **changes)


_MAZE, _ARM = "farstep.collect.mazes", "farstep.collect.manipulation"

FAMILIES: dict[str, Family] = {
    "pointmaze": Family(_MAZE, ("navigate", "stitch")),
    "antmaze": Family(_MAZE, ("navigate", "stitch", "explore")),
    "humanoidmaze": Family(_MAZE, ("navigate", "stitch", "explore")),
    "antsoccer": Family("farstep.collect.soccer", ("navigate", "stitch")),
    "cube": Family(_ARM, ("play", "noisy")),
    "scene": Family(_ARM, ("play", "noisy")),
    "puzzle": Family(_ARM, ("play", "noisy")),
    "powderworld": Family("farstep.collect.powderworld", ("play",)),
    "widowx": Family("farstep.collect.tabletop", ("play",)),
}
"""Families by name, as `EnvironmentSpec.family` has them."""


def register_family(name: str, family: Family) -> None:
    """Let `farstep data make` make data sets of environments of the family `name`."""
    FAMILIES[name] = family
