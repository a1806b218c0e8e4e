"""Contrastive reinforcement learning (CRL; Eysenbach et al. 2022, arXiv 2206.07568)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from farstep.agents.extracting import ExtractingAgent
from farstep.agents.metric import Goals, Observations
from farstep.core.fields import Count, Discount, Range
from farstep.core.laws import Geometric
from farstep.core.rng import PRNGKey
from farstep.core.types import GOALS, Batch, BatchSpec, Loss, Sample, Spaces
from farstep.losses.contrastive import all_products, binary_nce, products
from farstep.networks.critics import Embedding, StateActionEmbedding
from farstep.networks.policies import Policy


class CRLValue(eqx.Module):
    """The critic without actions, which advantages are measured against."""

    state: Embedding
    goal: Embedding


class CRLNetworks(eqx.Module):
    """The ensemble of (φ, ψ), V's own pair for `awr`, and the policy."""

    critic: StateActionEmbedding
    value: CRLValue | None
    actor: Policy


@dataclass(frozen=True, kw_only=True)
class CRL(ExtractingAgent):
    """A classifier that tells a row's own future from other rows', and a policy on its logit.

    The logit f(s, a, g) = φ(s, a)ᵀψ(g)/√D estimates log p(g | s, a)/p(g), up to a constant, where
    p(g | s, a) is the γ-discounted distribution of states that the behaviour visits after (s, a).
    Being the behaviour's own, it joins no pieces of different episodes.

    There is no metric: the successor distance log p(g | g)/p(g | s) (Myers et al. 2024) needs
    how likely a state is to see itself, and goals at least one step ahead do not show that.

    Attributes:
        discount: γ of the value goals' geometric law.
        ensemble_size: critics in the ensemble.
        latent: D, width of the embeddings.
    """

    batch_size: Annotated[int, Range(least=2)] = 1024
    discount: Discount = 0.99
    ensemble_size: Count = 2
    latent: Count = 512

    def spec(self) -> BatchSpec:
        return self.batch(
            {
                "goal/value": Sample(Geometric(self.discount), GOALS),
                "goal/policy": self.policy_goal(),
            },
        )

    def networks(self, spaces: Spaces, key: PRNGKey) -> CRLNetworks:
        critic_key, state_key, goal_key, actor_key = jax.random.split(key, 4)
        value = None
        if self.extraction == "awr":
            space = spaces.observation
            value = CRLValue(
                state=Embedding(space, self.hidden, self.latent, key=state_key),
                goal=Embedding(spaces.goal, self.hidden, self.latent, key=goal_key),
            )
        return CRLNetworks(
            critic=StateActionEmbedding(
                spaces, self.hidden, self.latent, ensemble_size=self.ensemble_size, key=critic_key
            ),
            value=value,
            actor=self.make_policy(spaces, actor_key),
        )

    def loss(self, params: CRLNetworks, batch: Batch, key: PRNGKey) -> Loss:
        """L_NCE + L_π."""
        critic_loss, critic_metrics = self.critic_loss(params, batch)
        actor_loss, actor_metrics = self.actor_loss(params, batch, key)
        return critic_loss + actor_loss, critic_metrics | actor_metrics

    def critic_loss(self, params: CRLNetworks, batch: Batch) -> Loss:
        """Binary classification of all pairs of rows and goals; so for V, if there is one."""
        goals = batch["goal/value"].goals
        phi = params.critic.phi(batch.observations, batch.actions)
        loss, metrics = binary_nce(all_products(phi, params.critic.psi_goal(goals)))
        if params.value is None:
            return loss, metrics
        logits = all_products(params.value.state(batch.observations), params.value.goal(goals))
        value_loss, _ = binary_nce(logits)
        return loss + value_loss, metrics | {"value/loss": value_loss}

    def q(
        self, params: CRLNetworks, observations: Observations, actions: Array, goals: Goals
    ) -> Float[Array, " batch"]:
        """The ensemble's least logit."""
        phi = params.critic.phi(observations, actions)
        return jnp.min(products(phi, params.critic.psi_goal(goals)), axis=0)

    def advantages(self, params: CRLNetworks, batch: Batch, goals: Goals) -> Float[Array, " batch"]:
        """The logit against that of the critic without actions."""
        assert params.value is not None
        value = params.value
        baseline = products(value.state(batch.observations), value.goal(goals))[0]
        return self.q(params, batch.observations, batch.actions, goals) - baseline
