"""Batches and the declarations that ask for them.

An agent declares which steps it needs beside each row, by which law, and what it reads of them, as
a `BatchSpec`; the sampler builds exactly that. What is not asked for is absent, not ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from farstep.core.errors import FarstepError
from farstep.core.goals import WHOLE, GoalRule
from farstep.core.laws import Law

Params = Any
"""A pytree of arrays: what an agent acts with."""

Scalar = float | Float[Array, ""]
"""A number that may be traced."""

Metrics = dict[str, Float[Array, ""]]
"""Scalars named `term/quantity`, as they stand in `metrics.jsonl`."""


Column = Literal["observations", "goals", "actions"]
"""What a step of the table gives."""

GOALS: tuple[Column, ...] = ("goals",)
"""What a goal's sample reads."""

CURRENT = "current"
"""The row itself, which every batch has: its observation, the goal that it is, its action."""


@dataclass(frozen=True)
class Sample:
    """What a batch holds under one name.

    Attributes:
        law: which step.
        reads: what is read there.
        cap: name of a sample that this one must not lie beyond. A cap that is not known to lie in
            the row's future caps nothing.
        around: name of the sample that the law starts from, by default the row itself.
    """

    law: Law
    reads: tuple[Column, ...] = ("observations",)
    cap: str | None = None
    around: str = CURRENT

    def __post_init__(self) -> None:
        if self.cap is not None and self.around != CURRENT:
            raise ValueError(f"a cap is counted from the row, and so must this be: {self}")


@dataclass(frozen=True)
class BatchSpec:
    """What one update needs.

    Attributes:
        size: rows B of a batch.
        samples: what it holds beside the rows themselves, by name. A name also chooses the random
            stream of its law. A sample's cap, and what it lies around, must come before it.
        crops: probability that all images of a batch are randomly cropped; 0 for vectors.
    """

    size: int
    samples: Mapping[str, Sample] = field(default_factory=dict)
    crops: float = 0.0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"a batch needs at least one row: {self.size}")
        if not 0 <= self.crops <= 1:
            raise ValueError(f"crops must be a probability, in [0, 1]: {self.crops}")
        known = [CURRENT]
        for name, sample in self.samples.items():
            for other in {sample.cap, sample.around} - {None}:
                if other not in known:
                    raise ValueError(f"'{name}' needs '{other}', which must be asked for before it")
            if name in known:
                raise ValueError(f"'{name}' is the row itself: a sample must have another name")
            known.append(name)

    def reads(self, *, whole: bool) -> dict[str, tuple[Column, ...]]:
        """What is read under each name, the rows' own first.

        Args:
            whole: goals are observations, so that nothing is read twice.
        """
        own: dict[str, tuple[Column, ...]] = {CURRENT: ("observations", "goals", "actions")}
        reads = own | {name: sample.reads for name, sample in self.samples.items()}
        if not whole:
            return reads
        return {
            name: tuple(c for c in columns if c != "goals" or "observations" not in columns)
            for name, columns in reads.items()
        }


class Sampled(eqx.Module):
    """What was drawn under one name.

    `offsets` is how many steps from its row each lies: −1 where it is not known to lie in the row's
    future (a random state), and 0 where it is the row's own. Of a window, all have an axis more.
    """

    offsets: Int[Array, "batch *window"]
    columns: dict[str, Array]

    @property
    def observations(self) -> Array:
        """(B, *observation shape) in the table's dtype."""
        return self.columns["observations"]

    @property
    def goals(self) -> Array:
        """(B, *goal shape): the goals that these states are."""
        return self.columns["goals" if "goals" in self.columns else "observations"]

    @property
    def actions(self) -> Array:
        """(B, A) floats, or (B,) integers."""
        return self.columns["actions"]


class Batch(eqx.Module):
    """B valid steps of the table, and what the `BatchSpec` asked for beside them, by name."""

    samples: dict[str, Sampled]

    def __getitem__(self, name: str) -> Sampled:
        return self.samples[name]

    @property
    def observations(self) -> Array:
        """The rows' own."""
        return self[CURRENT].observations

    @property
    def goals(self) -> Array:
        """Those that the rows' own states are."""
        return self[CURRENT].goals

    @property
    def actions(self) -> Array:
        """The rows' own."""
        return self[CURRENT].actions

    @classmethod
    def of(cls, observations: Array, actions: Array, samples: Mapping[str, Sampled]) -> Batch:
        """A batch made by hand."""
        columns = {"observations": observations, "actions": actions}
        own = Sampled(jnp.zeros(len(observations), jnp.int32), columns)
        return cls({CURRENT: own, **samples})


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
        encoder: name of what makes features of it in networks; the kind's own where it is empty.

    Raises:
        FarstepError: the shape is not one of the kind's, or an image is not of bytes.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    kind: Kind = "vector"
    encoder: str = ""

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
    """What an agent's networks are built for.

    Attributes:
        rule: how a goal is made.
    """

    observation: Space
    goal: Space
    action: Actions
    rule: GoalRule = WHOLE

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
