"""Embeddings whose quasimetric is the temporal distance."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from farstep.core.ensemble import apply_ensemble, make_ensemble
from farstep.networks.mlp import MLP


class StateActionEmbedding(eqx.Module):
    """φ(s, a) and ψ(s): two ensembles of separate networks into the same latent space."""

    state_action: MLP
    state: MLP

    def __init__(
        self,
        observation: int,
        actions: int,
        hidden: Sequence[int],
        latent: int,
        *,
        members: int,
        key: Key[Array, ""],
    ):
        phi_key, psi_key = jax.random.split(key)
        widths = (*hidden, latent)
        self.state_action = make_ensemble(
            lambda k: MLP(observation + actions, widths, layer_norm=True, key=k), members, phi_key
        )
        self.state = make_ensemble(
            lambda k: MLP(observation, widths, layer_norm=True, key=k), members, psi_key
        )

    def phi(
        self, observations: Float[Array, "*batch obs"], actions: Float[Array, "*batch actions"]
    ) -> Float[Array, "members *batch latent"]:
        """φ(s, a) of each member."""
        return apply_ensemble(self.state_action, jnp.concatenate([observations, actions], axis=-1))

    def psi(
        self, observations: Float[Array, "*batch obs"]
    ) -> Float[Array, "members *batch latent"]:
        """ψ(s) of each member."""
        return apply_ensemble(self.state, observations)
