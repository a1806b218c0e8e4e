"""Batches and the declarations that ask for them.

An agent declares which steps it needs beside each row, by which law, and what it reads of them, as
a `BatchSpec`; the sampler builds exactly that. What is not asked for is absent, not ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from farstep.core.errors import FarstepError
from farstep.core.goals import WHOLE, GoalRule
from farstep.core.laws import Law

Params = Any
"""The networks of an agent, a pytree of arrays."""

Scalar = float | Float[Array, ""]
"""A number that may be traced."""

Metrics = dict[str, Float[Array, ""]]
"""Scalars named `term/quantity`, as they stand in `metrics.jsonl`."""

Loss = tuple[Float[Array, ""], Metrics]
"""A scalar to descend, and the terms that it is made of."""

Column = Literal["observations", "goals", "actions"]
"""A column of a table."""

GOALS: tuple[Column, ...] = ("goals",)
"""The columns that a sample of goals reads."""

CURRENT = "current"
"""The row itself, which every batch has: its observation, the goal that it is, its action."""

CHUNK = "chunk"
"""The actions from the row's own on, where an agent acts by chunks of them. The batch then holds
no action of the row alone."""


Augmentation = Literal["none", "bridge"]
"""Of training images: `bridge` is a resized crop and changes of colour, as for BridgeData V2."""


@dataclass(frozen=True)
class Sample:
    """A named part of a batch.

    Attributes:
        law: law of the step.
        reads: columns that are read there.
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
    """The contents of a batch, for one update.

    Attributes:
        size: rows B of a batch.
        samples: what it holds beside the rows themselves, by name. A name also chooses the random
            stream of its law. A sample's cap, and what it lies around, must come before it.
        crops: probability that all images of a batch are randomly cropped; 0 for vectors.
        augmentation: further changes of its images.
    """

    size: int
    samples: Mapping[str, Sample] = field(default_factory=dict)
    crops: float = 0.0
    augmentation: Augmentation = "none"

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
        """The columns read for each name, the rows' own first.

        Args:
            whole: goals are observations, so that nothing is read twice.
        """
        own: tuple[Column, ...] = ("observations", "goals", "actions")
        if CHUNK in self.samples:
            own = ("observations", "goals")
        reads = {CURRENT: own} | {name: sample.reads for name, sample in self.samples.items()}
        if not whole:
            return reads
        return {
            name: tuple(c for c in columns if c != "goals" or "observations" not in columns)
            for name, columns in reads.items()
        }


class Sampled(eqx.Module):
    """One named part of a batch, as drawn.

    `offsets` is how many steps from its row each lies: −1 where it is not known to lie in the row's
    future (a random state), and 0 where it is the row's own. Of a window, all have an axis more.
    """

    offsets: Int[Array, "batch *window"]
    columns: dict[str, Any]

    @property
    def observations(self) -> Any:
        """(B, *observation shape) in the table's dtype, or a dict of such arrays."""
        return self.columns["observations"]

    @property
    def goals(self) -> Any:
        """(B, *goal shape): the goals that these states are, or a dict of such arrays."""
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
    def observations(self) -> Any:
        """The rows' own."""
        return self[CURRENT].observations

    @property
    def goals(self) -> Any:
        """The goals that the rows' own states are."""
        return self[CURRENT].goals

    @property
    def actions(self) -> Array:
        """The rows' own; of chunks, h actions end to end, (B, h·A)."""
        if CHUNK not in self.samples:
            return self[CURRENT].actions
        return self[CHUNK].actions.reshape(len(self.observations), -1)

    @property
    def done(self) -> Bool[Array, "batch chunk"] | None:
        """Which actions of each chunk were done before its episode ended; None without chunks."""
        if CHUNK not in self.samples:
            return None
        offsets = self[CHUNK].offsets
        return offsets == jnp.arange(offsets.shape[-1])

    @classmethod
    def from_arrays(
        cls, observations: Any, actions: Array, samples: Mapping[str, Sampled]
    ) -> Batch:
        """A batch made by hand."""
        columns = {"observations": observations, "actions": actions}
        own = Sampled(jnp.zeros(len(actions), jnp.int32), columns)
        return cls({CURRENT: own, **samples})


Kind = Literal["vector", "image", "keys"]
"""The kind of an observation: a vector, an image, or several named arrays."""

Arrays = Array | dict[str, Array]
"""An array, or several by name."""


def size_of(arrays: Any) -> int:
    """Rows of a batch: of an array, or of several by name."""
    return len(jax.tree.leaves(arrays)[0])


@dataclass(frozen=True)
class Space:
    """One observation, one goal, or one part of either.

    The kind is declared, since neither shape nor type tells it: a row of bytes is a vector, and an
    image may be of floats elsewhere.

    Attributes:
        shape: (D,) of a vector, (H, W, C) of an image; () of several arrays.
        dtype: `float32` or `uint8`, as the data hold it; empty of several arrays.
        kind: `vector` or `image`, or `keys` of several arrays.
        keys: these by name.
        encoder: name of what makes features of it in networks; the kind's own where it is empty.

    Raises:
        FarstepError: the shape is not one of the kind's, or an image is not of bytes.
    """

    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    kind: Kind = "vector"
    keys: Mapping[str, Space] = field(default_factory=dict, hash=False)
    encoder: str = ""

    def __post_init__(self) -> None:
        if self.kind == "keys":
            if not self.keys or self.shape or self.dtype:
                raise FarstepError("Several arrays have names, and no shape or type in common.")
            return
        if len(self.shape) != {"vector": 1, "image": 3}[self.kind]:
            raise FarstepError(
                f"Observations of shape {self.shape}, declared {self.kind}s, are neither vectors"
                " (D,) nor images (H, W, C)."
            )
        if self.kind == "image" and self.dtype != "uint8":
            raise FarstepError(f"Images are of uint8, in [0, 255], and these are of {self.dtype}.")

    def __str__(self) -> str:
        if self.kind == "keys":
            return "; ".join(f"'{name}': {space}" for name, space in self.keys.items())
        return f"{self.kind}s, {self.dtype} {self.shape}"

    @classmethod
    def several(cls, keys: Mapping[str, Space]) -> Space:
        """Several arrays by name."""
        return cls((), "", "keys", dict(keys))

    @property
    def arrays(self) -> Mapping[str, Space]:
        """The arrays by name, or the one array under an empty name."""
        return self.keys or {"": self}

    @property
    def kinds(self) -> set[Kind]:
        """The kinds of its arrays."""
        return {space.kind for space in self.arrays.values()}

    @property
    def row(self) -> np.dtype[Any]:
        """NumPy's type of one observation: `np.empty(n, space.row)` holds n of them."""
        if self.keys:
            return np.dtype([(name, space.row) for name, space in self.keys.items()])
        return np.dtype((self.dtype, self.shape))

    def batch(self, size: int) -> Any:
        """`size` of them as networks see them, as `ShapeDtypeStruct`s."""
        if self.keys:
            return {name: space.batch(size) for name, space in self.keys.items()}
        return jax.ShapeDtypeStruct((size, *self.shape), self.dtype)

    def map(self, change: Callable[[Space], Space]) -> Space:
        """Each array's space changed."""
        if not self.keys:
            return change(self)
        return Space.several({name: change(space) for name, space in self.keys.items()})


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
    """The spaces that an agent's networks are built for.

    Attributes:
        observation: space of observations; of stacked frames, if there are several.
        rule: rule by which a goal is made.
        frames: an episode's last observations that are seen as one, this many.
    """

    observation: Space
    goal: Space
    action: Actions
    rule: GoalRule = WHOLE
    frames: int = 1

    def stacked(self, frames: int) -> Spaces:
        """The spaces where `frames` single frames are stacked.

        Raises:
            FarstepError: fewer than one.
        """
        if frames < 1:
            raise FarstepError(f"--frames must be at least 1, not {frames}.")
        wide = self.observation.map(lambda space: _with_last(space, space.shape[-1] * frames))
        goal = wide if self.rule.whole else self.goal
        return replace(self, observation=wide, goal=goal, frames=frames)

    @property
    def frame(self) -> Space:
        """One frame, as an environment gives it."""
        return self.observation.map(lambda space: _with_last(space, space.shape[-1] // self.frames))

    @classmethod
    def from_observation(cls, observation: Space, action: Actions) -> Spaces:
        """Spaces where a goal is a whole observation."""
        return cls(observation, observation, action)


def _with_last(space: Space, size: int) -> Space:
    return replace(space, shape=(*space.shape[:-1], size))


class BatchPolicy(Protocol):
    """A policy as the evaluator calls it: once per step for all running episodes.

    A slot is a row of the batch; `begin` says that new episodes start in `slots` (row indices),
    so that a policy with memory (a plan) can forget the old ones. `end` says that there is no
    episode in `slots`: `act` still gets their rows, and its answer for them is not read.
    """

    def begin(
        self, slots: Int[np.ndarray, " n"], observations: np.ndarray, goals: np.ndarray
    ) -> None: ...

    def end(self, slots: Int[np.ndarray, " n"]) -> None: ...

    def act(self, observations: np.ndarray, goals: np.ndarray) -> np.ndarray: ...
