"""n-step SAC+BC (Park et al. 2025, "Horizon Reduction Makes RL Scalable", arXiv 2506.04168)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from farstep.agents.base import Agent, value_goal
from farstep.agents.metric import Distance, Goals, Observations, PairMetric
from farstep.core.errors import FarstepError
from farstep.core.fields import Count, Discount, Range, Weight
from farstep.core.laws import Ahead, UniformFuture
from farstep.core.rng import PRNGKey
from farstep.core.types import Batch, BatchSpec, Loss, Sample, Spaces
from farstep.losses.policy import DDPGBC, PolicyGoals, other_rows
from farstep.losses.values import over_rows
from farstep.networks.actors import TanhGaussianActor
from farstep.networks.critics import GoalActionValue
from farstep.networks.policies import Policy, make_policy
from farstep.networks.targets import copy_of, polyak


class NSACBCNetworks(eqx.Module):
    """The logit of Q and its target, the policy, and the entropy's weight as a logarithm."""

    critic: GoalActionValue
    target_critic: GoalActionValue
    actor: Policy
    log_entropy_weight: Float[Array, ""] | None


class NSACBCMetric(PairMetric):
    """Mean over the ensemble of −log Q, at the policy's own action unless one is given."""

    critic: GoalActionValue
    actor: Policy
    discount: float = eqx.field(static=True)

    def between(self, observations: Observations, goals: Goals) -> Distance:
        return self.after(observations, self.actor.mode(observations, goals), goals)

    def after(self, observations: Observations, actions: Array, goals: Goals) -> Distance:
        nats = jnp.mean(jax.nn.softplus(-self.critic(observations, goals, actions)), axis=0)
        return Distance.from_nats(nats, self.discount)


@dataclass(frozen=True, kw_only=True)
class NSACBC(Agent):
    """Goal-conditioned SAC+BC whose backups take n steps of logged behaviour at once.

    Q(s, a, g) ∈ [0, 1] estimates γ^d, d the steps to the goal: of the behaviour for the first n of
    them, and of the learned policy after that. The distance is −log Q, at the policy's own action
    unless actions are given.

    Attributes:
        discount: γ, of Q.
        backup_steps: n, steps of one backup, capped by the episode and by the goal.
        policy: `tanh-gaussian`; or another agent's, such as `flow`, whose one-step form climbs Q.
            Without the density of the first there is no entropy term; with a flow, the method is
            an n-step FQL.
        alpha: α, weight of cloning (the squared distance to the logged action, or the flow's loss)
            against a Q term of unit scale.
        target_entropy_per_action: the policy's entropy is held at this many nats for each
            dimension of the action.
        policy_goals: goals of the policy's Q and entropy terms: each row's own (`paired`, as in
            the released code), or those of other rows (`cross`).
        target_rate: τ, by which the target network moves at each update.
        ensemble_size: critics in the ensemble; backups use the least.
    """

    batch_size: Count = 1024
    discount: Discount = 0.99
    backup_steps: Count = 25
    policy: str = "tanh-gaussian"
    alpha: Weight = 0.1
    target_entropy_per_action: float = -0.5
    policy_goals: PolicyGoals = "paired"
    target_rate: Annotated[float, Range(above=0, most=1)] = 0.005
    ensemble_size: Count = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.backup_steps < self.action_chunk:
            raise FarstepError(
                f"NSACBC: backup_steps must be at least the {self.action_chunk} of action_chunk, "
                f"not {self.backup_steps}: a backup goes beyond the actions that Q is of."
            )

    def spec(self) -> BatchSpec:
        return self.batch(
            {
                "goal/value": value_goal(UniformFuture()),
                "goal/policy": self.policy_goal(),
                "later": Sample(Ahead(self.backup_steps), cap="goal/value"),
            },
        )

    def networks(self, spaces: Spaces, key: PRNGKey) -> NSACBCNetworks:
        self.require_continuous(spaces, "train gciql or crl with --extraction awr.")
        critic_key, actor_key = jax.random.split(key)
        critic = GoalActionValue(
            spaces, self.hidden, ensemble_size=self.ensemble_size, key=critic_key
        )
        entropic = self.policy == "tanh-gaussian"
        if not entropic:
            actor = make_policy(self.policy, spaces, self.hidden, actor_key, climbs=True)
        else:
            actor = TanhGaussianActor(spaces, self.hidden, key=actor_key)
        return NSACBCNetworks(
            critic=critic,
            target_critic=copy_of(critic),
            actor=actor,
            log_entropy_weight=jnp.zeros(()) if entropic else None,
        )

    def loss(self, params: NSACBCNetworks, batch: Batch, key: PRNGKey) -> Loss:
        """L_Q + L_π + the entropy's dual."""
        critic_key, actor_key = jax.random.split(key)
        critic_loss, critic_metrics = self.critic_loss(params, batch, critic_key)
        actor_loss, actor_metrics = self.actor_loss(params, batch, actor_key)
        return critic_loss + actor_loss, critic_metrics | actor_metrics

    def critic_loss(self, params: NSACBCNetworks, batch: Batch, key: PRNGKey) -> Loss:
        """Cross-entropy of Q with γ^k at a goal k ≤ n steps ahead, else with γ^n·Q̄(s_n, π, g)."""
        goal, later = batch["goal/value"], batch["later"]
        actor, target = jax.lax.stop_gradient((params.actor, params.target_critic))
        actions = actor.sample(later.observations, goal.goals, key)
        logits = target(later.observations, goal.goals, actions)
        # A state capped by the goal has the goal's offset exactly if it reached it.
        beyond = jnp.where(
            later.offsets == goal.offsets, 1.0, jnp.min(jax.nn.sigmoid(logits), axis=0)
        )
        targets = self.discount**later.offsets * beyond

        logits = params.critic(batch.observations, goal.goals, batch.actions)
        entropies = jax.nn.softplus(logits) - targets * logits
        loss = jnp.mean(over_rows(entropies, self.backed_up(later, goal)))
        return loss, {"critic/loss": loss, "critic/q": jnp.mean(jax.nn.sigmoid(logits))}

    def actor_loss(self, params: NSACBCNetworks, batch: Batch, key: PRNGKey) -> Loss:
        """Raise the logit of Q and the entropy, and stay near the logged actions."""
        critic = jax.lax.stop_gradient(params.critic)

        def value(actions: Array, goals: Array) -> Float[Array, " batch"]:
            return jnp.mean(critic(batch.observations, goals, actions), axis=0)

        actor = params.actor
        if not isinstance(actor, TanhGaussianActor):
            extraction = DDPGBC(self.alpha, self.policy_goals)
            return extraction.loss(actor, batch, key, value, lambda goals: goals)
        own = batch["goal/policy"].goals
        goals = own if self.policy_goals == "paired" else other_rows(own)
        actions, log_probs = actor(batch.observations, goals).sample_and_log_prob(key)
        q = value(actions, goals)

        assert params.log_entropy_weight is not None
        weight = jnp.exp(params.log_entropy_weight)
        entropy = -jnp.mean(jax.lax.stop_gradient(log_probs))
        target_entropy = self.target_entropy_per_action * actions.shape[-1]
        dual = weight * (entropy - target_entropy)

        mse = jnp.mean(
            actor.behaviour_loss(batch.observations, own, batch.actions, key, batch.done)
        )
        scale = jax.lax.stop_gradient(jnp.mean(jnp.abs(q)))
        loss = (
            jnp.mean(jax.lax.stop_gradient(weight) * log_probs - q)
            + dual
            + self.alpha * scale * mse
        )
        return loss, {
            "actor/loss": loss,
            "actor/q": jnp.mean(q),
            "actor/mse": mse,
            "actor/entropy": entropy,
            "actor/entropy_weight": weight,
        }

    def move_targets(self, params: NSACBCNetworks) -> NSACBCNetworks:
        return replace(
            params, target_critic=polyak(params.target_critic, params.critic, self.target_rate)
        )

    def metric(self, params: NSACBCNetworks) -> NSACBCMetric:
        return NSACBCMetric(params.critic, params.actor, self.discount)
