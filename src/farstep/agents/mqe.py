"""Multistep Quasimetric Estimation (MQE, arXiv 2511.07730, ICLR 2026).

A quasimetric d over embeddings φ(s, a) and ψ(s) is fitted by multistep returns to sampled
waypoints, φ is made to agree with ψ, and a policy descends d without leaving the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from farstep.agents.extracting import ExtractingAgent
from farstep.agents.metric import Goals, MRNMetric, Observations
from farstep.core.fields import Count, Discount, Probability, Range
from farstep.core.laws import Ahead, Future, Geometric, Law, UniformAhead, at_least, mixture
from farstep.core.rng import PRNGKey
from farstep.core.types import GOALS, Batch, BatchSpec, Loss, Sample, Spaces
from farstep.losses.invariance import action_invariance, goal_anchor
from farstep.losses.linex import at_goals, multistep_backup
from farstep.losses.policy import PolicyGoals, other_rows
from farstep.losses.values import expectile_loss
from farstep.networks.critics import StateActionEmbedding
from farstep.networks.policies import Policy
from farstep.quasimetrics import mrn, pairwise_mrn

WaypointLaw = Literal["mixture", "geometric", "uniform", "uniform-50", "constant-50", "constant-1"]
"""The rows of Table 1b; `mixture` is Eq. 8."""


class MQENetworks(eqx.Module):
    """The ensemble of (φ, ψ) and the policy."""

    critic: StateActionEmbedding
    actor: Policy


def expectile_value(
    values: Float[Array, "members batch"], targets: Float[Array, "members batch"], expectile: float
) -> Loss:
    """`mean |κ − 1[A < 0]|·A²` with `A = d(ψ(s), ψ(g)) − sg[d(φ(s, a), ψ(g))]`.

    What Table 1a puts in the place of action invariance, as we read it (implicit value learning,
    Kostrikov et al. 2022): ψ(s) is as near to a goal as the better of the logged actions bring it.

    Args:
        values: d(ψ(s_i), ψ(g_i)) in nats.
        targets: d(φ(s_i, a_i), ψ(g_i)), which gets no gradient.
    """
    advantages = values - jax.lax.stop_gradient(targets)
    loss = jnp.mean(expectile_loss(advantages, advantages, expectile))
    return loss, {"value/loss": loss, "value/advantage": jnp.mean(advantages)}


@dataclass(frozen=True, kw_only=True)
class MQE(ExtractingAgent):
    """Hyperparameters of MQE; the defaults are the paper's.

    Attributes:
        discount: γ, of the value goals and of the distance's unit, −log γ nats a step.
        waypoint_law: the law of waypoints; `mixture` is Eq. 8, the others are Table 1b's.
        waypoint_lambda: λ of the waypoints' geometric law.
        waypoint_one_step: p, probability of a one-step waypoint.
        diagonal_weight: w, share of each row's own goal in the backup, against all pairs.
        clip: t, residual in nats after which the backup's cost is linear.
        invariance: actions of the action-invariance loss: each state's own (`logged`, the released
            code), those of other rows (`cross`, as Eq. 14 sums over all pairs), none (`off`), or
            in its place a value loss (`expectile`, Table 1a).
        expectile: κ of that value loss.
        policy_goals: `cross`, as Eq. 15 sums over all pairs, or `paired`, as in the released code.
        ensemble_size: critics in the ensemble.
        groups: N, groups of the quasimetric.
        latent: D, width of the embeddings.
    """

    discount: Discount = 0.995
    waypoint_law: WaypointLaw = "mixture"
    waypoint_lambda: Annotated[float, Range(least=0, below=1)] = 0.95
    waypoint_one_step: Probability = 0.2
    diagonal_weight: Probability = 0.5
    clip: Annotated[float, Range(above=0)] = 5.0
    invariance: Literal["logged", "cross", "off", "expectile"] = "logged"
    expectile: Annotated[float, Range(above=0, below=1)] = 0.7
    policy_goals: PolicyGoals = "cross"
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
                "waypoint": Sample(self._waypoints(), cap="goal/value"),
            },
        )

    def _waypoints(self) -> Law:
        """Eq. 8, or a row of Table 1b; of chunks, no nearer than a chunk leads."""
        laws: dict[str, Future] = {
            "mixture": Geometric(self.waypoint_lambda),
            "geometric": Geometric(self.waypoint_lambda),
            "uniform": UniformAhead(),
            "uniform-50": UniformAhead(50),
            "constant-50": Ahead(50),
            "constant-1": Ahead(1),
        }
        law = at_least(self.action_chunk, laws[self.waypoint_law])
        if self.waypoint_law != "mixture":
            return law
        one_step = self.waypoint_one_step
        return mixture((one_step, Ahead(self.action_chunk)), (1 - one_step, law))

    def networks(self, spaces: Spaces, key: PRNGKey) -> MQENetworks:
        critic_key, actor_key = jax.random.split(key)
        return MQENetworks(
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

    def loss(self, params: MQENetworks, batch: Batch, key: PRNGKey) -> Loss:
        """L_T + L_I + L_π (Section 4)."""
        critic_loss, critic_metrics = self.critic_loss(params.critic, batch)
        actor_loss, actor_metrics = self.actor_loss(params, batch, key)
        return critic_loss + actor_loss, critic_metrics | actor_metrics

    def critic_loss(self, critic: StateActionEmbedding, batch: Batch) -> Loss:
        """The multistep backup L_T (Eq. 10-12) and action invariance L_I (Eq. 14)."""
        phi = critic.phi(batch.observations, batch.actions)
        goal = critic.psi_goal(batch["goal/value"].goals)
        waypoint = jax.lax.stop_gradient(critic).psi(batch["waypoint"].observations)

        targets = pairwise_mrn(waypoint, jax.lax.stop_gradient(goal), self.groups)
        if critic.goal is not None:
            reached = batch["waypoint"].offsets == batch["goal/value"].offsets
            targets = at_goals(targets, reached)
        backup_loss, metrics = multistep_backup(
            pairwise_mrn(phi, goal, self.groups),
            targets,
            batch["waypoint"].offsets.astype(goal.dtype),
            discount=self.discount,
            clip=self.clip,
            diagonal_weight=self.diagonal_weight,
            chunk=self.action_chunk,
        )
        state = critic.psi(batch.observations)
        if critic.goal is not None:
            anchor, anchor_metrics = goal_anchor(
                mrn(state, critic.psi_goal(batch.goals), self.groups)
            )
            backup_loss, metrics = backup_loss + anchor, metrics | anchor_metrics
        if self.invariance == "off":
            return backup_loss, metrics
        if self.invariance == "expectile":
            value_loss, value_metrics = expectile_value(
                mrn(state, goal, self.groups), mrn(phi, goal, self.groups), self.expectile
            )
            return backup_loss + value_loss, metrics | value_metrics
        if self.invariance == "cross":
            # One sample of Eq. 14's double sum for each row: its own state, another row's action.
            phi = critic.phi(batch.observations, other_rows(batch.actions))
        invariance_loss, invariance_metrics = action_invariance(mrn(state, phi, self.groups))
        return backup_loss + invariance_loss, metrics | invariance_metrics

    def q(
        self, params: MQENetworks, observations: Observations, actions: Array, goals: Goals
    ) -> Float[Array, " batch"]:
        """−d of the farthest member, in Eq. 15's place of Q."""
        phi = params.critic.phi(observations, actions)
        return -jnp.max(mrn(phi, params.critic.psi_goal(goals), self.groups), axis=0)

    def advantages(self, params: MQENetworks, batch: Batch, goals: Goals) -> Float[Array, " batch"]:
        """Steps by which the logged action falls short of the best known: 0 at best."""
        phi, goal = (
            params.critic.phi(batch.observations, batch.actions),
            params.critic.psi_goal(goals),
        )
        state = params.critic.psi(batch.observations)
        nats = mrn(state, goal, self.groups) - mrn(phi, goal, self.groups)
        return jnp.mean(nats, axis=0) / -math.log(self.discount)

    def metric(self, params: MQENetworks) -> MRNMetric:
        return MRNMetric(params.critic, self.discount, self.groups)
