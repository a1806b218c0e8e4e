"""Contrastive reinforcement learning (CRL; Eysenbach et al. 2022, arXiv 2206.07568)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from farstep.agents.base import Agent
from farstep.agents.metric import Observations
from farstep.core.fields import Count, Discount, Range, Weight
from farstep.core.laws import Geometric
from farstep.core.types import GOALS, Batch, BatchSpec, Metrics, Sample, Spaces
from farstep.losses.contrastive import all_products, binary_nce, products
from farstep.losses.policy import (
    PolicyGoals,
    PolicyLoss,
    advantage_weighted,
    policy_improvement,
)
from farstep.networks.actors import Actor
from farstep.networks.critics import Embedding, StateActionEmbedding


class CRLValue(eqx.Module):
    """The critic without actions, which advantages are measured against."""

    state: Embedding
    goal: Embedding


class CRLNetworks(eqx.Module):
    """The ensemble of (φ, ψ), V's own pair for `awr`, and the policy."""

    critic: StateActionEmbedding
    value: CRLValue | None
    actor: Actor


@dataclass(frozen=True, kw_only=True)
class CRL(Agent):
    """A classifier that tells a row's own future from other rows', and a policy on its logit.

    The logit f(s, a, g) = φ(s, a)ᵀψ(g)/√D estimates log p(g | s, a)/p(g), up to a constant, where
    p(g | s, a) is the γ-discounted distribution of states that the behaviour visits after (s, a).
    Being the behaviour's own, it joins no pieces of different episodes.

    There is no metric: the successor distance log p(g | g)/p(g | s) (Myers et al. 2024) needs
    how likely a state is to see itself, and goals at least one step ahead do not show that.

    Attributes:
        discount: γ of the value goals' geometric law.
        policy_loss: `ddpg-bc` climbs the logit; `awr` clones by the logit's advantage over a
            critic without actions, and is what discrete actions need.
        alpha: α, weight of cloning in `ddpg-bc`.
        inverse_temperature: β of `awr`; 0 clones every action alike.
        policy_goals: goals of the policy's q term in `ddpg-bc`: each row's own (`paired`, as in
            OGBench), or those of other rows (`cross`).
        members: critics in the ensemble.
        latent: D, width of the embeddings.
        hidden: widths of every network's hidden layers.
    """

    batch_size: Annotated[int, Range(least=2)] = 1024
    discount: Discount = 0.99
    policy_loss: PolicyLoss = "ddpg-bc"
    alpha: Weight = 0.1
    inverse_temperature: Weight = 3.0
    policy_goals: PolicyGoals = "paired"
    members: Count = 2
    latent: Count = 512
    hidden: tuple[Count, ...] = (512, 512, 512)

    def spec(self) -> BatchSpec:
        return BatchSpec(
            self.batch_size,
            {
                "goal/value": Sample(Geometric(self.discount), GOALS),
                "goal/policy": self.policy_goal(),
            },
        )

    def networks(self, spaces: Spaces, key: Key[Array, ""]) -> CRLNetworks:
        critic_key, state_key, goal_key, actor_key = jax.random.split(key, 4)
        value = None
        if self.policy_loss == "ddpg-bc":
            self.require_continuous(spaces, "use --policy-loss awr.")
        else:
            space = spaces.observation
            value = CRLValue(
                state=Embedding(space, self.hidden, self.latent, key=state_key),
                goal=Embedding(space, self.hidden, self.latent, key=goal_key),
            )
        return CRLNetworks(
            critic=StateActionEmbedding(
                spaces, self.hidden, self.latent, members=self.members, key=critic_key
            ),
            value=value,
            actor=Actor.of(spaces, self.hidden, actor_key),
        )

    def loss(
        self, params: CRLNetworks, batch: Batch, key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], Metrics]:
        """L_NCE + L_π."""
        critic_loss, critic_metrics = self.critic_loss(params, batch)
        actor_loss, actor_metrics = self.actor_loss(params, batch)
        return critic_loss + actor_loss, critic_metrics | actor_metrics

    def critic_loss(self, params: CRLNetworks, batch: Batch) -> tuple[Float[Array, ""], Metrics]:
        """Binary classification of all pairs of rows and goals; so for V, if there is one."""
        goals = batch["goal/value"].goals
        phi = params.critic.phi(batch.observations, batch.actions)
        loss, metrics = binary_nce(all_products(phi, params.critic.psi(goals)))
        if params.value is None:
            return loss, metrics
        logits = all_products(params.value.state(batch.observations), params.value.goal(goals))
        value_loss, _ = binary_nce(logits)
        return loss + value_loss, metrics | {"value/loss": value_loss}

    def actor_loss(self, params: CRLNetworks, batch: Batch) -> tuple[Float[Array, ""], Metrics]:
        """DDPG+BC on the ensemble's least logit, or advantage-weighted cloning."""
        critic, value = jax.lax.stop_gradient((params.critic, params.value))

        def q(actions: Array, goals: Observations) -> Float[Array, " batch"]:
            phi = critic.phi(batch.observations, actions)
            return jnp.min(products(phi, critic.psi(goals)), axis=0)

        if value is None:
            return policy_improvement(
                params.actor, q, batch, alpha=self.alpha, goals=self.policy_goals
            )
        goals = batch["goal/policy"].goals
        baseline = products(value.state(batch.observations), value.goal(goals))[0]
        log_probs = params.actor(batch.observations, goals).log_prob(batch.actions)
        return advantage_weighted(
            log_probs,
            q(batch.actions, goals) - baseline,
            inverse_temperature=self.inverse_temperature,
        )
