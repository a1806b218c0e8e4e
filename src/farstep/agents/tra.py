"""Temporal representation alignment (TRA; Myers et al. 2025, arXiv 2502.05454)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from farstep.agents.base import Agent
from farstep.agents.metric import Goals, Observations
from farstep.core.errors import FarstepError
from farstep.core.fields import Count, Discount, Range, Weight
from farstep.core.laws import Geometric
from farstep.core.rng import PRNGKey
from farstep.core.types import GOALS, Batch, BatchSpec, Loss, Sample, Scalar, Space, Spaces
from farstep.losses.contrastive import all_products, info_nce
from farstep.losses.policy import behaviour_cloning
from farstep.networks.actors import Actor
from farstep.networks.critics import Embedding
from farstep.networks.policies import Policy, make_policy


class TRANetworks(eqx.Module):
    """φ of states, ψ of goals, and the policy π(a | s, ψ(g))."""

    state: Embedding
    goal: Embedding
    actor: Policy

    def represent(self, goals: Goals) -> Float[Array, "batch latent"]:
        """The mean over the ensemble of ψ(g)."""
        return jnp.mean(self.goal(goals), axis=0)


@dataclass(frozen=True, kw_only=True)
class TRA(Agent):
    """Behaviour cloning towards a goal's representation, which is aligned with what precedes it.

    Alignment makes ψ(g) alike for goals that follow from the same states, so that a goal too far
    for any episode looks to the policy like nearer ones on the way. There is no value and no
    distance: the alignment's logits are means to that end.

    Attributes:
        discount: γ of the aligned goals' geometric law.
        alignment: weight of the alignment against cloning.
        policy: `gaussian`, a categorical if actions are discrete; `flow`; or one that
            `register_policy` named.
        film: ψ(g) conditions the residual network that looks at s, as published for the robot;
            else it lies beside that network's features. With the Gaussian policy only.
        ensemble_size: pairs (φ, ψ) in the ensemble; the policy sees the mean of ψ.
        latent: D, width of the representations.
    """

    batch_size: Annotated[int, Range(least=2)] = 1024
    discount: Discount = 0.99
    alignment: Weight = 1.0
    policy: str = "gaussian"
    film: bool = False
    ensemble_size: Count = 2
    latent: Count = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.film and self.policy != "gaussian":
            raise FarstepError(f"TRA: film needs policy 'gaussian', not '{self.policy}'.")

    def spec(self) -> BatchSpec:
        return self.batch(
            {
                "goal/value": Sample(Geometric(self.discount), GOALS),
                "goal/policy": self.policy_goal(),
            },
        )

    def networks(self, spaces: Spaces, key: PRNGKey) -> TRANetworks:
        state_key, goal_key, actor_key = jax.random.split(key, 3)
        space, size = spaces.observation, self.ensemble_size
        represented = replace(spaces, goal=Space((self.latent,)))
        if self.film:
            actor = Actor(represented, self.hidden, joins=False, film=True, key=actor_key)
        else:
            actor = make_policy(self.policy, represented, self.hidden, actor_key, joins=False)
        return TRANetworks(
            state=Embedding(space, self.hidden, self.latent, ensemble_size=size, key=state_key),
            goal=Embedding(spaces.goal, self.hidden, self.latent, ensemble_size=size, key=goal_key),
            actor=actor,
        )

    def loss(self, params: TRANetworks, batch: Batch, key: PRNGKey) -> Loss:
        """Cloning given ψ(g), and the symmetric contrast of φ(s) with ψ of the state's future."""
        represented = params.represent(batch["goal/policy"].goals)
        behaviour = params.actor.behaviour_loss(
            batch.observations, represented, batch.actions, key, batch.done
        )
        cloning, cloning_metrics = behaviour_cloning(-behaviour)
        future = params.goal(batch["goal/value"].goals)
        alignment, metrics = info_nce(
            all_products(params.state(batch.observations), future), axes=(-2, -1)
        )
        return cloning + self.alignment * alignment, cloning_metrics | metrics

    def act(
        self,
        params: TRANetworks,
        observations: Observations,
        goals: Goals,
        key: PRNGKey,
        temperature: Scalar = 0.0,
    ) -> Array:
        return params.actor.sample(observations, params.represent(goals), key, temperature)
