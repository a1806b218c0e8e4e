"""Agents that extract a policy from a critic."""

from __future__ import annotations

import abc
from dataclasses import dataclass

import jax
from jaxtyping import Array, Float

from farstep.agents.base import Agent
from farstep.agents.metric import Goals, Observations
from farstep.core.fields import Count, Weight
from farstep.core.rng import PRNGKey
from farstep.core.types import Batch, Loss, Params, Scalar, Spaces
from farstep.losses.policy import (
    AWR,
    DDPGBC,
    BestOfN,
    Extraction,
    Extractions,
    PolicyGoals,
    Value,
)
from farstep.networks.policies import Policy, make_policy


@dataclass(frozen=True, kw_only=True)
class ExtractingAgent(Agent):
    """An agent with a critic q(s, a, g), and a policy made of it.

    Attributes:
        extraction: `ddpg-bc` climbs q; `awr` clones by an advantage; `best-of-n` clones, and acts
            by what q likes most of some of the clone's actions. Discrete actions have the latter
            two.
        policy: `gaussian`, a categorical if actions are discrete; `flow`; or one that
            `register_policy` named.
        alpha: α, weight of cloning in `ddpg-bc`.
        inverse_temperature: β of `awr`; 0 clones every action alike.
        candidates: N of `best-of-n`.
        policy_goals: goals of the policy's q term in `ddpg-bc`: each row's own (`paired`), or
            those of other rows (`cross`).
    """

    extraction: Extractions = "ddpg-bc"
    policy: str = "gaussian"
    alpha: Weight = 0.1
    inverse_temperature: Weight = 3.0
    candidates: Count = 32
    policy_goals: PolicyGoals = "paired"

    @abc.abstractmethod
    def q(
        self, params: Params, observations: Observations, actions: Array, goals: Goals
    ) -> Float[Array, " batch"]:
        """The critic of each row: the larger the better."""

    @abc.abstractmethod
    def advantages(self, params: Params, batch: Batch, goals: Goals) -> Float[Array, " batch"]:
        """How much better than expected each logged action is towards its goal, for `awr`."""

    def batch_q(self, params: Params, batch: Batch) -> Value:
        """`q` of a training batch's rows."""
        return lambda actions, goals: self.q(params, batch.observations, actions, goals)

    @property
    def climbs(self) -> bool:
        """Whether the critic's gradient passes through the policy's actions."""
        return self.extraction == "ddpg-bc"

    @property
    def extractor(self) -> Extraction:
        """The extraction with its own coefficient."""
        match self.extraction:
            case "ddpg-bc":
                return DDPGBC(self.alpha, self.policy_goals)
            case "awr":
                return AWR(self.inverse_temperature)
            case "best-of-n":
                return BestOfN(self.candidates)

    def make_policy(self, spaces: Spaces, key: PRNGKey) -> Policy:
        """The policy that the options ask for."""
        if self.climbs:
            self.require_continuous(spaces, "use --extraction awr or best-of-n.")
        return make_policy(self.policy, spaces, self.hidden, key, climbs=self.climbs)

    def actor_loss(self, params: Params, batch: Batch, key: PRNGKey) -> Loss:
        """L_π: the critic gets no gradient."""
        fixed = jax.lax.stop_gradient(params)
        return self.extractor.loss(
            params.actor,
            batch,
            key,
            self.batch_q(fixed, batch),
            lambda goals: self.advantages(fixed, batch, goals),
        )

    def act(
        self,
        params: Params,
        observations: Observations,
        goals: Goals,
        key: PRNGKey,
        temperature: Scalar = 0.0,
    ) -> Array:
        def q(actions: Array, goals: Goals) -> Array:
            return self.q(params, observations, actions, goals)

        return self.extractor.act(params.actor, observations, goals, key, temperature, q)
