"""Hierarchical implicit Q-learning (HIQL; Park et al. 2023, arXiv 2307.11949)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from farstep.agents.base import Agent, value_goal
from farstep.agents.metric import Goals, Observations, ValueMetric
from farstep.core.fields import Count, Discount, Range, Weight
from farstep.core.laws import Ahead, Geometric
from farstep.core.rng import PRNGKey
from farstep.core.types import (
    GOALS,
    Actions,
    Batch,
    BatchSpec,
    Loss,
    Sample,
    Scalar,
    Space,
    Spaces,
)
from farstep.losses.policy import advantage_weighted
from farstep.losses.values import implicit_value
from farstep.networks.critics import Embedding
from farstep.networks.encoders import join, joined
from farstep.networks.policies import Policy, make_policy
from farstep.networks.targets import copy_of, polyak


class HIQLNetworks(eqx.Module):
    """φ([s; g]), V(s, φ), its target, and the two policies."""

    representation: Embedding
    value: Embedding
    target_value: Embedding
    high_actor: Policy
    low_actor: Policy

    def represent(self, observations: Observations, goals: Goals) -> Float[Array, "batch width"]:
        """φ([s; g]), of length √width."""
        return normalised(self.representation(join(observations, goals))[0])

    def values(self, observations: Observations, goals: Goals) -> Float[Array, "members batch"]:
        """V(s, φ([s; g])) of each member."""
        return self.value(observations, self.represent(observations, goals))[..., 0]


class HIQLValue(eqx.Module):
    """V of the networks as a function of states and goals, for use as a metric."""

    networks: HIQLNetworks

    def __call__(self, observations: Observations, goals: Goals) -> Float[Array, "members batch"]:
        return self.networks.values(observations, goals)


@dataclass(frozen=True, kw_only=True)
class HIQL(Agent):
    """Two policies from one value: a high one names a subgoal some steps ahead, a low one goes.

    V(s, φ([s; g])) is GCIVL's value behind a bottleneck φ, which is also the language in which the
    high policy names subgoals to the low one. Its metric reads steps off V, for states alone.

    Attributes:
        discount: γ, of the value and of the value goals' geometric law.
        expectile: κ of the value's regression.
        policy: form of both levels: `gaussian`, and for the low one a categorical if actions are
            discrete; or `flow`.
        subgoal_steps: k, how far ahead subgoals lie: 25, or 10 for pixels.
        high_inverse_temperature: coefficient of the advantage in the high policy's cloning.
        low_inverse_temperature: the same of the low policy.
        representation: width of φ.
        low_representation_gradient: whether the low policy's loss shapes φ too, as is usual for
            pixels.
        target_rate: τ, by which the target network moves at each update.
        ensemble_size: values in the ensemble.
    """

    batch_size: Count = 1024
    discount: Discount = 0.99
    expectile: Annotated[float, Range(above=0, below=1)] = 0.7
    policy: str = "gaussian"
    subgoal_steps: Count = 25
    high_inverse_temperature: Weight = 3.0
    low_inverse_temperature: Weight = 3.0
    representation: Count = 10
    low_representation_gradient: bool = False
    target_rate: Annotated[float, Range(above=0, most=1)] = 0.005
    ensemble_size: Count = 2

    def spec(self) -> BatchSpec:
        return self.batch(
            {
                "goal/value": value_goal(Geometric(self.discount)),
                "goal/policy": self.policy_goal(),
                "next": Sample(Ahead(1)),
                **self.after_chunk(),
                "subgoal": Sample(Ahead(self.subgoal_steps), GOALS),
                "towards": Sample(
                    Ahead(self.subgoal_steps), ("observations", "goals"), cap="goal/policy"
                ),
            },
        )

    def networks(self, spaces: Spaces, key: PRNGKey) -> HIQLNetworks:
        keys = jax.random.split(key, 4)
        width, hidden = self.representation, self.hidden
        value = Embedding(
            spaces.observation,
            hidden,
            1,
            extra_size=width,
            ensemble_size=self.ensemble_size,
            key=keys[0],
        )
        naming = replace(spaces, action=Actions(width))
        named = replace(spaces, goal=Space((width,)))
        return HIQLNetworks(
            representation=Embedding(joined(spaces), hidden, width, key=keys[1]),
            value=value,
            target_value=copy_of(value),
            high_actor=make_policy(self.policy, naming, hidden, keys[2], bounded=False),
            low_actor=make_policy(self.policy, named, hidden, keys[3], joins=False),
        )

    def loss(self, params: HIQLNetworks, batch: Batch, key: PRNGKey) -> Loss:
        """L_V, and the losses of the high and of the low policy."""
        value_loss, metrics = self.value_loss(params, batch)
        high_key, low_key = jax.random.split(key)
        high_loss, high_metrics = self.high_loss(params, batch, high_key)
        low_loss, low_metrics = self.low_loss(params, batch, low_key)
        for level, of_level in (("high", high_metrics), ("low", low_metrics)):
            metrics |= {
                name.replace("actor/", f"{level}_actor/"): value for name, value in of_level.items()
            }
        return value_loss + high_loss + low_loss, metrics

    def value_loss(self, params: HIQLNetworks, batch: Batch) -> Loss:
        """Expectile regression of V onto r + γ·V̄(s', φ([s'; g])) (Eq. 4)."""
        goal = batch["goal/value"]
        goals, following = goal.goals, batch["next"].observations
        target = jax.lax.stop_gradient(replace(params, value=params.target_value))
        return implicit_value(
            params.values(batch.observations, goals),
            target.values(batch.observations, goals),
            target.values(following, goals),
            goal.offsets == 0,
            discount=self.discount,
            expectile=self.expectile,
        )

    def high_loss(self, params: HIQLNetworks, batch: Batch, key: PRNGKey) -> Loss:
        """Clone the representation of the state k steps towards the goal, by V's rise (Eq. 6)."""
        fixed = jax.lax.stop_gradient(params)
        goals = batch["goal/policy"].goals
        ahead = batch["towards"]
        rise = fixed.values(ahead.observations, goals) - fixed.values(batch.observations, goals)
        named = fixed.represent(batch.observations, ahead.goals)
        behaviour = params.high_actor.behaviour_loss(batch.observations, goals, named, key)
        return advantage_weighted(
            -behaviour, jnp.mean(rise, axis=0), inverse_temperature=self.high_inverse_temperature
        )

    def low_loss(self, params: HIQLNetworks, batch: Batch, key: PRNGKey) -> Loss:
        """Clone the action towards the state k steps ahead, by V's rise in one step (Eq. 7)."""
        fixed = jax.lax.stop_gradient(params)
        subgoals = batch["subgoal"].goals
        following = self.after(batch).observations
        rise = fixed.values(following, subgoals) - fixed.values(batch.observations, subgoals)
        reader = params if self.low_representation_gradient else fixed
        named = reader.represent(batch.observations, subgoals)
        behaviour = params.low_actor.behaviour_loss(
            batch.observations, named, batch.actions, key, batch.done
        )
        return advantage_weighted(
            -behaviour, jnp.mean(rise, axis=0), inverse_temperature=self.low_inverse_temperature
        )

    def move_targets(self, params: HIQLNetworks) -> HIQLNetworks:
        return replace(
            params, target_value=polyak(params.target_value, params.value, self.target_rate)
        )

    def act(
        self,
        params: HIQLNetworks,
        observations: Observations,
        goals: Goals,
        key: PRNGKey,
        temperature: Scalar = 0.0,
    ) -> Array:
        """The low policy's actions towards the subgoal that the high policy names."""
        high_key, low_key = jax.random.split(key)
        named = params.high_actor.sample(observations, goals, high_key, temperature)
        return params.low_actor.sample(observations, normalised(named), low_key, temperature)

    def metric(self, params: HIQLNetworks) -> ValueMetric:
        return ValueMetric(HIQLValue(params), self.discount)


def normalised(x: Float[Array, "batch width"]) -> Float[Array, "batch width"]:
    """Each row at length √width."""
    squares = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x * math.sqrt(x.shape[-1]) * jax.lax.rsqrt(jnp.maximum(squares, 1e-12))
