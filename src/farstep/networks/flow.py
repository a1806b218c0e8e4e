"""Flow policies: actions carried from noise along a learned velocity (Lipman et al. 2023).

As Park et al. 2025 use them for offline reinforcement learning (FQL, arXiv 2502.02538; SHARSA,
arXiv 2506.04168). Unlike a Gaussian they hold several ways to act at one state.
"""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from farstep.core.rng import PRNGKey
from farstep.core.types import Scalar, Spaces, size_of
from farstep.networks.actors import Actor, Done, Gaussian, over_actions
from farstep.networks.encoders import Goals, Observations

EULER_STEPS = 10

FIXED_NOISE = 0
"""Seed of the noise that a policy without temperature starts from. Not zeros: where the data go two
ways, the way from zeros leads between them."""

Actions = Float[Array, "batch actions"]


class FlowPolicy(eqx.Module):
    """π(a | s, g) as the flow of a velocity v(x_t, t, s, g) from x_0 ~ N(0, I) to an action x_1.

    Attributes:
        velocity: v.
        one_step: from x_0 to what the flow makes of it, in one step that a critic's gradient can
            pass; the policy acts by it where there is one.
    """

    velocity: Actor
    one_step: Actor | None

    def __init__(
        self,
        spaces: Spaces,
        hidden: Sequence[int],
        *,
        one_step: bool,
        joins: bool = True,
        bounded: bool = True,
        key: PRNGKey,
    ):
        """Takes spaces of continuous actions; `joins` and `bounded` are an `Actor`'s."""
        keys, size = jax.random.split(key), spaces.action.size

        def make(key: PRNGKey, extra_size: int) -> Actor:
            return Actor(
                spaces, hidden, extra_size=extra_size, joins=joins, bounded=bounded, key=key
            )

        self.velocity = make(keys[0], size + 1)
        self.one_step = make(keys[1], size) if one_step else None

    def behaviour_loss(
        self,
        observations: Observations,
        goals: Goals,
        actions: Actions,
        key: PRNGKey,
        done: Done = None,
    ) -> Float[Array, " batch"]:
        """`|v(x_t, t) − (a − x_0)|²` at x_t = (1 − t)·x_0 + t·a, t ~ U[0, 1], by row.

        It is a mean over an action's dimensions, and over a chunk's actions. With a one-step form,
        its squared distance to what the flow makes of x_0 is added.
        """
        noise_key, time_key = jax.random.split(key)
        noise = jax.random.normal(noise_key, actions.shape)
        time = jax.random.uniform(time_key, (len(actions), 1))
        moved = (1 - time) * noise + time * actions
        velocity = _output(self.velocity, observations, goals, moved, time)
        size = actions.shape[-1] if done is None else actions.shape[-1] // done.shape[-1]
        loss = over_actions(jnp.square(velocity - (actions - noise)), done) / size
        if self.one_step is None:
            return loss
        flowed = jax.lax.stop_gradient(self._flowed(observations, goals, noise))
        distilled = _output(self.one_step, observations, goals, noise)
        return loss + jnp.mean(jnp.square(distilled - flowed), axis=-1)

    def climb(self, observations: Observations, goals: Goals, key: PRNGKey) -> Actions:
        """Actions of the one-step form, which a critic's gradient passes."""
        return self.sample(observations, goals, key)

    def sample(
        self, observations: Observations, goals: Goals, key: PRNGKey, temperature: Scalar = 1.0
    ) -> Actions:
        """Actions. `temperature` scales x_0; at 0 it is the same noise every time."""
        shape = (size_of(observations), self._size)
        fixed = jnp.broadcast_to(jax.random.normal(jax.random.key(FIXED_NOISE), shape[1:]), shape)
        drawn = temperature * jax.random.normal(key, shape)
        noise = jnp.where(jnp.asarray(temperature) > 0, drawn, fixed)
        if self.one_step is None:
            actions = self._flowed(observations, goals, noise)
        else:
            actions = _output(self.one_step, observations, goals, noise)
        return jnp.clip(actions, -1, 1) if self.velocity.bounded else actions

    def mode(self, observations: Observations, goals: Goals) -> Actions:
        """The action from one fixed x_0."""
        return self.sample(observations, goals, jax.random.key(FIXED_NOISE), 0.0)

    @property
    def _size(self) -> int:
        return self.velocity.head.bias.shape[-1]

    def _flowed(self, observations: Observations, goals: Goals, noise: Actions) -> Actions:
        """x_1 by Euler's method."""
        actions = noise
        for step in range(EULER_STEPS):
            time = jnp.full((len(noise), 1), step / EULER_STEPS)
            velocity = _output(self.velocity, observations, goals, actions, time)
            actions = actions + velocity / EULER_STEPS
        return actions


def _output(network: Actor, observations: Observations, goals: Goals, *extras: Array) -> Actions:
    policy = network(observations, goals, *extras)
    assert isinstance(policy, Gaussian)
    return policy.mean
