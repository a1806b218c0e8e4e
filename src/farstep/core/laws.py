"""Laws: which steps of a table a batch holds beside each of its rows.

A law draws steps for rows that stand somewhere in their episodes. It needs to know how far each
row is from both ends of its episode, and nothing else of the table. A new law is a subclass of
`Law`, or of `Ahead` if it stays in the row's future.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from farstep.core.rng import PRNGKey

Offsets = Int[Array, "batch *window"]
"""Steps from each row to what was drawn for it.

−1 says that a step drawn from the whole table is not known to lie in the row's future.
"""

WELL_ROUNDED = 0.999
"""Up to this discount, float32 holds log γ to 3e-5 of itself."""

LONGEST = 2.0**31 - 128
"""The largest float32 that an int32 holds."""


class Steps(eqx.Module):
    """Steps of a table, by their place in their episodes.

    Attributes:
        episode: number of the episode, from 0.
        step: steps since its first.
        left: steps until its last.
    """

    episode: Int[Array, "batch *window"]
    step: Int[Array, "batch *window"]
    left: Int[Array, "batch *window"]

    def moved(self, offsets: Offsets) -> Steps:
        """The steps `offsets` later, which must lie in the same episodes."""
        extra = (1,) * (offsets.ndim - self.step.ndim)
        episode, step, left = (
            leaf.reshape(leaf.shape + extra) for leaf in (self.episode, self.step, self.left)
        )
        return Steps(jnp.broadcast_to(episode, offsets.shape), step + offsets, left - offsets)


class Drawn(eqx.Module):
    """Steps drawn for each row, and how far from it they lie."""

    steps: Steps
    offsets: Offsets


class Law(abc.ABC):
    """A way to draw steps for rows."""

    @abc.abstractmethod
    def draw(
        self, key: PRNGKey, rows: Steps, left: Int[Array, " batch"], anywhere: Callable[[], Steps]
    ) -> Drawn:
        """Steps for `rows`.

        Args:
            key: key of these draws. A law takes the first of its two halves, a mixture's choice the
                second, so that a law draws the same alone and as a part.
            rows: step of each row.
            left: farthest step ahead: to the episode's last step, or to a cap.
            anywhere: draws steps uniformly from the whole table.
        """


@dataclass(frozen=True)
class Current(Law):
    """The row's own step."""

    def draw(
        self, key: PRNGKey, rows: Steps, left: Int[Array, " batch"], anywhere: Callable[[], Steps]
    ) -> Drawn:
        return Drawn(rows, jnp.zeros_like(rows.step))


@dataclass(frozen=True)
class AnyState(Law):
    """Any step of the table that is not the last of its episode, uniformly."""

    def draw(
        self, key: PRNGKey, rows: Steps, left: Int[Array, " batch"], anywhere: Callable[[], Steps]
    ) -> Drawn:
        steps = anywhere()
        itself = (steps.episode == rows.episode) & (steps.step == rows.step)
        return Drawn(steps, jnp.where(itself, 0, -1))


class Future(Law):
    """A later step of the row's episode, no farther than `left`."""

    @abc.abstractmethod
    def ahead(self, key: PRNGKey, left: Int[Array, " batch"]) -> Int[Array, " batch"]:
        """How far ahead; beyond `left` means `left`."""

    def draw(
        self, key: PRNGKey, rows: Steps, left: Int[Array, " batch"], anywhere: Callable[[], Steps]
    ) -> Drawn:
        law_key, _ = jax.random.split(key)
        offsets = jnp.minimum(self.ahead(law_key, left), left)
        return Drawn(rows.moved(offsets), offsets)


@dataclass(frozen=True)
class Ahead(Future):
    """The step `steps` ahead."""

    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps ahead must be at least 1: {self.steps}")

    def ahead(self, key: PRNGKey, left: Int[Array, " batch"]) -> Int[Array, " batch"]:
        return jnp.full_like(left, self.steps)


@dataclass(frozen=True)
class Geometric(Future):
    """K ~ Geom(1 − discount) on {1, 2, …}: P(K > k) = discount^k."""

    discount: float

    def __post_init__(self) -> None:
        if not 0 <= self.discount < 1:
            raise ValueError(f"the discount of a geometric law must be in [0, 1): {self.discount}")

    def ahead(self, key: PRNGKey, left: Int[Array, " batch"]) -> Int[Array, " batch"]:
        if self.discount == 0:
            return jnp.ones_like(left)
        if self.discount <= WELL_ROUNDED:
            uniform = jax.random.uniform(key, left.shape, minval=jnp.finfo(jnp.float32).tiny)
            steps = jnp.log(uniform) / jnp.log(self.discount)
        else:
            steps = exponential(key, left.shape) / -math.log(self.discount)
        return 1 + jnp.floor(jnp.minimum(steps, LONGEST)).astype(jnp.int32)


def exponential(key: PRNGKey, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """A standard exponential, fine near 0, where one uniform float32 has steps of 2⁻²³."""
    coarse, fine = jax.random.uniform(key, (2, *shape))
    return -jnp.log1p(-(coarse + 2.0**-23 * fine))


@dataclass(frozen=True)
class UniformFuture(Future):
    """Uniform over the rest of the episode, as OGBench has it.

    The step is `round(u·min(i+1, end) + (1−u)·end)`, so the next and the last are half as likely
    as those between.
    """

    def ahead(self, key: PRNGKey, left: Int[Array, " batch"]) -> Int[Array, " batch"]:
        nearest = jnp.minimum(1, left)
        uniform = jax.random.uniform(key, left.shape)
        # Relative to the row, because a float32 cannot hold the number of a far step.
        beyond = jnp.minimum(jnp.round(uniform * (left - nearest)), LONGEST)
        return nearest + beyond.astype(jnp.int32)


@dataclass(frozen=True)
class UniformAhead(Future):
    """Uniform on {1, …, most}, or on all steps up to the last or the cap."""

    most: int | None = None

    def __post_init__(self) -> None:
        if self.most is not None and self.most < 1:
            raise ValueError(f"a uniform law must reach at least 1 step ahead: {self.most}")

    def ahead(self, key: PRNGKey, left: Int[Array, " batch"]) -> Int[Array, " batch"]:
        most = left if self.most is None else self.most
        return jax.random.randint(key, left.shape, 1, most + 1)


@dataclass(frozen=True)
class AtLeast(Future):
    """The steps of another law, but no nearer than `steps`. Build one with `at_least`."""

    steps: int
    law: Future

    def ahead(self, key: PRNGKey, left: Int[Array, " batch"]) -> Int[Array, " batch"]:
        return jnp.maximum(self.law.ahead(key, left), self.steps)


def at_least(steps: int, law: Future) -> Future:
    """`law`, but no nearer than `steps`."""
    return law if steps == 1 else AtLeast(steps, law)


@dataclass(frozen=True)
class Window(Law):
    """The steps from `back` before to `ahead` after, in order: frames, or a chunk of actions.

    A place before the episode's first step holds the first. A place at its last step or beyond, or
    at a cap or beyond, holds the step before that, since the last step's action leads nowhere.
    `valid` tells places that hold their own step from those that do not.
    """

    back: int = 0
    ahead: int = 0

    def __post_init__(self) -> None:
        if self.back < 0 or self.ahead < 0:
            raise ValueError(f"a window must reach at least 0 steps back and ahead: {self}")

    @property
    def places(self) -> Int[Array, " window"]:
        """Offset of each place."""
        return jnp.arange(-self.back, self.ahead + 1)

    def valid(self, offsets: Int[Array, "batch window"]) -> Array:
        """Which places hold their own step, (batch, window) booleans."""
        return offsets == self.places

    def draw(
        self, key: PRNGKey, rows: Steps, left: Int[Array, " batch"], anywhere: Callable[[], Steps]
    ) -> Drawn:
        return self.around(rows, left)

    def around(self, rows: Steps, left: Int[Array, "batch *window"]) -> Drawn:
        """The windows of `rows`; nothing is random."""
        last = jnp.maximum(left - 1, 0)
        offsets = jnp.clip(self.places, -rows.step[..., None], last[..., None])
        return Drawn(rows.moved(offsets), offsets)


@dataclass(frozen=True)
class Mixture(Law):
    """One of several laws for each row, by their probabilities. Build one with `mixture`."""

    parts: tuple[tuple[float, Law], ...]

    def draw(
        self, key: PRNGKey, rows: Steps, left: Int[Array, " batch"], anywhere: Callable[[], Steps]
    ) -> Drawn:
        _, choice_key = jax.random.split(key)
        choice = jax.random.uniform(choice_key, rows.step.shape)
        probabilities, laws = zip(*self.parts, strict=True)
        *others, drawn = (law.draw(key, rows, left, anywhere) for law in laws)
        for index in reversed(range(len(others))):
            chosen = choice < sum(probabilities[: index + 1])
            drawn = jax.tree.map(
                lambda part, rest, chosen=chosen: jnp.where(chosen, part, rest),
                others[index],
                drawn,
            )
        return drawn


def mixture(*parts: tuple[float, Law]) -> Law:
    """One law for each row, by pairs of (probability, law).

    Raises:
        ValueError: the probabilities are negative or do not sum to 1, or a part is a window.
    """
    probabilities = [probability for probability, _ in parts]
    if min(probabilities) < 0 or not math.isclose(sum(probabilities), 1.0):
        raise ValueError(f"probabilities of a mixture must be ≥ 0 and sum to 1: {probabilities}")
    if any(isinstance(law, Window) for _, law in parts):
        raise ValueError("a window cannot be mixed with single steps: each must have its own name")
    possible = tuple((probability, law) for probability, law in parts if probability > 0)
    return possible[0][1] if len(possible) == 1 else Mixture(possible)
