"""Goal-conditioned implicit V-learning (GCIVL; Park et al. 2025, OGBench, after HIQL's value)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp

from farstep.agents.base import Agent, value_goal
from farstep.agents.metric import ValueMetric
from farstep.core.fields import Count, Discount, Range, Weight
from farstep.core.laws import Ahead, Geometric
from farstep.core.rng import PRNGKey
from farstep.core.types import Batch, BatchSpec, Loss, Sample, Spaces
from farstep.losses.policy import advantage_weighted
from farstep.losses.values import implicit_value
from farstep.networks.critics import GoalValue
from farstep.networks.policies import Policy, make_policy
from farstep.networks.targets import copy_of, polyak


class GCIVLNetworks(eqx.Module):
    """V, its target, and the policy."""

    value: GoalValue
    target_value: GoalValue
    actor: Policy


@dataclass(frozen=True, kw_only=True)
class GCIVL(Agent):
    """V(s, g) by expectile regression on itself, and a policy that clones what raised it.

    It estimates the value of the best of the behaviour that the expectile reaches: in a
    deterministic world and with κ → 1, −(1 − γ^d)/(1 − γ) at d optimal steps within the data's
    support. In a stochastic world it takes lucky outcomes for good actions, because V alone cannot
    tell them apart. Its metric inverts that formula, for states alone.

    Attributes:
        discount: γ, of the value and of the value goals' geometric law.
        expectile: κ of the value's regression.
        policy: `gaussian`, a categorical if actions are discrete; `flow`; or one that
            `register_policy` named.
        inverse_temperature: β of advantage-weighted cloning; 0 clones every action alike.
        target_rate: τ, by which the target network moves at each update.
        ensemble_size: values in the ensemble.
    """

    batch_size: Count = 1024
    discount: Discount = 0.99
    expectile: Annotated[float, Range(above=0, below=1)] = 0.9
    policy: str = "gaussian"
    inverse_temperature: Weight = 10.0
    target_rate: Annotated[float, Range(above=0, most=1)] = 0.005
    ensemble_size: Count = 2

    def spec(self) -> BatchSpec:
        return self.batch(
            {
                "goal/value": value_goal(Geometric(self.discount)),
                "goal/policy": self.policy_goal(),
                "next": Sample(Ahead(1)),
                **self.after_chunk(),
            },
        )

    def networks(self, spaces: Spaces, key: PRNGKey) -> GCIVLNetworks:
        value_key, actor_key = jax.random.split(key)
        value = GoalValue(spaces, self.hidden, ensemble_size=self.ensemble_size, key=value_key)
        return GCIVLNetworks(
            value, copy_of(value), make_policy(self.policy, spaces, self.hidden, actor_key)
        )

    def loss(self, params: GCIVLNetworks, batch: Batch, key: PRNGKey) -> Loss:
        """L_V + L_π."""
        value_loss, value_metrics = self.value_loss(params, batch)
        actor_loss, actor_metrics = self.actor_loss(params, batch, key)
        return value_loss + actor_loss, value_metrics | actor_metrics

    def value_loss(self, params: GCIVLNetworks, batch: Batch) -> Loss:
        """Expectile regression of V onto r + γ·V̄(s', g)."""
        target = jax.lax.stop_gradient(params.target_value)
        goal = batch["goal/value"]
        return implicit_value(
            params.value(batch.observations, goal.goals),
            target(batch.observations, goal.goals),
            target(batch["next"].observations, goal.goals),
            goal.offsets == 0,
            discount=self.discount,
            expectile=self.expectile,
        )

    def actor_loss(self, params: GCIVLNetworks, batch: Batch, key: PRNGKey) -> Loss:
        """Cloning weighted by exp(β·(V(s', g) − V(s, g)))."""
        value = jax.lax.stop_gradient(params.value)
        goals = batch["goal/policy"].goals
        advantages = jnp.mean(
            value(self.after(batch).observations, goals) - value(batch.observations, goals),
            axis=0,
        )
        behaviour = params.actor.behaviour_loss(
            batch.observations, goals, batch.actions, key, batch.done
        )
        return advantage_weighted(
            -behaviour, advantages, inverse_temperature=self.inverse_temperature
        )

    def move_targets(self, params: GCIVLNetworks) -> GCIVLNetworks:
        return replace(
            params, target_value=polyak(params.target_value, params.value, self.target_rate)
        )

    def metric(self, params: GCIVLNetworks) -> ValueMetric:
        return ValueMetric(params.value, self.discount)
