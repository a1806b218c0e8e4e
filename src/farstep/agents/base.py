"""Agents: frozen hyperparameters with pure functions of arrays.

An agent never sees a file, an environment, a logger or the command line.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int

from farstep.agents.metric import Goals, Metric, Observations
from farstep.core.errors import FarstepError
from farstep.core.fields import Count, Probability, Range, check_fields
from farstep.core.laws import Ahead, AnyState, Current, Law, UniformFuture, Window, mixture
from farstep.core.rng import PRNGKey
from farstep.core.types import (
    CHUNK,
    GOALS,
    Actions,
    Augmentation,
    Batch,
    BatchSpec,
    Loss,
    Metrics,
    Params,
    Sample,
    Sampled,
    Scalar,
    Spaces,
)
from farstep.networks.encoders import DEFAULT, encoded_by
from farstep.networks.precision import Precision, kernels_in
from farstep.networks.targets import copy_of, polyak


class AgentState(eqx.Module):
    """All that an update changes.

    Attributes:
        params: networks, as `init` built them.
        optimizer: the optimizer's moments.
        step: updates done so far.
        average: of the networks over updates, if the agent acts by it.
    """

    params: Params
    optimizer: optax.OptState
    step: Int[Array, ""]
    average: Params | None = None

    @property
    def acting(self) -> Params:
        """The networks that are evaluated and exported."""
        return self.params if self.average is None else self.average


@dataclass(frozen=True, kw_only=True)
class Agent(abc.ABC):
    """Hyperparameters shared by all agents; each agent adds its own as fields.

    Attributes:
        batch_size: rows B of one update.
        learning_rate: learning rate of Adam.
        precision: in which the networks' products are computed while training; weights, moments,
            distances and losses stay float32, and so does the trained policy. A GPU from Ampere on
            computes float32 products in TF32 unless JAX_DEFAULT_MATMUL_PRECISION=highest.
        policy_random: share of the policy's goals that are drawn from all states; the others are
            later states of the row's own episode.
        crops: probability that the images of a training batch are randomly cropped; pixels only.
        augmentation: what else is done to the images of a training batch: `bridge` resizes a crop
            and changes brightness, contrast, saturation and hue.
        warmup_steps: updates over which the learning rate rises from 0.
        decay_steps: the update at which it has fallen to 0 again, along a cosine; 0 lets it stay.
        hidden: widths of every network's hidden layers.
        encoder: what makes features of observations, one name of `networks.encoders.ENCODERS` for
            vectors and one for images; a kind that is not named keeps its default.
        encoder_weights: safetensors file of the weights that a pretrained encoder begins with.
        action_chunk: h, actions that the policy gives at once and carries out one after another;
            critics read all of them. Continuous actions only, if more than 1.
        policy_average: rate at which an exponential moving average of the networks forgets them,
            such as 0.999, where that average is to act; 0 lets the networks themselves act.
    """

    batch_size: Count = 256
    learning_rate: Annotated[float, Range(above=0)] = 3e-4
    precision: Precision = "float32"
    policy_random: Probability = 0.0
    crops: Probability = 0.0
    augmentation: Augmentation = "none"
    warmup_steps: Annotated[int, Range(least=0)] = 0
    decay_steps: Annotated[int, Range(least=0)] = 0
    hidden: tuple[Count, ...] = (512, 512, 512)
    encoder: tuple[str, ...] = DEFAULT
    encoder_weights: str = ""
    action_chunk: Count = 1
    policy_average: Annotated[float, Range(least=0, below=1)] = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        if 0 < self.decay_steps <= self.warmup_steps:
            raise FarstepError(
                f"{type(self).__name__}: decay_steps must be above warmup_steps, which is"
                f" {self.warmup_steps}, not {self.decay_steps}."
            )
        crossed = [field.name for field in fields(self) if getattr(self, field.name) == "cross"]
        if crossed and self.batch_size < 2:
            raise FarstepError(
                f"{type(self).__name__}: batch_size must be at least 2, not {self.batch_size}: "
                f"{crossed[0]} is 'cross', which takes from other rows of the batch."
            )

    @abc.abstractmethod
    def spec(self) -> BatchSpec:
        """The goals and other states that an update needs, with their laws."""

    def batch(self, samples: Mapping[str, Sample]) -> BatchSpec:
        """A batch of these samples, and of chunks of actions if the agent acts by chunks."""
        if self.action_chunk == 1:
            return BatchSpec(self.batch_size, samples)
        chunk = Sample(Window(ahead=self.action_chunk - 1), ("actions",))
        return BatchSpec(self.batch_size, {**samples, CHUNK: chunk})

    def after_chunk(self) -> dict[str, Sample]:
        """Samples to ask for so that `after` works, besides `next`, one step ahead."""
        return {} if self.action_chunk == 1 else {"after": Sample(Ahead(self.action_chunk))}

    def after(self, batch: Batch) -> Sampled:
        """The states that the rows' actions lead to."""
        return batch["next" if self.action_chunk == 1 else "after"]

    def backed_up(self, later: Sampled, goal: Sampled) -> Bool[Array, " batch"] | None:
        """The rows that reach their goal or end their chunk by `later`; None without chunks.

        Of the others the episode ends too soon, so that nothing is known of their chunks.
        """
        if self.action_chunk == 1:
            return None
        return (later.offsets >= self.action_chunk) | (later.offsets == goal.offsets)

    def policy_goal(self) -> Sample:
        """The policy's goals: uniform over the rest of the episode, or any state."""
        share = self.policy_random
        return Sample(mixture((1 - share, UniformFuture()), (share, AnyState())), GOALS)

    def training_spec(self) -> BatchSpec:
        """`spec` with the random changes that belong to training, not to held-out data."""
        return replace(self.spec(), crops=self.crops, augmentation=self.augmentation)

    @abc.abstractmethod
    def networks(self, spaces: Spaces, key: PRNGKey) -> Params:
        """Freshly initialised networks for these spaces, whose actions are whole chunks.

        Raises:
            FarstepError: the method is not defined for them, such as for discrete actions.
        """

    @abc.abstractmethod
    def loss(self, params: Params, batch: Batch, key: PRNGKey) -> Loss:
        """The scalar that one Adam descends, and the terms it is made of."""

    def act(
        self,
        params: Params,
        observations: Observations,
        goals: Goals,
        key: PRNGKey,
        temperature: Scalar = 0.0,
    ) -> Array:
        """Actions of the networks' `actor`: (B, A) in [−1, 1], or (B,) integers if discrete.

        Of chunks, (B, h·A): h actions end to end.

        `temperature` scales the policy's own noise; at 0 it acts deterministically.
        """
        return params.actor.sample(observations, goals, key, temperature)

    def metric(self, params: Params) -> Metric | None:
        """The temporal distance of these networks; None if the method learns a policy only."""
        return None

    def move_targets(self, params: Params) -> Params:
        """The networks after an update, their target networks (if any) moved by τ."""
        return params

    def require_continuous(self, spaces: Spaces, remedy: str) -> None:
        """Raises FarstepError if actions are discrete; `remedy` says what to do instead."""
        if spaces.action.discrete:
            raise FarstepError(
                f"{type(self).__name__} improves its policy by the gradient of a critic in the "
                f"action, and these actions are discrete: {remedy}"
            )

    def require_latent_of(self, multiple: int, latent: int) -> None:
        """Raises FarstepError unless `latent`, the field, is a multiple of what groups need."""
        if latent % multiple:
            raise FarstepError(
                f"{type(self).__name__}: latent must be a multiple of {multiple}, not {latent}, "
                "so that it divides into the quasimetric's groups."
            )

    def require_whole_goals(self, spaces: Spaces, remedy: str) -> None:
        """Raises FarstepError if goals are not observations; `remedy` says what to do instead."""
        if not spaces.rule.whole:
            raise FarstepError(
                f"{type(self).__name__} embeds goals as it embeds states, and --goal {spaces.rule} "
                f"makes goals that are no states: {remedy}"
            )

    def optimizer(self) -> optax.GradientTransformation:
        """One Adam over all parameters."""
        if self.decay_steps:
            return optax.adam(
                optax.warmup_cosine_decay_schedule(
                    0.0, self.learning_rate, self.warmup_steps, self.decay_steps
                )
            )
        if self.warmup_steps:
            return optax.adam(optax.linear_schedule(0.0, self.learning_rate, self.warmup_steps))
        return optax.adam(self.learning_rate)

    def encoded_networks(self, spaces: Spaces, key: PRNGKey) -> Params:
        """`networks` with the agent's encoders, for actions that are whole chunks.

        Args:
            spaces: spaces of the data.

        Raises:
            FarstepError: an encoder is unknown or not for these spaces, chunks are not for their
                actions; or as `networks`.
        """
        chunk, actions = self.action_chunk, spaces.action
        if chunk > 1:
            if actions.discrete:
                raise FarstepError(
                    f"{type(self).__name__}: a chunk is a vector of several actions, and these "
                    "actions are discrete: use --action-chunk 1."
                )
            spaces = replace(spaces, action=Actions(chunk * actions.size))
        return self.networks(encoded_by(spaces, self.encoder), key)

    def init(self, spaces: Spaces, key: PRNGKey) -> AgentState:
        """The state before the first update, without the weights of pretrained encoders."""
        params = self.encoded_networks(spaces, key)
        average = copy_of(params) if self.policy_average else None
        step = jnp.zeros((), jnp.int32)
        return AgentState(params, self.optimizer().init(params), step, average)

    def update(self, state: AgentState, batch: Batch, key: PRNGKey) -> tuple[AgentState, Metrics]:
        """One gradient step: pure, jittable, vmappable over seeds."""

        def loss(params: Params) -> Loss:
            return self.loss(kernels_in(params, self.precision), batch, key)

        gradients, metrics = jax.grad(loss, has_aux=True)(state.params)
        with jax.named_scope("optimizer"):
            updates, optimizer = self.optimizer().update(gradients, state.optimizer, state.params)
            params = self.move_targets(optax.apply_updates(state.params, updates))
        metrics["gradient/norm"] = optax.tree.norm(gradients)
        average = state.average
        if average is not None:
            # At first over about a tenth of the updates so far, or the first networks would stay.
            kept = jnp.minimum(self.policy_average, (1 + state.step) / (10 + state.step))
            average = polyak(average, params, 1 - kept)
        return AgentState(params, optimizer, state.step + 1, average), metrics


def value_goal(future: Law) -> Sample:
    """OGBench's goals of a value: the state itself, a future one by this law, or any state."""
    return Sample(mixture((0.2, Current()), (0.5, future), (0.3, AnyState())), GOALS)
