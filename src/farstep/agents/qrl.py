"""Quasimetric reinforcement learning (QRL; Wang et al. 2023, arXiv 2304.01203)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from farstep.agents.extracting import ExtractingAgent
from farstep.agents.metric import Distance, Formula, Goals, Metric, Observations, one_by_one
from farstep.core.ensemble import make_ensemble
from farstep.core.fields import Count, Discount, Weight
from farstep.core.laws import Ahead, AnyState
from farstep.core.rng import PRNGKey
from farstep.core.types import GOALS, Batch, BatchSpec, Loss, Sample, Spaces
from farstep.losses.values import over_rows
from farstep.networks.critics import Embedding
from farstep.networks.mlp import MLP
from farstep.networks.policies import Policy
from farstep.quasimetrics import Quasimetric, make_quasimetric
from farstep.quasimetrics.registry import LearnedIQE, UnscaledMRN

Latents = Float[Array, "members *#batch latent"]


class QRLCritic(eqx.Module):
    """The embedding, the quasimetric that counts steps in it, and a model of its dynamics."""

    embedding: Embedding
    quasimetric: Quasimetric
    dynamics: MLP | None

    def steps(self, x: Latents, y: Latents) -> Float[Array, "members *batch"]:
        """d of latents, in environment steps."""
        return self.quasimetric(x, y)

    def step(
        self, latents: Latents, actions: Float[Array, "batch actions"]
    ) -> Float[Array, "members batch latent"]:
        """The latents of the states that the actions lead to."""
        assert self.dynamics is not None

        def one(dynamics: MLP, latent: Array) -> Array:
            return latent + dynamics(jnp.concatenate([latent, actions], axis=-1))

        return jax.vmap(one)(self.dynamics, latents)


class QRLNetworks(eqx.Module):
    """The critic, the multiplier of its constraint as a logarithm, and the policy."""

    critic: QRLCritic
    log_multiplier: Float[Array, ""]
    actor: Policy


class QRLMetric(Metric):
    """Mean over the ensemble of d(s, g), or of h + d(s', g) at the predicted s' of h actions."""

    critic: QRLCritic
    discount: float = eqx.field(static=True)
    chunk: int = eqx.field(static=True, default=1)

    @property
    def formula(self) -> Formula | None:
        distance = self.critic.quasimetric
        if isinstance(distance, LearnedIQE):
            return Formula("iqe", distance.groups, 1.0, float(jax.nn.sigmoid(distance.raw_alpha)))
        if isinstance(distance, UnscaledMRN):
            latent = self.critic.embedding.members.layers[-1].kernel.shape[-1]
            return Formula("mrn", 1, math.sqrt(latent))
        return None

    def embed(self, observations: Observations) -> Float[Array, "batch members latent"]:
        return jnp.moveaxis(self.critic.embedding(observations), 0, 1)

    def embed_goal(self, goals: Goals) -> Float[Array, "batch members latent"]:
        return self.embed(goals)

    def distance(
        self,
        starts: Float[Array, "#batch members latent"],
        goals: Float[Array, "#batch members latent"],
    ) -> Distance:
        steps = self.critic.steps(jnp.moveaxis(starts, 1, 0), jnp.moveaxis(goals, 1, 0))
        return Distance.from_steps(jnp.mean(steps, axis=0), self.discount)

    def after(self, observations: Observations, actions: Array, goals: Goals) -> Distance:
        critic = self.critic
        if critic.dynamics is None:
            return super().after(observations, actions, goals)
        start = critic.step(critic.embedding(observations), actions)
        steps = self.chunk + critic.steps(start, critic.embedding(goals))
        return Distance.from_steps(jnp.mean(steps, axis=0), self.discount)

    def pairwise(
        self,
        starts: Float[Array, "batch members latent"],
        goals: Float[Array, "goals members latent"],
    ) -> Distance:
        # Sorting the intervals of all pairs at once would need B × C × latent.
        return one_by_one(self.distance, starts, goals)


@dataclass(frozen=True, kw_only=True)
class QRL(ExtractingAgent):
    """A quasimetric pushed up between random states, while a logged step may cost no more than 1.

    In a deterministic world the optimum is the number of steps along the shortest path that the
    data's transitions make up; in a stochastic one it is no distance of any policy. The metric
    gives that d in steps, and after an action 1 + d from where the latent dynamics lead.

    Attributes:
        discount: γ, of the distance's unit in nats only; learning does not use it.
        quasimetric: `iqe`, or `mrn` with one group and no scale, as OGBench has it; or one that
            `register_quasimetric` named.
        margin: ε, the mean squared excess of a step's cost over 1 that is tolerated.
        ensemble_size: embeddings in the ensemble; the paper has one.
        groups: number of groups of IQE.
        latent: width of the embeddings.
    """

    batch_size: Count = 1024
    discount: Discount = 0.99
    quasimetric: str = "iqe"
    margin: Weight = 0.05
    alpha: Weight = 0.003
    ensemble_size: Count = 1
    groups: Count = 64
    latent: Count = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        multiple = {"iqe": self.groups, "mrn": 2}.get(self.quasimetric, 1)
        self.require_latent_of(multiple, self.latent)

    def spec(self) -> BatchSpec:
        return self.batch(
            {
                "goal/value": Sample(AnyState(), GOALS),
                "goal/policy": self.policy_goal(),
                "next": Sample(Ahead(1)),
                **self.after_chunk(),
            },
        )

    def networks(self, spaces: Spaces, key: PRNGKey) -> QRLNetworks:
        self.require_whole_goals(spaces, "train mqe, tmd or gcivl.")
        embedding_key, dynamics_key, actor_key = jax.random.split(key, 3)
        dynamics = None
        if self.extraction != "awr":
            self.require_continuous(spaces, "use --extraction awr.")
            inputs, widths = self.latent + spaces.action.size, (*self.hidden, self.latent)
            dynamics = make_ensemble(
                lambda k: MLP(inputs, widths, layer_norm=True, key=k),
                self.ensemble_size,
                dynamics_key,
            )
        return QRLNetworks(
            critic=QRLCritic(
                embedding=Embedding(
                    spaces.observation,
                    self.hidden,
                    self.latent,
                    ensemble_size=self.ensemble_size,
                    key=embedding_key,
                ),
                quasimetric=make_quasimetric(self.quasimetric, self.latent, self.groups),
                dynamics=dynamics,
            ),
            log_multiplier=jnp.zeros(()),
            actor=self.make_policy(spaces, actor_key),
        )

    def loss(self, params: QRLNetworks, batch: Batch, key: PRNGKey) -> Loss:
        """The constrained objective's Lagrangian, the latent dynamics' loss, and L_π."""
        critic_loss, critic_metrics = self.critic_loss(params, batch)
        actor_loss, actor_metrics = self.actor_loss(params, batch, key)
        return critic_loss + actor_loss, critic_metrics | actor_metrics

    def critic_loss(self, params: QRLNetworks, batch: Batch) -> Loss:
        """Push d(s, g) up subject to E[relu(d(s, s') − 1)²] ≤ ε; predict s' in the latents."""
        critic = params.critic
        state = critic.embedding(batch.observations)
        following = critic.embedding(batch["next"].observations)
        goal = critic.embedding(batch["goal/value"].goals)

        distances = critic.steps(state, goal)
        # Softened, so that the push weakens as distances pass 500 steps.
        push = jnp.mean(100 * jax.nn.softplus(5 - distances / 100))
        local = critic.steps(state, following)
        excess = jnp.mean(jnp.square(jax.nn.relu(local - 1)))
        multiplier = jnp.exp(params.log_multiplier)
        dual = multiplier * (self.margin - jax.lax.stop_gradient(excess))
        loss = push + jax.lax.stop_gradient(multiplier) * excess + dual
        metrics = {
            "critic/push": push,
            "critic/excess": excess,
            "critic/multiplier": multiplier,
            "critic/distance": jnp.mean(distances),
            "critic/distance_next": jnp.mean(local),
        }
        if critic.dynamics is None:
            return loss, metrics
        predicted, counted = critic.step(state, batch.actions), None
        if self.action_chunk > 1:
            after = self.after(batch)
            following = critic.embedding(after.observations)
            counted = after.offsets == self.action_chunk
        apart = critic.steps(following, predicted) + critic.steps(predicted, following)
        error = 0.5 * jnp.mean(over_rows(apart, counted))
        return loss + error, metrics | {"dynamics/loss": error}

    def q(
        self, params: QRLNetworks, observations: Observations, actions: Array, goals: Goals
    ) -> Float[Array, " batch"]:
        """−d of the farthest member, from where the latent dynamics lead."""
        critic = params.critic
        after = critic.step(critic.embedding(observations), actions)
        return -jnp.max(critic.steps(after, critic.embedding(goals)), axis=0)

    def advantages(self, params: QRLNetworks, batch: Batch, goals: Goals) -> Float[Array, " batch"]:
        """d(s, g) − d(s', g), without the learned dynamics."""
        critic = params.critic
        state, goal = critic.embedding(batch.observations), critic.embedding(goals)
        following = critic.embedding(self.after(batch).observations)
        return jnp.mean(critic.steps(state, goal) - critic.steps(following, goal), axis=0)

    def metric(self, params: QRLNetworks) -> QRLMetric:
        return QRLMetric(params.critic, self.discount, self.action_chunk)
