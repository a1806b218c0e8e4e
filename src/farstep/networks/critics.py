"""Values and embeddings of states, actions and goals."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
from jaxtyping import Array, Float

from farstep.core.ensemble import apply_ensemble, make_ensemble
from farstep.core.rng import PRNGKey, stream_key
from farstep.core.types import Space, Spaces
from farstep.networks.encoders import (
    ActionVector,
    Encoder,
    Goals,
    Observations,
    encode,
    join,
    joined,
    make_encoder,
)
from farstep.networks.mlp import MLP


class Embedding(eqx.Module):
    """An ensemble from an observation, and extra vectors, into a latent space.

    Its members share the encoder.
    """

    encoder: Encoder
    members: MLP

    def __init__(
        self,
        space: Space,
        hidden: Sequence[int],
        latent: int,
        *,
        extra_size: int = 0,
        ensemble_size: int = 1,
        layer_norm: bool = True,
        key: PRNGKey,
    ):
        """
        Args:
            space: space of observations.
            extra_size: total width of the vectors that are joined to its features.
        """
        encoder = make_encoder(space, stream_key(key, "encoder", 0))
        self.encoder = encoder
        self.members = make_ensemble(
            lambda k: MLP(
                encoder.features + extra_size, (*hidden, latent), layer_norm=layer_norm, key=k
            ),
            ensemble_size,
            key,
        )

    def __call__(
        self, observations: Observations, *extras: Float[Array, "batch _"]
    ) -> Float[Array, "members batch latent"]:
        return apply_ensemble(self.members, encode(self.encoder, observations, *extras))


class StateActionEmbedding(eqx.Module):
    """φ(s, a), ψ(s) and ψ_g(g): ensembles of separate networks into the same latent space.

    Where goals are observations, ψ is ψ_g. Its members share what encodes images, and φ and ψ do
    too where the method has it so; then `state_encoder` is None.
    """

    state_action: MLP
    state: MLP
    encoder: Encoder
    state_encoder: Encoder | None
    action_vector: ActionVector
    goal: Embedding | None

    def __init__(
        self,
        spaces: Spaces,
        hidden: Sequence[int],
        latent: int,
        *,
        ensemble_size: int,
        one_encoder: bool = False,
        key: PRNGKey,
    ):
        """
        Args:
            one_encoder: φ and ψ share what encodes their observations.
        """
        phi_key, psi_key = jax.random.split(key)
        space, widths = spaces.observation, (*hidden, latent)
        self.encoder = make_encoder(space, stream_key(phi_key, "encoder", 0))
        self.state_encoder = None
        if not one_encoder:
            self.state_encoder = make_encoder(space, stream_key(psi_key, "encoder", 0))
        features = self.encoder.features
        phi_inputs = features + spaces.action.size
        self.state_action = make_ensemble(
            lambda k: MLP(phi_inputs, widths, layer_norm=True, key=k), ensemble_size, phi_key
        )
        self.state = make_ensemble(
            lambda k: MLP(features, widths, layer_norm=True, key=k), ensemble_size, psi_key
        )
        self.action_vector = ActionVector(spaces.action.size, spaces.action.discrete)
        self.goal = None
        if not spaces.rule.whole:
            goal_key = stream_key(key, "goal", 0)
            self.goal = Embedding(
                spaces.goal, hidden, latent, ensemble_size=ensemble_size, key=goal_key
            )

    def phi(
        self, observations: Observations, actions: Array
    ) -> Float[Array, "members batch latent"]:
        """φ(s, a) of each member."""
        features = encode(self.encoder, observations, self.action_vector(actions))
        return apply_ensemble(self.state_action, features)

    def psi(self, observations: Observations) -> Float[Array, "members batch latent"]:
        """ψ(s) of each member."""
        encoder = self.encoder if self.state_encoder is None else self.state_encoder
        return apply_ensemble(self.state, encoder(observations))

    def psi_goal(self, goals: Goals) -> Float[Array, "members batch latent"]:
        """ψ_g(g) of each member."""
        return self.psi(goals) if self.goal is None else self.goal(goals)


class GoalValue(eqx.Module):
    """V(s, g): one number a member, from [s; g]."""

    embedding: Embedding

    def __init__(self, spaces: Spaces, hidden: Sequence[int], *, ensemble_size: int, key: PRNGKey):
        self.embedding = Embedding(joined(spaces), hidden, 1, ensemble_size=ensemble_size, key=key)

    def __call__(self, observations: Observations, goals: Goals) -> Float[Array, "members batch"]:
        return self.embedding(join(observations, goals))[..., 0]


class GoalActionValue(eqx.Module):
    """Q(s, a, g): one number a member, from [s; g] and a."""

    embedding: Embedding
    action_vector: ActionVector

    def __init__(self, spaces: Spaces, hidden: Sequence[int], *, ensemble_size: int, key: PRNGKey):
        self.embedding = Embedding(
            joined(spaces),
            hidden,
            1,
            extra_size=spaces.action.size,
            ensemble_size=ensemble_size,
            key=key,
        )
        self.action_vector = ActionVector(spaces.action.size, spaces.action.discrete)

    def __call__(
        self, observations: Observations, goals: Goals, actions: Array
    ) -> Float[Array, "members batch"]:
        return self.embedding(join(observations, goals), self.action_vector(actions))[..., 0]
