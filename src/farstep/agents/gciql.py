"""Goal-conditioned implicit Q-learning (GCIQL; Kostrikov et al. 2022, as in OGBench)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from farstep.agents.base import value_goal
from farstep.agents.extracting import ExtractingAgent
from farstep.agents.metric import Goals, Observations, ValueMetric
from farstep.core.fields import Count, Discount, Range, Weight
from farstep.core.laws import Ahead, Geometric
from farstep.core.rng import PRNGKey
from farstep.core.types import Batch, BatchSpec, Loss, Sample, Spaces
from farstep.losses.values import expectile_loss, goal_backup, over_rows
from farstep.networks.critics import GoalActionValue, GoalValue
from farstep.networks.policies import Policy
from farstep.networks.targets import copy_of, polyak


class GCIQLNetworks(eqx.Module):
    """V, Q with its target, and the policy."""

    value: GoalValue
    critic: GoalActionValue
    target_critic: GoalActionValue
    actor: Policy


@dataclass(frozen=True, kw_only=True)
class GCIQL(ExtractingAgent):
    """Q(s, a, g) by one-step backups on V, V by expectile regression on Q, and a policy on Q.

    It estimates the value of the best behaviour that the expectile reaches within the data's
    support, in stochastic worlds as well as in deterministic ones. Its metric turns V, or Q if
    given actions, into the steps d at which it is −(1 − γ^d)/(1 − γ).

    Attributes:
        discount: γ, of the values and of the value goals' geometric law.
        expectile: κ of V's regression.
        target_rate: τ, by which the target network moves at each update.
        ensemble_size: critics in the ensemble.
    """

    batch_size: Count = 1024
    discount: Discount = 0.99
    expectile: Annotated[float, Range(above=0, below=1)] = 0.9
    alpha: Weight = 0.3
    inverse_temperature: Weight = 10.0
    target_rate: Annotated[float, Range(above=0, most=1)] = 0.005
    ensemble_size: Count = 2

    def spec(self) -> BatchSpec:
        return self.batch(
            {
                "goal/value": value_goal(Geometric(self.discount)),
                "goal/policy": self.policy_goal(),
                "next": Sample(
                    Ahead(self.action_chunk), cap=None if self.action_chunk == 1 else "goal/value"
                ),
            },
        )

    def networks(self, spaces: Spaces, key: PRNGKey) -> GCIQLNetworks:
        value_key, critic_key, actor_key = jax.random.split(key, 3)
        critic = GoalActionValue(
            spaces, self.hidden, ensemble_size=self.ensemble_size, key=critic_key
        )
        return GCIQLNetworks(
            value=GoalValue(spaces, self.hidden, ensemble_size=1, key=value_key),
            critic=critic,
            target_critic=copy_of(critic),
            actor=self.make_policy(spaces, actor_key),
        )

    def loss(self, params: GCIQLNetworks, batch: Batch, key: PRNGKey) -> Loss:
        """L_V + L_Q + L_π."""
        value_loss, value_metrics = self.value_loss(params, batch)
        critic_loss, critic_metrics = self.critic_loss(params, batch)
        actor_loss, actor_metrics = self.actor_loss(params, batch, key)
        return (
            value_loss + critic_loss + actor_loss,
            value_metrics | critic_metrics | actor_metrics,
        )

    def value_loss(self, params: GCIQLNetworks, batch: Batch) -> Loss:
        """V towards the upper expectile of the target ensemble's least Q (Eq. 5)."""
        goals, counted = batch["goal/value"].goals, self._counted(batch)
        target = jax.lax.stop_gradient(params.target_critic)
        q = jnp.min(target(batch.observations, goals, batch.actions), axis=0)
        values = params.value(batch.observations, goals)[0]
        loss = over_rows(expectile_loss(q - values, q - values, self.expectile), counted)
        return loss, {"value/loss": loss, "value/mean": jnp.mean(values)}

    def critic_loss(self, params: GCIQLNetworks, batch: Batch) -> Loss:
        """Q onto r + γ·V(s', g) (Eq. 6)."""
        goal, reached = batch["goal/value"], batch["next"]
        value = jax.lax.stop_gradient(params.value)
        next_values = value(reached.observations, goal.goals)[0]
        steps = 1 if self.action_chunk == 1 else reached.offsets
        backups = goal_backup(next_values, goal.offsets == 0, self.discount, steps)
        q = params.critic(batch.observations, goal.goals, batch.actions)
        loss = jnp.sum(over_rows(jnp.square(backups - q), self._counted(batch)))
        return loss, {"critic/loss": loss, "critic/q": jnp.mean(q)}

    def _counted(self, batch: Batch) -> Bool[Array, " batch"] | None:
        return self.backed_up(batch["next"], batch["goal/value"])

    def q(
        self, params: GCIQLNetworks, observations: Observations, actions: Array, goals: Goals
    ) -> Float[Array, " batch"]:
        """The ensemble's least Q."""
        return jnp.min(params.critic(observations, goals, actions), axis=0)

    def advantages(
        self, params: GCIQLNetworks, batch: Batch, goals: Goals
    ) -> Float[Array, " batch"]:
        """Q − V (Eq. 7)."""
        q = self.q(params, batch.observations, batch.actions, goals)
        return q - params.value(batch.observations, goals)[0]

    def move_targets(self, params: GCIQLNetworks) -> GCIQLNetworks:
        return replace(
            params, target_critic=polyak(params.target_critic, params.critic, self.target_rate)
        )

    def metric(self, params: GCIQLNetworks) -> ValueMetric:
        return ValueMetric(params.value, self.discount, params.critic)
