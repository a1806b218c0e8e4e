"""The distance of agents that have an ensemble of MRNs between embeddings φ(s, a) and ψ(s)."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Array, Float

from farstep.agents.base import Distance, Observations
from farstep.core.types import Params
from farstep.quasimetrics import (
    in_lanes,
    mrn_both_ways,
    out_of_lanes,
    pairwise_mrn,
    rowwise_mrn,
)


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
            starts = in_lanes(params.critic.phi(observations, actions), self.groups)
        return self.between(params, starts, self.embed(params, goals))

    def embed(
        self, params: Params, observations: Observations
    ) -> Float[Array, "batch half 2 lanes"]:
        """ψ(s) of every member, in lanes."""
        return in_lanes(params.critic.psi(observations), self.groups)

    def between(
        self,
        params: Params,
        starts: Float[Array, "#batch half 2 lanes"],
        goals: Float[Array, "#batch half 2 lanes"],
    ) -> Distance:
        """Mean over the ensemble of d(ψ(s_i), ψ(g_i))."""
        return self._in_steps(rowwise_mrn(starts, goals, self.groups))

    def both_ways(
        self,
        params: Params,
        starts: Float[Array, "#batch half 2 lanes"],
        goals: Float[Array, "#batch half 2 lanes"],
    ) -> tuple[Distance, Distance]:
        """`between` and the way back, in little more time than one of them."""
        there, back = mrn_both_ways(starts, goals, self.groups)
        return self._in_steps(there), self._in_steps(back)

    def pairwise(
        self,
        params: Params,
        starts: Float[Array, "batch half 2 lanes"],
        goals: Float[Array, "goals half 2 lanes"],
    ) -> Distance:
        """Mean over the ensemble of d(ψ(s_i), ψ(g_j))."""
        if 1 in (len(starts), len(goals)):
            # One row's differences are no more than its goals, and need no tiles of pairs.
            return self._in_steps(rowwise_mrn(starts[:, None], goals, self.groups))
        x, y = (out_of_lanes(side, self.groups) for side in (starts, goals))
        return self._in_steps(pairwise_mrn(x, y, self.groups).mean(axis=0))

    def _in_steps(self, distances: Float[Array, "..."]) -> Distance:
        return Distance.from_nats(self.scale * distances, self.discount)
