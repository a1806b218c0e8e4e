"""Single primitives at the tabletop: one episode moves one thing, as BridgeData V2's do.

A scripted hand brings an object to a free place, puts one into the open drawer, or opens or closes
the drawer, and goes back to where it waits. Layouts are random and include partly finished ones:
the drawer may be open, with an object in it. Half of the episodes begin with the hand anywhere. An
episode in which the script fails, or in which anything else moves by more than `BYSTANDER`, is made
anew. It is as long as the primitive takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from farstep.collect.collector import Layout, Recipe
from farstep.core.errors import FarstepError
from farstep.envs.catalog import environment as environment_spec
from farstep.envs.tabletop import (
    DRAWER,
    FROM_HAND,
    HANDLE,
    MOST,
    OBJECTS,
    OPEN,
    PLACED,
    REST,
    THINGS,
    TRAVEL,
    TRAY_HALF,
    Arrangement,
    TabletopEnv,
    free_places,
    in_drawer,
)

PRIMITIVES = {"move": 0.55, "put": 0.15, "open": 0.18, "close": 0.12}
"""Primitives with their probabilities."""

BYSTANDER = 0.01
"""Metres that things may move which an episode is not about."""

ABOVE = 0.13
"""Height in metres at which the hand travels."""

ANYWHERE = 0.5
"""Part of the episodes that begin with the hand anywhere, open or closed, and not where it waits.
There a learned policy is after a miss."""

ABOVE_ALL = np.array([[0.2, -0.2, 0.08], [0.42, 0.2, 0.2]])
"""Lower and upper bounds of that place, in metres, clear of everything."""

GAIN = 0.6
"""Part of the way to its next point that the hand is sent in a step."""


@dataclass(frozen=True)
class TabletopRecipe(Recipe):
    """How a table of primitives is made; an episode has at most `steps` rows.

    Attributes:
        noise: standard deviation of the noise on positions, as a part of an action's bound.

    Raises:
        FarstepError: a value out of range.
    """

    noise: float = 0.12

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.noise <= 0.5:
            raise FarstepError(f"noise must be in [0, 0.5], not {self.noise}")


def published_recipe(environment: str, behaviour: str) -> TabletopRecipe:
    """Our own: nobody has published such data."""
    return TabletopRecipe(behaviour, episodes=4000, steps=64)


@dataclass(frozen=True)
class _Leg:
    """Where the hand goes next, and how.

    `until` is the distance in metres at which it counts as there; 0 stays for `steps`.
    """

    point: np.ndarray
    gripper: float
    until: float = 0.015
    steps: int = 12
    noisy: bool = False


class EpisodeCollector:
    """Makes episodes: `observations`, `actions`, `qpos` and `qvel`, float32.

    Args:
        environment: its name.
        recipe: how they are made.
    """

    about: Mapping[str, Any] = {"primitives": PRIMITIVES}

    def __init__(self, environment: str, recipe: TabletopRecipe):
        self.recipe = recipe
        env = environment_spec(environment).load()()
        assert isinstance(env, TabletopEnv)
        self.env = env
        sizes = {
            "observations": FROM_HAND.stop,
            "actions": 7,
            "qpos": env.model.nq,
            "qvel": env.model.nv,
        }
        self.layout = Layout({name: ((size,), "float32") for name, size in sizes.items()})

    def episode(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        """One episode, of a primitive that succeeded."""
        while True:
            primitive = str(generator.choice(list(PRIMITIVES), p=list(PRIMITIVES.values())))
            stored = self._attempt(primitive, generator)
            if stored is not None:
                return stored

    def _attempt(
        self, primitive: str, generator: np.random.Generator
    ) -> dict[str, np.ndarray] | None:
        """An episode, or None where it is to be thrown away."""
        places = free_places(generator, 5, [(0, 4)])
        order = generator.permutation(4)
        mover = int(order[0])
        places[order], target = places[:4].copy(), places[4]
        opening, inside = 0.0, ()
        if primitive in ("put", "close") or (primitive == "move" and generator.uniform() < 0.4):
            opening = generator.uniform(OPEN, TRAVEL)
            if primitive == "move" and generator.uniform() < 0.5:
                inside = (int(order[1]),)
                places[order[1]] = in_drawer(opening)
        if primitive == "put":
            target = in_drawer(opening)
        hand, gripper = REST + generator.uniform([-0.04, -0.06, -0.03], [0.06, 0.04, 0.04]), 1.0
        if generator.uniform() < ANYWHERE:
            hand, gripper = generator.uniform(*ABOVE_ALL), float(generator.integers(2))
        yaws = generator.uniform(-0.15, 0.15, 4)
        self.env.arrange(Arrangement(places, yaws, opening, inside, tuple(hand.tolist()), gripper))
        start = self.env.state()
        if primitive in ("open", "close"):
            legs = _drawer(start, primitive)
        else:
            legs = _carry(start, mover, target, primitive == "put")
        stored = self._follow(legs, generator)
        if stored is None:
            return None
        seen = stored["observations"][:, THINGS]
        thing = slice(12, 13) if primitive in ("open", "close") else slice(3 * mover, 3 * mover + 3)
        others = np.delete(np.abs(seen - seen[0]), thing, axis=1)
        end = seen[-1]
        reached = {
            "open": end[-1] > OPEN + 0.005,
            "close": end[-1] < 0.01,
            "put": bool((np.abs(end[thing][:2] - target) < TRAY_HALF - 0.01).all()),
            "move": bool(np.linalg.norm(end[thing][:2] - target) < PLACED / 2),
        }[primitive]
        upright = primitive != "move" or abs(end[thing][2] - seen[0][thing][2]) < 0.005
        return stored if reached and upright and others.max() < BYSTANDER else None

    def _follow(
        self, legs: Iterator[_Leg], generator: np.random.Generator
    ) -> dict[str, np.ndarray] | None:
        """What is stored while the hand follows `legs`; None if that takes too long."""
        env, recipe = self.env, self.recipe
        pace = generator.uniform(0.4, 0.9)
        rows: dict[str, list[np.ndarray]] = {name: [] for name in self.layout.arrays}
        for leg in legs:
            for _ in range(leg.steps):
                if len(rows["actions"]) == recipe.steps - 1:
                    return None
                state = env.state()
                gap = leg.point - state[:3]
                if leg.until and np.linalg.norm(gap) < leg.until:
                    break
                wanted = np.concatenate([GAIN * gap, -GAIN * state[3:6]])
                bound = pace * MOST
                # One factor for all three, so that the hand goes straight.
                wanted[:3] /= max(1.0, float((np.abs(wanted[:3]) / bound[:3]).max()))
                spread = recipe.noise if leg.noisy else recipe.noise / 2
                wanted += generator.normal(0, spread, 6) * MOST
                # The rounded action is the one that acts, so that a table's actions replay exactly.
                clipped = np.clip(wanted, -MOST, MOST)
                action = np.append(clipped, leg.gripper).astype(np.float32)
                self._store(rows, action)
                env.step(action)
        self._store(rows, np.append(np.zeros(6), 1).astype(np.float32))
        return {name: np.stack(values) for name, values in rows.items()}

    def _store(self, rows: Mapping[str, list[np.ndarray]], action: np.ndarray) -> None:
        data = self.env.data
        rows["observations"].append(self.env.state())
        rows["actions"].append(action)
        rows["qpos"].append(data.qpos.astype(np.float32))
        rows["qvel"].append(data.qvel.astype(np.float32))


def _carry(state: np.ndarray, mover: int, target: np.ndarray, drop: bool) -> Iterator[_Leg]:
    """Grasp an object and put it down at `target`, or let it fall there."""
    here = state[7 + 3 * mover : 9 + 3 * mover]
    half = OBJECTS[mover][2][-1]
    grasp = min(half, 0.018)
    yield _Leg(np.append(here, ABOVE), 1.0, 0.025, noisy=True)
    yield _Leg(np.append(here, grasp), 1.0, 0.012)
    yield _Leg(np.append(here, grasp), 0.0, 0, 3)
    yield _Leg(np.append(here, ABOVE), 0.0, 0.025)
    yield _Leg(np.append(target, ABOVE), 0.0, 0.02, 16, noisy=True)
    down = 0.06 if drop else grasp + 0.004
    yield _Leg(np.append(target, down), 0.0, 0.01)
    yield _Leg(np.append(target, down), 1.0, 0, 2)
    yield _Leg(np.append(target, ABOVE), 1.0, 0.03)
    yield _Leg(REST, 1.0, 0.03, 16, noisy=True)


def _drawer(state: np.ndarray, primitive: str) -> Iterator[_Leg]:
    """Take the drawer by its handle, and pull or push it."""
    opening = float(state[DRAWER])
    end = TRAVEL if primitive == "open" else 0.0
    take, leave = (np.append(in_drawer(at), 0) + HANDLE for at in (opening, end))
    above = np.array([0, 0, ABOVE - HANDLE[2]])
    yield _Leg(take + above, 1.0, 0.02, 16, noisy=True)
    yield _Leg(take, 1.0, 0.012)
    yield _Leg(take, 0.0, 0, 3)
    yield _Leg(leave, 0.0, 0.012, 16)
    yield _Leg(leave, 1.0, 0, 2)
    yield _Leg(leave + above, 1.0, 0.03)
    yield _Leg(REST, 1.0, 0.03, 16, noisy=True)
