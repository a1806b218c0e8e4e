"""The temporal distance that a method has learned.

Planning, serving and evaluation take a `Metric` from `agent.metric(params)` and know nothing of the
networks behind it.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from farstep.core.errors import FarstepError
from farstep.core.types import Arrays, size_of
from farstep.losses.values import value_to_nats
from farstep.networks.critics import StateActionEmbedding
from farstep.networks.encoders import Goals, Observations
from farstep.quasimetrics import (
    in_lanes,
    mrn_both_ways,
    out_of_lanes,
    pairwise_mrn,
    rowwise_mrn,
)


class Distance(NamedTuple):
    """A temporal distance in two units: nats (d) and environment steps (d / −log γ)."""

    nats: Float[Array, " *batch"]
    steps: Float[Array, " *batch"]

    @classmethod
    def from_nats(cls, nats: Float[Array, " *batch"], discount: float) -> Distance:
        """Both units of a distance in nats."""
        return cls(nats, nats / -math.log(discount))

    @classmethod
    def from_steps(cls, steps: Float[Array, " *batch"], discount: float) -> Distance:
        """Both units of a distance in environment steps."""
        return cls(steps * -math.log(discount), steps)


class Formula(NamedTuple):
    """How the steps between two states follow from their embeddings, to be computed elsewhere.

    They are `steps` times the mean over an ensemble of MRN or IQE.

    Attributes:
        quasimetric: distance of embeddings (members, latent).
        groups: that the latent axis is cut into.
        steps: environment steps in one unit of the quasimetric.
        alpha: IQE's weight of the mean over groups against the largest.
    """

    quasimetric: Literal["mrn", "iqe"]
    groups: int
    steps: float
    alpha: float = 0.0


class Metric(eqx.Module):
    """The temporal distance of trained networks; a pytree of the networks that it needs.

    A distance is one between embeddings, which are computed once for each state. They are
    (B, members, latent) where the method has such embeddings. Where a network computes the distance
    of each pair, the states are their own embeddings.
    """

    @abc.abstractmethod
    def embed(self, observations: Observations) -> Any:
        """Embeddings of states to start from, (B, …)."""

    @abc.abstractmethod
    def embed_goal(self, goals: Goals) -> Any:
        """Embeddings of goals, (B, …)."""

    @abc.abstractmethod
    def distance(self, starts: Array, goals: Array) -> Distance:
        """From each start to its own goal, (B,); given embeddings, of which one alone serves all.

        The mean, where the method has an ensemble.
        """

    @abc.abstractmethod
    def pairwise(self, starts: Array, goals: Array) -> Distance:
        """From every start to every goal, (B, C); given embeddings."""

    @property
    def formula(self) -> Formula | None:
        """The formula of `distance`; None where a network computes it of pairs."""
        return None

    def after(self, observations: Observations, actions: Array, goals: Goals) -> Distance:
        """From each state to its own goal, (B,), once this action is taken there.

        Raises:
            FarstepError: the method values states alone.
        """
        raise FarstepError(
            "This method values states, not actions: ask for its distance without them."
        )

    def laid_out(self, embeddings: Array) -> Array:
        """The embeddings in the layout of `both_ways`."""
        return embeddings

    def embeddings(self, laid_out: Array) -> Array:
        """The inverse of `laid_out`."""
        return laid_out

    def both_ways(self, starts: Array, goals: Array) -> tuple[Distance, Distance]:
        """`distance` and the way back, of what `laid_out` gave."""
        return self.distance(starts, goals), self.distance(goals, starts)


class PairMetric(Metric):
    """A distance that networks compute of each pair of states."""

    @abc.abstractmethod
    def between(self, observations: Observations, goals: Goals) -> Distance:
        """From each state to its own goal, (B,)."""

    def embed(self, observations: Observations) -> Observations:
        return observations

    def embed_goal(self, goals: Goals) -> Goals:
        return goals

    def distance(self, starts: Arrays, goals: Arrays) -> Distance:
        rows = max(size_of(starts), size_of(goals))
        return self.between(
            *jax.tree.map(lambda x: jnp.broadcast_to(x, (rows, *x.shape[1:])), (starts, goals))
        )

    def pairwise(self, starts: Arrays, goals: Arrays) -> Distance:
        return one_by_one(self.distance, starts, goals)


class ValueMetric(PairMetric):
    """The steps whose discounted cost a value is, of −1 a step until the goal.

    Attributes:
        value: V(s, g) of each member.
        discount: γ.
        critic: Q(s, a, g) of each member, for the distance after an action.
    """

    value: Callable[[Observations, Goals], Float[Array, "members batch"]]
    discount: float = eqx.field(static=True)
    critic: Callable[[Observations, Goals, Array], Array] | None = None

    def between(self, observations: Observations, goals: Goals) -> Distance:
        return self._steps(self.value(observations, goals))

    def after(self, observations: Observations, actions: Array, goals: Goals) -> Distance:
        if self.critic is None:
            return super().after(observations, actions, goals)
        return self._steps(self.critic(observations, goals, actions))

    def _steps(self, values: Float[Array, "members batch"]) -> Distance:
        nats = value_to_nats(jnp.mean(values, axis=0), self.discount)
        return Distance.from_nats(nats, self.discount)


class MRNMetric(Metric):
    """The mean over an ensemble of MRNs between φ(s, a) or ψ(s), and ψ(g).

    Attributes:
        critic: φ and ψ.
        discount: γ: a step costs −log γ nats.
        groups: number of groups of the quasimetric.
        scale: nats in one unit of MRN.
    """

    critic: StateActionEmbedding
    discount: float = eqx.field(static=True)
    groups: int = eqx.field(static=True)
    scale: float = eqx.field(static=True, default=1.0)

    @property
    def formula(self) -> Formula:
        return Formula("mrn", self.groups, self.scale / -math.log(self.discount))

    def embed(self, observations: Observations) -> Float[Array, "batch members latent"]:
        """ψ(s)."""
        return jnp.moveaxis(self.critic.psi(observations), 0, 1)

    def embed_goal(self, goals: Goals) -> Float[Array, "batch members latent"]:
        """ψ_g(g), which is ψ where goals are observations."""
        return jnp.moveaxis(self.critic.psi_goal(goals), 0, 1)

    def distance(
        self,
        starts: Float[Array, "#batch members latent"],
        goals: Float[Array, "#batch members latent"],
    ) -> Distance:
        x, y = self.laid_out(starts), self.laid_out(goals)
        return self._in_steps(rowwise_mrn(x, y, self.groups))

    def after(self, observations: Observations, actions: Array, goals: Goals) -> Distance:
        """d(φ(s, a), ψ(g))."""
        phi = jnp.moveaxis(self.critic.phi(observations, actions), 0, 1)
        return self.distance(phi, self.embed_goal(goals))

    def laid_out(
        self, embeddings: Float[Array, "batch members latent"]
    ) -> Float[Array, "batch half 2 lanes"]:
        return in_lanes(embeddings, self.groups)

    def embeddings(
        self, laid_out: Float[Array, "batch half 2 lanes"]
    ) -> Float[Array, "batch members latent"]:
        return out_of_lanes(laid_out, self.groups)

    def both_ways(
        self,
        starts: Float[Array, "#batch half 2 lanes"],
        goals: Float[Array, "#batch half 2 lanes"],
    ) -> tuple[Distance, Distance]:
        """In little more time than one of the ways."""
        there, back = mrn_both_ways(starts, goals, self.groups)
        return self._in_steps(there), self._in_steps(back)

    def pairwise(
        self,
        starts: Float[Array, "batch members latent"],
        goals: Float[Array, "goals members latent"],
    ) -> Distance:
        if 1 in (len(starts), len(goals)):
            # One row's differences are no more than its goals, and need no tiles of pairs.
            x, y = self.laid_out(starts), self.laid_out(goals)
            return self._in_steps(rowwise_mrn(x[:, None], y, self.groups))
        x, y = jnp.moveaxis(starts, 1, 0), jnp.moveaxis(goals, 1, 0)
        return self._in_steps(pairwise_mrn(x, y, self.groups).mean(axis=0))

    def _in_steps(self, distances: Float[Array, "..."]) -> Distance:
        return Distance.from_nats(self.scale * distances, self.discount)


def one_by_one(distance: Callable[[Any, Any], Distance], starts: Arrays, goals: Arrays) -> Distance:
    """All pairs from a distance of one with many: so only the rows of one are held at a time."""

    def alone(row: Arrays) -> Arrays:
        return jax.tree.map(lambda array: array[None], row)

    if size_of(goals) < size_of(starts):
        to_one = jax.lax.map(lambda goal: distance(starts, alone(goal)), goals)
        return jax.tree.map(jnp.transpose, to_one)
    return jax.lax.map(lambda start: distance(alone(start), goals), starts)
