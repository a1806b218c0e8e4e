"""Contrastive metric distillation (CMD; Myers et al. 2024, arXiv 2406.17098)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from farstep.agents.extracting import ExtractingAgent
from farstep.agents.metric import Distance, Goals, Observations, PairMetric
from farstep.core.fields import Count, Discount, Range
from farstep.core.laws import Geometric
from farstep.core.rng import PRNGKey
from farstep.core.types import GOALS, Batch, BatchSpec, Loss, Sample, Spaces
from farstep.losses.contrastive import binary_nce
from farstep.losses.policy import Value, other_rows
from farstep.networks.critics import Embedding
from farstep.networks.policies import Policy
from farstep.quasimetrics import mrn, pairwise_mrn


class CMDNetworks(eqx.Module):
    """The one embedding f(s, a), of starts and of goals, and the policy."""

    critic: Embedding
    actor: Policy


class CMDMetric(PairMetric):
    """Mean over the ensemble of d(f(s, a), f(g, π(g, g))), at a = π(s, g) unless one is given."""

    critic: Embedding
    actor: Policy
    discount: float = eqx.field(static=True)
    groups: int = eqx.field(static=True)

    def between(self, observations: Observations, goals: Goals) -> Distance:
        return self.after(observations, self.actor.mode(observations, goals), goals)

    def after(self, observations: Observations, actions: Array, goals: Goals) -> Distance:
        start = self.critic(observations, actions)
        goal = self.critic(goals, self.actor.mode(goals, goals))
        return Distance.from_nats(jnp.mean(mrn(start, goal, self.groups), axis=0), self.discount)


@dataclass(frozen=True, kw_only=True)
class CMD(ExtractingAgent):
    """A contrastive critic whose logit is minus a quasimetric.

    In d(f(s, a), f(g, a')) is distilled what tells a row's own future from other rows': the
    behaviour's log p(g)/p(g | s, a) in nats, plus the odds log(B − 1) of a pair in a batch of B,
    as far as a quasimetric can take that form. It joins what the triangle inequality joins, but
    those two offsets leave its steps uncalibrated; they rank, and do not count. Goals have no
    action of their own, so in training another row's stands in for a'. The distance puts the
    policy's actions, π(s, g) and π(g, g), where none are given.

    Attributes:
        discount: γ of the value goals' geometric law, and of the distance's unit.
        ensemble_size: embeddings in the ensemble.
        groups: number of groups of the quasimetric.
        latent: D, width of the embeddings.
    """

    batch_size: Annotated[int, Range(least=2)] = 1024
    discount: Discount = 0.99
    ensemble_size: Count = 2
    groups: Count = 8
    latent: Count = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_latent_of(2 * self.groups, self.latent)

    def spec(self) -> BatchSpec:
        return self.batch(
            {
                "goal/value": Sample(Geometric(self.discount), GOALS),
                "goal/policy": self.policy_goal(),
            },
        )

    def networks(self, spaces: Spaces, key: PRNGKey) -> CMDNetworks:
        self.require_whole_goals(spaces, "train mqe, tmd or gciql.")
        self.require_continuous(spaces, "train mqe, crl or gciql with --extraction awr.")
        critic_key, actor_key = jax.random.split(key)
        return CMDNetworks(
            critic=Embedding(
                spaces.observation,
                self.hidden,
                self.latent,
                extra_size=spaces.action.size,
                ensemble_size=self.ensemble_size,
                key=critic_key,
            ),
            actor=self.make_policy(spaces, actor_key),
        )

    def loss(self, params: CMDNetworks, batch: Batch, key: PRNGKey) -> Loss:
        """L_NCE + L_π."""
        critic_loss, critic_metrics = self.critic_loss(params.critic, batch)
        actor_loss, actor_metrics = self.actor_loss(params, batch, key)
        return critic_loss + actor_loss, critic_metrics | actor_metrics

    def critic_loss(self, critic: Embedding, batch: Batch) -> Loss:
        """Binary classification of all pairs of rows and goals by −d."""
        start = critic(batch.observations, batch.actions)
        goal = critic(batch["goal/value"].goals, other_rows(batch.actions))
        return binary_nce(-pairwise_mrn(start, goal, self.groups))

    def q(
        self, params: CMDNetworks, observations: Observations, actions: Array, goals: Goals
    ) -> Float[Array, " batch"]:
        """−d of the farthest member, to the goal with the policy's own action there."""
        return self._q(params, observations, actions, goals, params.actor.mode(goals, goals))

    def batch_q(self, params: CMDNetworks, batch: Batch) -> Value:
        # A goal keeps the action that the critic's loss gives it, also where it is another row's.
        partners = other_rows(batch.actions)
        if self.climbs and self.policy_goals == "cross":
            partners = other_rows(partners)
        return lambda actions, goals: self._q(params, batch.observations, actions, goals, partners)

    def advantages(self, params: CMDNetworks, batch: Batch, goals: Goals) -> Float[Array, " batch"]:
        """q of the logged action against the policy's own."""
        q = self.batch_q(params, batch)
        return q(batch.actions, goals) - q(params.actor.mode(batch.observations, goals), goals)

    def _q(
        self,
        params: CMDNetworks,
        observations: Observations,
        actions: Array,
        goals: Goals,
        goal_actions: Array,
    ) -> Float[Array, " batch"]:
        start, goal = params.critic(observations, actions), params.critic(goals, goal_actions)
        return -jnp.max(mrn(start, goal, self.groups), axis=0)

    def metric(self, params: CMDNetworks) -> CMDMetric:
        return CMDMetric(params.critic, params.actor, self.discount, self.groups)
