"""Goal-conditioned policies π(a | s, g)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from farstep.core.types import Scalar
from farstep.networks.mlp import MLP, Linear

HEAD_SCALE = 1e-2


class Gaussian(eqx.Module):
    """Unit-variance Gaussian over actions."""

    mean: Float[Array, "*batch actions"]

    def log_prob(self, actions: Float[Array, "*batch actions"]) -> Float[Array, "*batch"]:
        """Log-density summed over action dimensions, in nats."""
        squares = jnp.sum(jnp.square(actions - self.mean), axis=-1)
        return -0.5 * squares - 0.5 * actions.shape[-1] * math.log(2 * math.pi)

    def sample(self, key: Key[Array, ""], temperature: Scalar) -> Float[Array, "*batch actions"]:
        """The mean plus noise of standard deviation `temperature`; 0 gives the mean itself."""
        return self.mean + temperature * jax.random.normal(key, self.mean.shape)


class GaussianActor(eqx.Module):
    """An MLP from [s; g] to the mean of a unit-variance Gaussian; no squashing."""

    torso: MLP
    head: Linear

    def __init__(
        self, observation: int, actions: int, hidden: Sequence[int], *, key: Key[Array, ""]
    ):
        torso_key, head_key = jax.random.split(key)
        self.torso = MLP(
            2 * observation, hidden, layer_norm=False, activate_final=True, key=torso_key
        )
        self.head = Linear(hidden[-1], actions, scale=HEAD_SCALE, key=head_key)

    def __call__(
        self, observations: Float[Array, "*batch obs"], goals: Float[Array, "*batch obs"]
    ) -> Gaussian:
        return Gaussian(self.head(self.torso(jnp.concatenate([observations, goals], axis=-1))))
