"""Batches and the declarations that ask for them.

An agent declares which goals, waypoints and successors it needs, and by which law, as a
`BatchSpec`; the sampler builds exactly that. What is not asked for is absent, not ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Int

from farstep.core.errors import FarstepError

Params = Any
"""A pytree of arrays: what an agent acts with."""

Scalar = float | Float[Array, ""]
"""A number that may be traced."""

Metrics = dict[str, Float[Array, ""]]
"""Scalars named `term/quantity`, as they stand in `metrics.jsonl`."""


@dataclass(frozen=True)
class GoalSpec:
    """A mixture of goal laws: the state itself, a future state of its episode, any state.

    Attributes:
        current: probability that the goal is the state itself.
        future: probability of a later state of the same episode.
        random: probability of a uniformly drawn valid step of the table.
        law: `geometric`, offset `min(Geom(1 - discount), steps left)`, or `uniform`, index
            `round(u·min(i+1, end) + (1-u)·end)`.
        discount: γ of the geometric law.
    """

    current: float = 0.0
    future: float = 1.0
    random: float = 0.0
    law: Literal["geometric", "uniform"] = "geometric"
    discount: float = 0.99

    def __post_init__(self) -> None:
        if min(self.current, self.future, self.random) < 0 or not np.isclose(
            self.current + self.future + self.random, 1.0
        ):
            raise ValueError(f"goal probabilities must be ≥ 0 and sum to 1: {self}")
        if not 0 <= self.discount < 1:
            raise ValueError(f"discount must be in [0, 1): {self.discount}")


WaypointLaw = Literal["mixture", "geometric", "uniform", "uniform-50", "constant-50", "constant-1"]
"""The rows of Table 1b of MQE; `mixture` is its Eq. 8."""


@dataclass(frozen=True)
class WaypointSpec:
    """A state between the current one and one of its goals (MQE, Eq. 8 and Table 1b).

    Attributes:
        goal: name of the goal that caps the offset; that goal must always lie in the future.
        law: `mixture` takes offset 1 with probability `one_step`, else `geometric`, which is
            `Geom(1 - lambda_)`; `uniform` on [1, k_g], `uniform-50` on [1, 50], or a constant.
            All are capped by the goal's own offset k_g.
        lambda_: λ of the geometric law.
        one_step: p of the mixture.
    """

    goal: str = "value"
    law: WaypointLaw = "mixture"
    lambda_: float = 0.95
    one_step: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.lambda_ < 1:
            raise ValueError(f"lambda_ must be in [0, 1): {self.lambda_}")
        if not 0 <= self.one_step <= 1:
            raise ValueError(f"one_step must be in [0, 1]: {self.one_step}")


@dataclass(frozen=True)
class BatchSpec:
    """What one update needs.

    Attributes:
        size: rows B of a batch.
        goals: goal law by name.
        waypoint: the waypoint law, if the agent uses waypoints.
        successors: offsets h ≥ 1 by name; each gives the state `min(i + h, end)`.
        capped_by: for a successor's name, the goal that it must not lie beyond; a goal that does
            not lie in the row's future caps nothing.
        crops: probability that all images of a batch are randomly cropped; 0 for vectors.
    """

    size: int
    goals: Mapping[str, GoalSpec] = field(default_factory=dict)
    waypoint: WaypointSpec | None = None
    successors: Mapping[str, int] = field(default_factory=dict)
    capped_by: Mapping[str, str] = field(default_factory=dict)
    crops: float = 0.0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"a batch needs at least one row: {self.size}")
        if not 0 <= self.crops <= 1:
            raise ValueError(f"crops must be a probability, in [0, 1]: {self.crops}")
        if self.waypoint is not None:
            goal = self.goals.get(self.waypoint.goal)
            if goal is None or goal.future != 1.0:
                raise ValueError(f"waypoints need a goal '{self.waypoint.goal}' with future = 1")
        for successor, goal in self.capped_by.items():
            if successor not in self.successors or goal not in self.goals:
                raise ValueError(f"'{successor}' capped by '{goal}': both must be asked for")


class Sampled(eqx.Module):
    """States drawn for each row, and how many steps ahead of it they lie.

    `offsets` is −1 where the state is not known to lie in the row's future (a random goal), and 0
    where it is the row's own state.
    """

    observations: Array
    offsets: Int[Array, " batch"]


class Batch(eqx.Module):
    """B valid steps of the table with what the `BatchSpec` asked for.

    `observations` is (B, *observation shape) in the table's dtype, `actions` (B, A) floats or
    (B,) integers.
    """

    observations: Array
    actions: Array
    goals: dict[str, Sampled] = eqx.field(default_factory=dict)
    waypoint: Sampled | None = None
    successors: dict[str, Sampled] = eqx.field(default_factory=dict)


Kind = Literal["vector", "image"]
"""What an array is to a network: numbers side by side, or pixels."""


@dataclass(frozen=True)
class Space:
    """One observation, one goal, or one part of either.

    The kind is declared, since neither shape nor type tells it: a row of bytes is a vector, and an
    image may be of floats elsewhere.

    Attributes:
        shape: (D,) of a vector, (H, W, C) of an image.
        dtype: `float32` or `uint8`, as the data hold it.
        kind: `vector` or `image`.

    Raises:
        FarstepError: the shape is not one of the kind's, or an image is not of bytes.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    kind: Kind = "vector"

    def __post_init__(self) -> None:
        if len(self.shape) != {"vector": 1, "image": 3}[self.kind]:
            raise FarstepError(
                f"Observations of shape {self.shape}, declared {self.kind}s, are neither vectors"
                " (D,) nor images (H, W, C)."
            )
        if self.kind == "image" and self.dtype != "uint8":
            raise FarstepError(f"Images are of uint8, in [0, 255], and these are of {self.dtype}.")

    def __str__(self) -> str:
        return f"{self.kind}s, {self.dtype} {self.shape}"


@dataclass(frozen=True)
class Actions:
    """The actions of an environment.

    Attributes:
        size: dimensions of a continuous action, or number of discrete actions.
        discrete: whether actions are integers in [0, size), rather than vectors in [−1, 1].
    """

    size: int
    discrete: bool = False


@dataclass(frozen=True)
class Spaces:
    """What an agent's networks are built for."""

    observation: Space
    goal: Space
    action: Actions

    @classmethod
    def of(cls, observation: Space, action: Actions) -> Spaces:
        """Spaces where a goal is a whole observation."""
        return cls(observation, observation, action)


class BatchPolicy(Protocol):
    """What the evaluator drives: one call per step for all running episodes.

    A slot is a row of the batch; `begin` says that new episodes start in `slots` (row indices),
    so that a policy with memory (a plan) can forget the old ones. `end` says that there is no
    episode in `slots`: `act` is given their rows all the same, and nobody reads the answer.
    """

    def begin(
        self, slots: Int[np.ndarray, " n"], observations: np.ndarray, goals: np.ndarray
    ) -> None: ...

    def end(self, slots: Int[np.ndarray, " n"]) -> None: ...

    def act(self, observations: np.ndarray, goals: np.ndarray) -> np.ndarray: ...
