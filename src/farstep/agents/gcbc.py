"""Goal-conditioned behaviour cloning (Ghosh et al. 2019; Ding et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Array

from farstep.agents.base import Agent
from farstep.agents.metric import Goals, Observations
from farstep.core.rng import PRNGKey
from farstep.core.types import Batch, BatchSpec, Loss, Scalar, Spaces
from farstep.losses.policy import behaviour_cloning
from farstep.networks.policies import Policy, make_policy


@dataclass(frozen=True, kw_only=True)
class GCBC(Agent):
    """`−mean log π(a|s,g)` with goals drawn uniformly from the rest of the episode.

    Attributes:
        policy: `gaussian`, a categorical if actions are discrete; `flow`; or one that
            `register_policy` named.
    """

    policy: str = "gaussian"

    def spec(self) -> BatchSpec:
        return self.batch({"goal/policy": self.policy_goal()})

    def networks(self, spaces: Spaces, key: PRNGKey) -> Policy:
        return make_policy(self.policy, spaces, self.hidden, key)

    def loss(self, params: Policy, batch: Batch, key: PRNGKey) -> Loss:
        behaviour = params.behaviour_loss(
            batch.observations, batch["goal/policy"].goals, batch.actions, key, batch.done
        )
        return behaviour_cloning(-behaviour)

    def act(
        self,
        params: Policy,
        observations: Observations,
        goals: Goals,
        key: PRNGKey,
        temperature: Scalar = 0.0,
    ) -> Array:
        return params.sample(observations, goals, key, temperature)
