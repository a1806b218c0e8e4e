"""Soft actor-critic (Haarnoja et al. 2018) for a body that does as it is commanded.

Two things are added to the published recipe, and both are exact. The networks see the command in
the body's own frame (`bodies`). And the reward of a step is known for every command, so that a
share of each batch is asked for commands other than those that were given.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from farstep.collect.walkers.bodies import walker_body
from farstep.core.ensemble import apply_ensemble, make_ensemble
from farstep.core.errors import FarstepError
from farstep.core.rng import stream_key
from farstep.core.seeds import check_seed
from farstep.networks.actors import LOG_STD_RANGE, TanhGaussian
from farstep.networks.mlp import MLP


@dataclass(frozen=True)
class WalkerRecipe:
    """How a walker is trained.

    Attributes:
        body: `ant`, `humanoid` or `antball`.
        steps: simulator steps in all, over all bodies.
        random_steps: steps of random actions before the first update.
        bodies: bodies stepped together.
        updates: updates after every step of all `bodies`.
        capacity: steps that the replay buffer holds; then the oldest go.
        batch: rows of a batch.
        relabelled: probability that a row is asked for another command than its own.
        learning_rate: Adam's, for actor, critics and temperature.
        actor: widths of the actor's layers.
        critic: widths of the critics' layers.
        layer_norm: whether the critics have LayerNorm.
        pessimistic: the smaller of two critics' values; else their mean.
        discount: γ.
        polyak: share of the new critics in the target critics at every update.
        entropy: target entropy in nats per action dimension.
        temperature: entropy's weight at the start.
        terminate_at_end: no value follows an episode's last step.
        seed: root of everything random.
    """

    body: str = "ant"
    steps: int = 1_000_000
    random_steps: int = 10_000
    bodies: int = 16
    updates: int = 4
    capacity: int = 1_000_000
    batch: int = 128
    relabelled: float = 0.5
    learning_rate: float = 3e-4
    actor: tuple[int, ...] = (256, 256)
    critic: tuple[int, ...] = (256, 256)
    layer_norm: bool = False
    pessimistic: bool = True
    discount: float = 0.99
    polyak: float = 0.005
    entropy: float = -0.5
    temperature: float = 0.1
    terminate_at_end: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        walker_body(self.body)
        check_seed(self.seed, "--seed")
        whole = ("steps", "random_steps", "bodies", "updates", "batch")
        for name in whole:
            if getattr(self, name) < 1:
                raise FarstepError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.capacity < self.bodies:
            raise FarstepError(f"capacity must be at least {self.bodies}, not {self.capacity}")
        if not 0 <= self.relabelled <= 1 or not 0 <= self.discount < 1:
            raise FarstepError("relabelled must be in [0, 1] and discount in [0, 1)")

    @property
    def rows(self) -> int:
        """Rows of the replay buffer: whole rounds of all bodies, none overwritten by halves."""
        return min(self.capacity, self.steps) // self.bodies * self.bodies or self.bodies


RECIPES = {
    "ant": WalkerRecipe("ant"),
    "humanoid": WalkerRecipe(
        "humanoid",
        steps=40_000_000,
        critic=(1024, 1024, 1024),
        batch=256,
        layer_norm=True,
        pessimistic=False,
        relabelled=0.0,
        temperature=1.0,
    ),
    "antball": WalkerRecipe(
        "antball",
        steps=12_000_000,
        batch=256,
        layer_norm=True,
        temperature=1.0,
        terminate_at_end=True,
    ),
}
"""Recipe by body; the humanoid's is the published one but for its learning rate, the dribbler's
also but for its relabelled steps."""


class Learner(eqx.Module):
    """Networks and optimisers.

    The actor's outputs are means and log deviations, side by side.
    """

    actor: MLP
    critics: MLP
    targets: MLP
    log_temperature: Float[Array, ""]
    optimisers: tuple[Any, Any, Any]
    updates: Int[Array, ""]


class Step(eqx.Module):
    """Steps of bodies as the replay buffer's rows hold them, in this order.

    `displacement` is that of the body, or of the ball. `alive` is 0 where the body fell or
    `terminate_at_end` says so, and no value follows.
    """

    observation: Float[Array, "rows observation"]
    action: Float[Array, "rows action"]
    following: Float[Array, "rows observation"]
    displacement: Float[Array, "rows 2"]
    command: Float[Array, "rows 2"]
    poise: Float[Array, "rows 1"]
    alive: Float[Array, "rows 1"]

    @classmethod
    def sizes(cls, recipe: WalkerRecipe) -> tuple[int, ...]:
        """Columns of each part."""
        body = walker_body(recipe.body)
        return (body.observation_size, body.action_size, body.observation_size, 2, 2, 1, 1)

    @classmethod
    def of(cls, rows: Float[Array, "rows columns"], recipe: WalkerRecipe) -> Step:
        """Rows of the replay buffer, by name."""
        parts, start = [], 0
        for size in cls.sizes(recipe):
            parts.append(rows[:, start : start + size])
            start += size
        return cls(*parts)


def start(recipe: WalkerRecipe, root: Key[Array, ""]) -> Learner:
    """Before the first update."""
    body = walker_body(recipe.body)
    actor = MLP(
        body.inputs,
        (*recipe.actor, 2 * body.action_size),
        layer_norm=False,
        key=stream_key(root, "walker/actor", 0),
    )
    critics = make_ensemble(
        lambda key: MLP(
            body.inputs + body.action_size,
            (*recipe.critic, 1),
            layer_norm=recipe.layer_norm,
            key=key,
        ),
        2,
        stream_key(root, "walker/critics", 0),
    )
    log_temperature = jnp.log(jnp.asarray(recipe.temperature))
    adam = optax.adam(recipe.learning_rate)
    return Learner(
        actor,
        critics,
        jax.tree.map(jnp.copy, critics),
        log_temperature,
        (adam.init(actor), adam.init(critics), adam.init(log_temperature)),  # pyright: ignore[reportArgumentType]
        jnp.zeros((), jnp.int32),
    )


def _policy(actor: MLP, inputs: Float[Array, "rows inputs"]) -> TanhGaussian:
    mean, log_std = jnp.split(actor(inputs), 2, axis=-1)
    low, high = LOG_STD_RANGE
    return TanhGaussian(mean, low + 0.5 * (high - low) * (jnp.tanh(log_std) + 1))


@partial(jax.jit, static_argnums=0)
def explore(
    recipe: WalkerRecipe,
    actor: MLP,
    observations: Float[Array, "bodies observation"],
    commands: Float[Array, "bodies 2"],
    root: Key[Array, ""],
    round_number: Int[Array, ""],
) -> Float[Array, "bodies action"]:
    """Actions to try: random ones at first, then the policy's samples."""
    key = stream_key(root, "walker/explore", round_number)
    inputs = walker_body(recipe.body).features(jnp, observations, commands)
    actions = _policy(actor, inputs).sample(key, 1.0)
    random = round_number * recipe.bodies < recipe.random_steps
    return jnp.where(random, jax.random.uniform(key, actions.shape, minval=-1, maxval=1), actions)


@partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def advance(
    recipe: WalkerRecipe,
    learner: Learner,
    replay: Float[Array, "capacity columns"],
    fresh: Float[Array, "bodies columns"],
    round_number: Int[Array, ""],
    root: Key[Array, ""],
) -> tuple[Learner, Float[Array, "capacity columns"], dict[str, Float[Array, ""]]]:
    """Store a round of steps and do the updates that are due; metrics are of the last one."""
    position = (round_number * recipe.bodies) % recipe.rows
    replay = jax.lax.dynamic_update_slice(replay, fresh, (position, 0))
    filled = jnp.minimum((round_number + 1) * recipe.bodies, recipe.rows)
    due = jnp.where((round_number + 1) * recipe.bodies > recipe.random_steps, recipe.updates, 0)

    def one(_: Any, carried: tuple[Learner, Any]) -> tuple[Learner, Any]:
        learner, _ = carried
        key = stream_key(root, "walker/update", learner.updates)
        return _update(recipe, learner, replay, filled, key)

    nothing = {name: jnp.zeros(()) for name in METRICS}
    learner, metrics = jax.lax.fori_loop(0, due, one, (learner, nothing))
    return learner, replay, metrics


METRICS = ("critic/loss", "critic/value", "actor/entropy", "temperature")


def _update(
    recipe: WalkerRecipe,
    learner: Learner,
    replay: Float[Array, "capacity columns"],
    filled: Int[Array, ""],
    key: Key[Array, ""],
) -> tuple[Learner, dict[str, Float[Array, ""]]]:
    body = walker_body(recipe.body)
    row_key, angle_key, other_key, next_key, action_key = jax.random.split(key, 5)
    step = Step.of(replay[jax.random.randint(row_key, (recipe.batch,), 0, filled)], recipe)

    angle = jax.random.uniform(angle_key, (recipe.batch, 1), maxval=2 * jnp.pi)
    any_command = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=1)
    if body.reach:
        length_key = stream_key(key, "walker/reach", 0)
        any_command *= jax.random.uniform(length_key, (recipe.batch, 1), maxval=body.reach)
    relabelled = jax.random.bernoulli(other_key, recipe.relabelled, (recipe.batch, 1))
    command = jnp.where(relabelled, any_command, step.command)
    reward = body.reward(
        jnp, step.observation, step.following, command, step.displacement, step.poise[:, 0]
    )
    inputs = body.features(jnp, step.observation, command)
    next_inputs = body.features(jnp, step.following, body.following(command, step.displacement))
    temperature = jnp.exp(learner.log_temperature)

    def value(critics: MLP, inputs: Array, actions: Array) -> Float[Array, "2 rows"]:
        return apply_ensemble(critics, jnp.concatenate([inputs, actions], axis=1))[..., 0]

    def joint(values: Float[Array, "2 rows"]) -> Float[Array, " rows"]:
        return jnp.min(values, axis=0) if recipe.pessimistic else jnp.mean(values, axis=0)

    next_action, next_log = _policy(learner.actor, next_inputs).sample_and_log_prob(next_key)
    following = joint(value(learner.targets, next_inputs, next_action)) - temperature * next_log
    target = reward + recipe.discount * step.alive[:, 0] * following

    def critic_loss(critics: MLP) -> tuple[Array, Array]:
        values = value(critics, inputs, step.action)
        return jnp.mean(jnp.square(values - target)), jnp.mean(values)

    def actor_loss(actor: MLP, critics: MLP) -> tuple[Array, Array]:
        action, log = _policy(actor, inputs).sample_and_log_prob(action_key)
        return jnp.mean(temperature * log - joint(value(critics, inputs, action))), -jnp.mean(log)

    adam = optax.adam(recipe.learning_rate)

    def stepped(gradient: Any, optimiser: Any, params: Any) -> tuple[Any, Any]:
        change, optimiser = adam.update(gradient, optimiser)
        return optax.apply_updates(params, change), optimiser

    actor_state, critic_state, temperature_state = learner.optimisers
    (loss, mean_value), gradient = jax.value_and_grad(critic_loss, has_aux=True)(learner.critics)
    critics, critic_state = stepped(gradient, critic_state, learner.critics)
    gradient, entropy = jax.grad(actor_loss, has_aux=True)(learner.actor, critics)
    actor, actor_state = stepped(gradient, actor_state, learner.actor)
    # The gradient of temperature · (entropy − target) by log temperature.
    gradient = temperature * (entropy - recipe.entropy * body.action_size)
    log_temperature, temperature_state = stepped(
        gradient, temperature_state, learner.log_temperature
    )
    learner = Learner(
        actor,
        critics,
        jax.tree.map(lambda new, old: old + recipe.polyak * (new - old), critics, learner.targets),
        log_temperature,
        (actor_state, critic_state, temperature_state),
        learner.updates + 1,
    )
    return learner, dict(zip(METRICS, (loss, mean_value, entropy, temperature), strict=True))
