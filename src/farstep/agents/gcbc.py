"""Goal-conditioned behaviour cloning (Ghosh et al. 2019; Ding et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Array, Float, Key

from farstep.agents.base import Agent
from farstep.agents.metric import Observations
from farstep.core.fields import Count
from farstep.core.types import Batch, BatchSpec, Metrics, Scalar, Spaces
from farstep.losses.policy import behaviour_cloning
from farstep.networks.actors import Actor


@dataclass(frozen=True, kw_only=True)
class GCBC(Agent):
    """`−mean log π(a|s,g)` with goals drawn uniformly from the rest of the episode.

    Attributes:
        hidden: widths of the actor's hidden layers.
    """

    hidden: tuple[Count, ...] = (512, 512, 512)

    def spec(self) -> BatchSpec:
        return BatchSpec(self.batch_size, {"goal/policy": self.policy_goal()})

    def networks(self, spaces: Spaces, key: Key[Array, ""]) -> Actor:
        return Actor.of(spaces, self.hidden, key)

    def loss(
        self, params: Actor, batch: Batch, key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], Metrics]:
        policy = params(batch.observations, batch["goal/policy"].goals)
        return behaviour_cloning(policy.log_prob(batch.actions))

    def act(
        self,
        params: Actor,
        observations: Observations,
        goals: Observations,
        key: Key[Array, ""],
        temperature: Scalar = 0.0,
    ) -> Array:
        return params(observations, goals).act(key, temperature)
