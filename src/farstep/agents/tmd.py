"""Temporal metric distillation (TMD; Myers et al. 2025, arXiv 2509.20478)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from farstep.agents.extracting import ExtractingAgent
from farstep.agents.metric import Goals, MRNMetric, Observations
from farstep.core.fields import Count, Discount, Probability, Range, Weight
from farstep.core.laws import Ahead, Geometric
from farstep.core.rng import PRNGKey
from farstep.core.types import GOALS, Batch, BatchSpec, Loss, Sample, Spaces
from farstep.losses.contrastive import info_nce
from farstep.losses.invariance import goal_anchor
from farstep.losses.linex import at_goals, multistep_backup
from farstep.networks.critics import StateActionEmbedding
from farstep.networks.policies import Policy
from farstep.quasimetrics import mrn, pairwise_mrn


class TMDNetworks(eqx.Module):
    """The ensemble of (φ, ψ) and the policy."""

    critic: StateActionEmbedding
    actor: Policy


@dataclass(frozen=True, kw_only=True)
class TMD(ExtractingAgent):
    """A quasimetric contrasted against other rows' futures, and held to two invariances.

    The contrast makes d(φ(s, a), ψ(g)) the behaviour's successor distance; action invariance,
    d(ψ(s), φ(s, a)) → 0, and one-step backups pull it down towards the optimal one. In nats,
    where a step costs −log γ. Its metric is d between states, or from (s, a) given actions.

    Attributes:
        discount: γ, of the value goals, the backup, and the distance's unit.
        backup_weight: ζ, weight of the one-step backup.
        clip: t, residual in nats after which the backup's cost is linear.
        diagonal_weight: w, share of each row's own goal in the backup, against all pairs.
        ensemble_size: critics in the ensemble.
        groups: number of groups of the quasimetric.
        latent: D, width of the embeddings.
    """

    batch_size: Annotated[int, Range(least=2)] = 512
    discount: Discount = 0.99
    backup_weight: Weight = 0.05
    clip: Annotated[float, Range(above=0)] = 3.0
    diagonal_weight: Probability = 0.5
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
                "next": Sample(Ahead(self.action_chunk), cap="goal/value"),
            },
        )

    def networks(self, spaces: Spaces, key: PRNGKey) -> TMDNetworks:
        critic_key, actor_key = jax.random.split(key)
        return TMDNetworks(
            critic=StateActionEmbedding(
                spaces,
                self.hidden,
                self.latent,
                ensemble_size=self.ensemble_size,
                one_encoder=True,
                key=critic_key,
            ),
            actor=self.make_policy(spaces, actor_key),
        )

    @property
    def scale(self) -> float:
        """√D: distances here are MRN's without its 1/√D, which only the logits have."""
        return math.sqrt(self.latent)

    def loss(self, params: TMDNetworks, batch: Batch, key: PRNGKey) -> Loss:
        """L_NCE + L_I + ζ·L_T, and L_π."""
        critic_loss, critic_metrics = self.critic_loss(params.critic, batch)
        actor_loss, actor_metrics = self.actor_loss(params, batch, key)
        return critic_loss + actor_loss, critic_metrics | actor_metrics

    def critic_loss(self, critic: StateActionEmbedding, batch: Batch) -> Loss:
        """The contrast over the rows of each goal, action invariance, and the backup."""
        phi = critic.phi(batch.observations, batch.actions)
        goal = critic.psi_goal(batch["goal/value"].goals)
        logits = -pairwise_mrn(phi, goal, self.groups)
        contrastive_loss, metrics = info_nce(logits, axes=(-2,))

        state = critic.psi(batch.observations)
        invariance_loss = self.scale * jnp.mean(mrn(state, phi, self.groups))

        reached = batch["next"]
        following = critic.psi(reached.observations)
        targets = pairwise_mrn(*jax.lax.stop_gradient((following, goal)), self.groups)
        if critic.goal is not None:
            targets = at_goals(targets, reached.offsets == batch["goal/value"].offsets)
        backup_loss, backup_metrics = multistep_backup(
            -self.scale * logits,
            self.scale * targets,
            reached.offsets.astype(goal.dtype),
            discount=self.discount,
            clip=self.clip,
            diagonal_weight=self.diagonal_weight,
            chunk=self.action_chunk,
        )
        loss = contrastive_loss + invariance_loss + self.backup_weight * backup_loss
        if critic.goal is not None:
            own = mrn(state, critic.psi_goal(batch.goals), self.groups)
            anchor, anchor_metrics = goal_anchor(self.scale * own)
            loss, metrics = loss + anchor, metrics | anchor_metrics
        return loss, metrics | backup_metrics | {"invariance/loss": invariance_loss}

    def q(
        self, params: TMDNetworks, observations: Observations, actions: Array, goals: Goals
    ) -> Float[Array, " batch"]:
        """−d of the farthest member."""
        phi = params.critic.phi(observations, actions)
        return -self.scale * jnp.max(mrn(phi, params.critic.psi_goal(goals), self.groups), axis=0)

    def advantages(self, params: TMDNetworks, batch: Batch, goals: Goals) -> Float[Array, " batch"]:
        """Steps by which the logged action falls short of the best known: 0 at best."""
        phi, goal = (
            params.critic.phi(batch.observations, batch.actions),
            params.critic.psi_goal(goals),
        )
        state = params.critic.psi(batch.observations)
        nats = mrn(state, goal, self.groups) - mrn(phi, goal, self.groups)
        return self.scale * jnp.mean(nats, axis=0) / -math.log(self.discount)

    def metric(self, params: TMDNetworks) -> MRNMetric:
        return MRNMetric(params.critic, self.discount, self.groups, self.scale)
