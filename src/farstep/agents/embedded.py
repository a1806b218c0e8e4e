"""The distance of agents that have an ensemble of MRNs between embeddings φ(s, a) and ψ(s)."""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from farstep.agents.base import Distance, Observations
from farstep.core.types import Params
from farstep.quasimetrics import mrn_both_ways, pairwise_mrn, rowwise_mrn


class EmbeddedDistance:
    """What `Agent` says of a distance, from `params.critic`, a `StateActionEmbedding`.

    Attributes:
        discount: γ, the distance's unit: a step costs −log γ nats.
        groups: of the quasimetric.
        scale: nats in one unit of MRN.
    """

    discount: float
    groups: int
    has_distance: ClassVar[bool] = True

    @property
    def scale(self) -> float:
        """One, unless an agent says otherwise."""
        return 1.0

    def distance(
        self,
        params: Params,
        observations: Observations,
        goals: Observations,
        actions: Array | None = None,
    ) -> Distance:
        """Mean over the ensemble of d(ψ(s), ψ(g)), or of d(φ(s, a), ψ(g)) given actions."""
        starts = self.embed(params, observations)
        if actions is not None:
            starts = jnp.moveaxis(params.critic.phi(observations, actions), 0, 1)
        return self.between(params, starts, self.embed(params, goals))

    def embed(
        self, params: Params, observations: Observations
    ) -> Float[Array, "batch members latent"]:
        """ψ(s) of every member."""
        return jnp.moveaxis(params.critic.psi(observations), 0, 1)

    def between(
        self,
        params: Params,
        starts: Float[Array, "batch members latent"],
        goals: Float[Array, "batch members latent"],
    ) -> Distance:
        """Mean over the ensemble of d(ψ(s_i), ψ(g_i))."""
        return self._in_steps(rowwise_mrn(starts, goals, self.groups), member_axis=1)

    def both_ways(
        self,
        params: Params,
        starts: Float[Array, "#batch members latent"],
        goals: Float[Array, "#batch members latent"],
    ) -> tuple[Distance, Distance]:
        """`between` and the way back, in little more time than one of them."""
        there, back = mrn_both_ways(starts, goals, self.groups)
        return self._in_steps(there, member_axis=1), self._in_steps(back, member_axis=1)

    def pairwise(
        self,
        params: Params,
        starts: Float[Array, "batch members latent"],
        goals: Float[Array, "goals members latent"],
    ) -> Distance:
        """Mean over the ensemble of d(ψ(s_i), ψ(g_j))."""
        x, y = jnp.moveaxis(starts, 1, 0), jnp.moveaxis(goals, 1, 0)
        if 1 in (len(starts), len(goals)):
            # One row's differences are no more than its goals, and need no tiles of pairs.
            return self._in_steps(rowwise_mrn(x[:, :, None], y[:, None], self.groups))
        return self._in_steps(pairwise_mrn(x, y, self.groups))

    def _in_steps(self, distances: Float[Array, "..."], member_axis: int = 0) -> Distance:
        return Distance.from_nats(self.scale * jnp.mean(distances, member_axis), self.discount)
