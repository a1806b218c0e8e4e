"""Goal-conditioned policies π(a | s, g)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from farstep.core.rng import stream_key
from farstep.core.types import Scalar, Space, Spaces
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

HEAD_SCALE = 1e-2

LOG_STD_RANGE = -5.0, 2.0


class Gaussian(eqx.Module):
    """Unit-variance Gaussian over actions."""

    mean: Float[Array, "*batch actions"]

    @property
    def mode(self) -> Float[Array, "*batch actions"]:
        """The most likely action that the environment takes: the mean, in [−1, 1]."""
        return jnp.clip(self.mean, -1, 1)

    def log_prob(self, actions: Float[Array, "*batch actions"]) -> Float[Array, "*batch"]:
        """Log-density summed over action dimensions, in nats."""
        squares = jnp.sum(jnp.square(actions - self.mean), axis=-1)
        return -0.5 * squares - 0.5 * actions.shape[-1] * math.log(2 * math.pi)

    def sample(self, key: Key[Array, ""], temperature: Scalar) -> Float[Array, "*batch actions"]:
        """The mean plus noise of standard deviation `temperature`; 0 gives the mean itself."""
        return self.mean + temperature * jax.random.normal(key, self.mean.shape)

    def act(self, key: Key[Array, ""], temperature: Scalar) -> Float[Array, "*batch actions"]:
        """A sample in [−1, 1]."""
        return jnp.clip(self.sample(key, temperature), -1, 1)


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

    def sample(self, key: Key[Array, ""], temperature: Scalar) -> Int[Array, "*batch"]:
        """A draw from the logits over `temperature`; 0 gives the mode."""
        # Gumbel noise on the logits draws from them, and needs no division by zero.
        noise = temperature * jax.random.gumbel(key, self.logits.shape)
        return jnp.argmax(self.logits + noise, axis=-1)

    def act(self, key: Key[Array, ""], temperature: Scalar) -> Int[Array, "*batch"]:
        """A sample."""
        return self.sample(key, temperature)


class TanhGaussian(eqx.Module):
    """The tanh of a diagonal Gaussian: actions in (−1, 1) with a density."""

    mean: Float[Array, "*batch actions"]
    log_std: Float[Array, "*batch actions"]

    @property
    def mode(self) -> Float[Array, "*batch actions"]:
        """The tanh of the Gaussian's mean."""
        return jnp.tanh(self.mean)

    def sample(self, key: Key[Array, ""], temperature: Scalar) -> Float[Array, "*batch actions"]:
        """A differentiable sample, its noise scaled by `temperature`; 0 gives `mode`."""
        return jnp.tanh(self.mean + temperature * self._noise(key))

    def sample_and_log_prob(
        self, key: Key[Array, ""]
    ) -> tuple[Float[Array, "*batch actions"], Float[Array, "*batch"]]:
        """A differentiable sample and its log-density in nats."""
        latent = self.mean + self._noise(key)
        standardised = (latent - self.mean) * jnp.exp(-self.log_std)
        gaussian = -0.5 * jnp.square(standardised) - self.log_std - 0.5 * math.log(2 * math.pi)
        # log(1 − tanh²), in the form that does not round to log 0.
        slope = 2 * (math.log(2) - latent - jax.nn.softplus(-2 * latent))
        return jnp.tanh(latent), jnp.sum(gaussian - slope, axis=-1)

    def act(self, key: Key[Array, ""], temperature: Scalar) -> Float[Array, "*batch actions"]:
        """A sample."""
        return self.sample(key, temperature)

    def _noise(self, key: Key[Array, ""]) -> Float[Array, "*batch actions"]:
        return jnp.exp(self.log_std) * jax.random.normal(key, self.mean.shape)


class Actor(eqx.Module):
    """An encoder and an MLP from an observation to a unit-variance Gaussian or a categorical.

    The observation is [s; g], or s alone with a representation of the goal beside it.
    """

    encoder: Encoder
    torso: MLP
    head: Linear
    discrete: bool = eqx.field(static=True)

    def __init__(
        self,
        space: Space,
        outputs: int,
        hidden: Sequence[int],
        *,
        discrete: bool = False,
        beside: int = 0,
        key: Key[Array, ""],
    ):
        """
        Args:
            space: of the observation, [s; g] or s.
            outputs: dimensions of the Gaussian, or number of discrete actions.
            beside: size of the goal's representation, if it comes beside the observation.
        """
        torso_key, head_key = jax.random.split(key)
        self.encoder = make_encoder(space, stream_key(key, "encoder", 0))
        self.torso = MLP(
            self.encoder.features + beside,
            hidden,
            layer_norm=False,
            activate_final=True,
            key=torso_key,
        )
        self.head = Linear(hidden[-1], outputs, scale=HEAD_SCALE, key=head_key)
        self.discrete = discrete

    @classmethod
    def of(
        cls, spaces: Spaces, hidden: Sequence[int], key: Key[Array, ""], *, beside: int = 0
    ) -> Actor:
        """π(a | s, g) from [s; g], in the kind of actions that the spaces have."""
        actions, space = spaces.action, joined(spaces)
        return cls(space, actions.size, hidden, discrete=actions.discrete, beside=beside, key=key)

    def __call__(self, observations: Observations, goals: Goals) -> Gaussian | Categorical:
        """The policy given observations and goals of one shape."""
        return self.given(join(observations, goals))

    def given(
        self, observations: Observations, *beside: Float[Array, "batch _"]
    ) -> Gaussian | Categorical:
        """The policy given one observation and vectors beside it."""
        outputs = self.head(self.torso(encode(self.encoder, observations, *beside)))
        return Categorical(outputs) if self.discrete else Gaussian(outputs)

    def behaviour_loss(
        self, observations: Observations, goals: Goals, actions: Array, key: Key[Array, ""]
    ) -> Float[Array, " batch"]:
        """−log π of the logged actions, by row."""
        return -self(observations, goals).log_prob(actions)

    def climb(self, observations: Observations, goals: Goals, key: Key[Array, ""]) -> Array:
        """The actions that a critic's gradient moves: the mode."""
        return self.mode(observations, goals)

    def sample(
        self,
        observations: Observations,
        goals: Goals,
        key: Key[Array, ""],
        temperature: Scalar = 1.0,
    ) -> Array:
        """Actions that the environment takes, by noise of this scale."""
        return self(observations, goals).act(key, temperature)

    def mode(self, observations: Observations, goals: Goals) -> Array:
        """The most likely actions."""
        return self(observations, goals).mode


class TanhGaussianActor(eqx.Module):
    """An encoder and an MLP from [s; g] to a tanh-Gaussian whose deviation depends on the state."""

    encoder: Encoder
    torso: MLP
    mean: Linear
    log_std: Linear

    def __init__(self, spaces: Spaces, hidden: Sequence[int], *, key: Key[Array, ""]):
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
        self, observations: Observations, goals: Goals, actions: Array, key: Key[Array, ""]
    ) -> Float[Array, " batch"]:
        """`|a' − a|²` of an action a' drawn from the policy, by row, as in SAC+BC."""
        drawn = self.sample(observations, goals, key)
        return jnp.sum(jnp.square(drawn - actions), axis=-1)

    def climb(self, observations: Observations, goals: Goals, key: Key[Array, ""]) -> Array:
        """A draw, which a critic's gradient passes."""
        return self.sample(observations, goals, key)

    def sample(
        self,
        observations: Observations,
        goals: Goals,
        key: Key[Array, ""],
        temperature: Scalar = 1.0,
    ) -> Array:
        """Actions by noise of this scale."""
        return self(observations, goals).sample(key, temperature)

    def mode(self, observations: Observations, goals: Goals) -> Array:
        """The actions without noise."""
        return self(observations, goals).mode
