"""Goal-conditioned policies π(a | s, g)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from farstep.core.errors import FarstepError
from farstep.core.rng import PRNGKey, stream_key
from farstep.core.types import Scalar, Spaces
from farstep.networks.encoders import (
    Encoder,
    Goals,
    Observations,
    encode,
    join,
    joined,
    make_encoder,
)
from farstep.networks.mlp import MLP, Linear
from farstep.networks.resnet import Film, ResNet

HEAD_SCALE = 1e-2

LOG_STD_RANGE = -5.0, 2.0

Done = Bool[Array, "batch chunk"] | None
"""Which actions of each chunk were done before its episode ended; None where there are no chunks.
A behaviour loss counts these alone (Q-chunking, Li et al. 2025, arXiv 2507.07969)."""


def split_chunks(
    chunks: Float[Array, "batch size"], done: Bool[Array, "batch chunk"]
) -> Float[Array, "batch chunk actions"]:
    """The actions of chunks, which policies hold flattened."""
    return chunks.reshape(*done.shape, -1)


def over_actions(losses: Float[Array, "batch size"], done: Done) -> Float[Array, " batch"]:
    """By row, the sum over an action's dimensions; of chunks, the mean over the actions done."""
    if done is None:
        return jnp.sum(losses, axis=-1)
    return jnp.mean(done * jnp.sum(split_chunks(losses, done), axis=-1), axis=-1)


class Gaussian(eqx.Module):
    """Unit-variance Gaussian over actions in [−1, 1], or over unbounded vectors."""

    mean: Float[Array, "*batch actions"]
    bounded: bool = eqx.field(static=True, default=True)

    @property
    def mode(self) -> Float[Array, "*batch actions"]:
        """The mean, of actions in [−1, 1]."""
        return jnp.clip(self.mean, -1, 1) if self.bounded else self.mean

    def log_prob(self, actions: Float[Array, "*batch actions"]) -> Float[Array, "*batch"]:
        """Log-density summed over action dimensions, in nats."""
        squares = jnp.sum(jnp.square(actions - self.mean), axis=-1)
        return -0.5 * squares - 0.5 * actions.shape[-1] * math.log(2 * math.pi)

    def sample(self, key: PRNGKey, temperature: Scalar) -> Float[Array, "*batch actions"]:
        """The mean plus noise of standard deviation `temperature`; 0 gives the mean itself."""
        return self.mean + temperature * jax.random.normal(key, self.mean.shape)


class Categorical(eqx.Module):
    """A distribution over numbered actions."""

    logits: Float[Array, "*batch actions"]

    @property
    def mode(self) -> Int[Array, "*batch"]:
        """The most likely action."""
        return jnp.argmax(self.logits, axis=-1)

    def log_prob(self, actions: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
        """Log-probability in nats."""
        logs = jax.nn.log_softmax(self.logits)
        return jnp.take_along_axis(logs, actions[..., None], axis=-1)[..., 0]

    def sample(self, key: PRNGKey, temperature: Scalar) -> Int[Array, "*batch"]:
        """A draw from the logits over `temperature`; 0 gives the mode."""
        # Gumbel noise on the logits draws from them, and needs no division by zero.
        noise = temperature * jax.random.gumbel(key, self.logits.shape)
        return jnp.argmax(self.logits + noise, axis=-1)


class TanhGaussian(eqx.Module):
    """The tanh of a diagonal Gaussian: actions in (−1, 1) with a density."""

    mean: Float[Array, "*batch actions"]
    log_std: Float[Array, "*batch actions"]

    @property
    def mode(self) -> Float[Array, "*batch actions"]:
        """The tanh of the Gaussian's mean."""
        return jnp.tanh(self.mean)

    def sample(self, key: PRNGKey, temperature: Scalar) -> Float[Array, "*batch actions"]:
        """A differentiable sample, its noise scaled by `temperature`; 0 gives `mode`."""
        return jnp.tanh(self.mean + temperature * self._noise(key))

    def sample_and_log_prob(
        self, key: PRNGKey
    ) -> tuple[Float[Array, "*batch actions"], Float[Array, "*batch"]]:
        """A differentiable sample and its log-density in nats."""
        latent = self.mean + self._noise(key)
        standardised = (latent - self.mean) * jnp.exp(-self.log_std)
        gaussian = -0.5 * jnp.square(standardised) - self.log_std - 0.5 * math.log(2 * math.pi)
        # log(1 − tanh²), in the form that does not round to log 0.
        slope = 2 * (math.log(2) - latent - jax.nn.softplus(-2 * latent))
        return jnp.tanh(latent), jnp.sum(gaussian - slope, axis=-1)

    def _noise(self, key: PRNGKey) -> Float[Array, "*batch actions"]:
        return jnp.exp(self.log_std) * jax.random.normal(key, self.mean.shape)


class Actor(eqx.Module):
    """An encoder and an MLP from an observation to a unit-variance Gaussian or a categorical.

    Attributes:
        joins: whether the encoder reads [s; g]; else it reads s, and the goal is a vector beside
            its features.
        films: by which that vector conditions the encoder instead, if there are any.
        bounded: whether the Gaussian's actions lie in [−1, 1].
    """

    encoder: Encoder
    films: tuple[Film, ...]
    torso: MLP
    head: Linear
    discrete: bool = eqx.field(static=True)
    joins: bool = eqx.field(static=True)
    bounded: bool = eqx.field(static=True)

    def __init__(
        self,
        spaces: Spaces,
        hidden: Sequence[int],
        *,
        extra_size: int = 0,
        joins: bool = True,
        film: bool = False,
        bounded: bool = True,
        key: PRNGKey,
    ):
        """
        Args:
            extra_size: total width of the vectors that are joined to the features.

        Raises:
            FarstepError: `film`, and the encoder is none that a vector can condition.
        """
        torso_key, head_key = jax.random.split(key)
        space = joined(spaces) if joins else spaces.observation
        self.encoder = make_encoder(space, stream_key(key, "encoder", 0))
        self.films = ()
        if film:
            if joins or not isinstance(self.encoder, ResNet):
                raise FarstepError(
                    "FiLM conditions residual networks of images by a goal's representation: use"
                    " --encoder resnet18 or resnet34, or --no-film."
                )
            self.films = self.encoder.films(spaces.goal.shape[0], stream_key(key, "film", 0))
        self.torso = MLP(
            self.encoder.features + extra_size + (0 if joins or film else spaces.goal.shape[0]),
            hidden,
            layer_norm=False,
            activate_final=True,
            key=torso_key,
        )
        self.head = Linear(hidden[-1], spaces.action.size, scale=HEAD_SCALE, key=head_key)
        self.discrete = spaces.action.discrete
        self.joins = joins
        self.bounded = bounded

    def __call__(
        self, observations: Observations, goals: Goals, *extras: Float[Array, "batch _"]
    ) -> Gaussian | Categorical:
        """The policy at observations, their goals and extra vectors."""
        if self.joins:
            features = encode(self.encoder, join(observations, goals), *extras)
        else:
            assert not isinstance(goals, dict)  # It is a representation.
            if isinstance(self.encoder, ResNet) and self.films:
                assert not isinstance(observations, dict)  # Several arrays have no such network.
                films = [partial(film, vector=goals) for film in self.films]
                conditioned = self.encoder(observations, *films)
                features = jnp.concatenate([conditioned, *extras], axis=-1)
            else:
                features = encode(self.encoder, observations, goals, *extras)
        outputs = self.head(self.torso(features))
        return Categorical(outputs) if self.discrete else Gaussian(outputs, self.bounded)

    def behaviour_loss(
        self,
        observations: Observations,
        goals: Goals,
        actions: Array,
        key: PRNGKey,
        done: Done = None,
    ) -> Float[Array, " batch"]:
        """−log π of the logged actions, by row; of chunks, the mean over a chunk's actions."""
        policy = self(observations, goals)
        if done is None:
            return -policy.log_prob(actions)
        assert isinstance(policy, Gaussian)
        each = Gaussian(split_chunks(policy.mean, done)).log_prob(split_chunks(actions, done))
        return -jnp.mean(done * each, axis=-1)

    def climb(self, observations: Observations, goals: Goals, key: PRNGKey) -> Array:
        """The actions that a critic's gradient moves: the mode."""
        return self.mode(observations, goals)

    def sample(
        self, observations: Observations, goals: Goals, key: PRNGKey, temperature: Scalar = 1.0
    ) -> Array:
        """Actions that the environment takes, by noise of this scale."""
        actions = self(observations, goals).sample(key, temperature)
        return jnp.clip(actions, -1, 1) if self.bounded and not self.discrete else actions

    def mode(self, observations: Observations, goals: Goals) -> Array:
        """The most likely actions."""
        return self(observations, goals).mode


class TanhGaussianActor(eqx.Module):
    """An encoder and an MLP from [s; g] to a tanh-Gaussian whose deviation depends on the state."""

    encoder: Encoder
    torso: MLP
    mean: Linear
    log_std: Linear

    def __init__(self, spaces: Spaces, hidden: Sequence[int], *, key: PRNGKey):
        torso_key, mean_key, std_key = jax.random.split(key, 3)
        self.encoder = make_encoder(joined(spaces), stream_key(key, "encoder", 0))
        self.torso = MLP(
            self.encoder.features, hidden, layer_norm=True, activate_final=True, key=torso_key
        )
        self.mean = Linear(hidden[-1], spaces.action.size, scale=HEAD_SCALE, key=mean_key)
        self.log_std = Linear(hidden[-1], spaces.action.size, scale=HEAD_SCALE, key=std_key)

    def __call__(self, observations: Observations, goals: Goals) -> TanhGaussian:
        hidden = self.torso(encode(self.encoder, join(observations, goals)))
        return TanhGaussian(self.mean(hidden), jnp.clip(self.log_std(hidden), *LOG_STD_RANGE))

    def behaviour_loss(
        self,
        observations: Observations,
        goals: Goals,
        actions: Array,
        key: PRNGKey,
        done: Done = None,
    ) -> Float[Array, " batch"]:
        """`|a' − a|²` of an action a' drawn from the policy, by row, as in SAC+BC.

        Of chunks, the mean over a chunk's actions.
        """
        drawn = self.sample(observations, goals, key)
        return over_actions(jnp.square(drawn - actions), done)

    def climb(self, observations: Observations, goals: Goals, key: PRNGKey) -> Array:
        """A differentiable draw."""
        return self.sample(observations, goals, key)

    def sample(
        self, observations: Observations, goals: Goals, key: PRNGKey, temperature: Scalar = 1.0
    ) -> Array:
        """Actions by noise of this scale."""
        return self(observations, goals).sample(key, temperature)

    def mode(self, observations: Observations, goals: Goals) -> Array:
        """The actions without noise."""
        return self(observations, goals).mode
