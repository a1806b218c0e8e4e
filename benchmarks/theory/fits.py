"""The losses of farstep, minimised with a free number for every argument.

Every expectation is exact. A loss is called with a batch of one pair (two, where it contrasts) for
each possible outcome, and the results are averaged by the chances of the outcomes. The result is
the fixed point of the loss itself, without errors of a network or of samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from farstep.agents.gciql import GCIQL
from farstep.agents.nsacbc import NSACBC
from farstep.agents.qrl import QRL
from farstep.core.types import Actions, Batch, Sampled, Space, Spaces
from farstep.losses.contrastive import binary_nce, info_nce
from farstep.losses.invariance import action_invariance
from farstep.losses.linex import multistep_backup
from farstep.losses.values import implicit_value
from farstep.networks.critics import Embedding
from farstep.quasimetrics import mrn
from theory.backup import BackupLaw, batch_law
from theory.exact import ActionGoal, StateGoal, future_goals, stationary_states
from theory.mdp import Policy, TabularMDP

Loss = Callable[..., Float[Array, ""]]
"""Of parameters, and of data that stays."""


@dataclass(frozen=True)
class Descent:
    """Adam at a rate that falls to 0 along a cosine.

    Attributes:
        steps: updates.
        rate: the first learning rate.
        seed: of the first parameters.
        scale: of the first embeddings, where there are any.
    """

    steps: int = 3000
    rate: float = 0.03
    seed: int = 0
    scale: float = 1.0

    def descend(self, loss: Loss, params: Any, *data: Array) -> Any:
        """The parameters after the last step."""
        optimizer = optax.adam(optax.cosine_decay_schedule(self.rate, self.steps))
        moving, fixed = eqx.partition(params, eqx.is_inexact_array)

        # Data is an argument: as a constant, XLA would work out parts of the gradient beforehand,
        # one number at a time.
        @jax.jit
        def run(moving: Any, *data: Array) -> Any:
            def step(_: Array, carry: tuple[Any, Any]) -> tuple[Any, Any]:
                moving, state = carry
                gradients = jax.grad(lambda p: loss(eqx.combine(p, fixed), *data))(moving)
                updates, state = optimizer.update(gradients, state)
                return optax.apply_updates(moving, updates), state

            return jax.lax.fori_loop(0, self.steps, step, (moving, optimizer.init(moving)))[0]

        return eqx.combine(run(moving, *data), fixed)


class Learned(NamedTuple):
    """What a critic came to: of states (S, G), and after actions (S, A, G)."""

    states: StateGoal
    actions: ActionGoal


# --- MQE ------------------------------------------------------------------------------------------


def fit_backup(mdp: TabularMDP, behaviour: Policy, law: BackupLaw, how: Descent) -> Learned:
    """MQE's backup alone, in nats: a number for each d((s, a), g), and for each d(s, g).

    The backup fits d((s, a), g) to d(w, g) and says nothing of the latter; so the same backup of s,
    whatever its action, fits that.
    """
    pairs = jnp.asarray(batch_law(mdp, behaviour, law), jnp.float32)
    itself = jnp.eye(mdp.states, dtype=bool)

    def distances(params: dict[str, Array]) -> tuple[Array, Array]:
        return jnp.abs(params["actions"]), jnp.where(itself, 0, jnp.abs(params["states"]))

    def loss(params: dict[str, Array], pairs: Array) -> Array:
        actions, states = distances(params)
        of_actions = _expected_backup(actions, states, pairs, law)
        ignoring_them = jnp.broadcast_to(states[:, None], actions.shape)
        return of_actions + _expected_backup(ignoring_them, states, pairs, law)

    shape = (mdp.states, mdp.actions, mdp.states)
    params = {"actions": jnp.ones(shape), "states": jnp.ones(shape[:1] + shape[2:])}
    actions, states = distances(how.descend(loss, params, pairs))
    return Learned(np.asarray(states), np.asarray(actions))


def fit_mqe(mdp: TabularMDP, behaviour: Policy, law: BackupLaw, how: Descent) -> Learned:
    """MQE's critic, in nats: the backup and action invariance on MRN, an embedding a point.

    One group, and as many coordinates in its one-way half as there are points: enough for any
    quasimetric between them.
    """
    pairs = jnp.asarray(batch_law(mdp, behaviour, law), jnp.float32)

    def loss(params: Embeddings, pairs: Array) -> Array:
        backup = _expected_backup(params.after_actions(), params.between_states(), pairs, law)
        of_acting = jnp.vectorize(lambda d: action_invariance(d[None, None])[0])
        return backup + jnp.sum(pairs.sum(axis=(2, 3, 4)) * of_acting(params.of_acting()))

    return how.descend(loss, Embeddings.drawn(mdp, how), pairs).learned()


class Embeddings(eqx.Module):
    """φ(s, a) and ψ(s), one free vector each, with MRN between them."""

    phi: Float[Array, "states actions latent"]
    psi: Float[Array, "states latent"]

    @classmethod
    def drawn(cls, mdp: TabularMDP, how: Descent) -> Embeddings:
        """Normally distributed, of standard deviation `how.scale`."""
        latent = 2 * mdp.states * (1 + mdp.actions)
        phi_key, psi_key = jax.random.split(jax.random.key(how.seed))
        return cls(
            how.scale * jax.random.normal(phi_key, (mdp.states, mdp.actions, latent)),
            how.scale * jax.random.normal(psi_key, (mdp.states, latent)),
        )

    def after_actions(self) -> Float[Array, "states actions goals"]:
        """d(φ(s, a), ψ(g))."""
        return mrn(self.phi[:, :, None], self.psi, groups=1)

    def between_states(self) -> Float[Array, "states goals"]:
        """d(ψ(s), ψ(g))."""
        return mrn(self.psi[:, None], self.psi, groups=1)

    def of_acting(self) -> Float[Array, "states actions"]:
        """d(ψ(s), φ(s, a))."""
        return mrn(self.psi[:, None], self.phi, groups=1)

    def learned(self) -> Learned:
        return Learned(np.asarray(self.between_states()), np.asarray(self.after_actions()))


def _expected_backup(
    distances: Float[Array, "states actions goals"],
    targets: Float[Array, "waypoints goals"],
    pairs: Float[Array, "states actions steps waypoints goals"],
    law: BackupLaw,
    clip: float = 5.0,
) -> Float[Array, ""]:
    """`multistep_backup`, averaged over the pairs of a large batch."""

    def one(distance: Array, target: Array, steps: Array) -> Array:
        alone = jnp.ones((1, 1, 1))
        return multistep_backup(
            distance * alone, target * alone, steps[None], discount=law.discount, clip=clip
        )[0]

    each = jax.vmap(one, (0, 0, None))  # goals
    each = jax.vmap(each, (None, 0, None))  # waypoints
    each = jax.vmap(each, (None, None, 0))  # steps
    each = jax.vmap(jax.vmap(each, (0, None, None)), (0, None, None))
    steps = jnp.arange(1.0, pairs.shape[2] + 1)
    return jnp.sum(pairs * each(distances, jax.lax.stop_gradient(targets), steps))


# --- Contrastive critics --------------------------------------------------------------------------


def fit_crl(
    mdp: TabularMDP, behaviour: Policy, discount: float, how: Descent, *, batch_size: int = 64
) -> ActionGoal:
    """CRL's logits f(s, a, g), a free number each."""
    contrast = _contrast(mdp, behaviour, discount)
    logits = how.descend(
        lambda f: contrast.binary(f, batch_size), jnp.zeros((mdp.states, mdp.actions, mdp.states))
    )
    return np.asarray(logits)


def fit_cmd(
    mdp: TabularMDP, behaviour: Policy, discount: float, how: Descent, *, batch_size: int = 64
) -> ActionGoal:
    """CMD's d(f(s, a), f(g, a')), averaged over the behaviour's a' as its goals are."""
    contrast = _contrast(mdp, behaviour, discount)
    rows = jnp.asarray(stationary_states(mdp, behaviour)[:, None] * behaviour, jnp.float32)

    def distances(points: Array) -> Array:
        return mrn(points[:, :, None, None], points, groups=1)

    def loss(points: Array) -> Array:
        def given(goal_action: Array) -> Array:
            return contrast.binary(-goal_action, batch_size)

        chances = rows.sum(axis=0)
        by_action = jax.vmap(given)(jnp.moveaxis(distances(points), -1, 0))
        return jnp.sum(chances * by_action)

    latent = 2 * mdp.states * mdp.actions
    drawn = jax.random.normal(jax.random.key(how.seed), (mdp.states, mdp.actions, latent))
    points = how.descend(loss, how.scale * drawn)
    return np.asarray(jnp.einsum("sagb,b->sag", distances(points), rows.sum(axis=0)))


def fit_tmd(
    mdp: TabularMDP,
    behaviour: Policy,
    discount: float,
    how: Descent,
    *,
    backup_weight: float = 0.05,
    invariance_weight: float = 1.0,
    temperature: float = 1.0,
) -> Learned:
    """TMD's critic, in nats: contrast, action invariance and one-step backup on MRN.

    Args:
        temperature: nats of distance that are one of the logits; the released code has √D.
    """
    contrast = _contrast(mdp, behaviour, discount)
    law = BackupLaw(discount, one_step=1.0, diagonal_weight=0.5)
    pairs = jnp.asarray(batch_law(mdp, behaviour, law), jnp.float32)

    def loss(params: Embeddings, pairs: Array) -> Array:
        after, between = params.after_actions(), params.between_states()
        return (
            contrast.columns(-after / temperature)
            + invariance_weight * jnp.sum(pairs.sum(axis=(2, 3, 4)) * params.of_acting())
            + backup_weight * _expected_backup(after, between, pairs, law, clip=3.0)
        )

    return how.descend(loss, Embeddings.drawn(mdp, how), pairs).learned()


@dataclass(frozen=True, eq=False)
class _Contrast:
    """The chances of a row with its own goal, and of a row with another's: (S, A, G)."""

    own: Float[Array, "states actions goals"]
    others: Float[Array, "states actions goals"]

    def binary(self, logits: Float[Array, "states actions goals"], batch_size: int) -> Array:
        """`binary_nce` over batches of any size: a part in `batch_size` of their pairs is own."""
        blank = jnp.zeros((1, 2, 2))

        def of_own(logit: Array) -> Array:
            return binary_nce(logit[None, None, None])[0]

        def of_other(logit: Array) -> Array:
            # What one such logit adds to a batch of two that holds nothing else.
            added = binary_nce(blank.at[0, 0, 1].set(logit))[0] - binary_nce(blank)[0]
            return blank.size * added + math.log(2)

        own = jnp.sum(self.own * jnp.vectorize(of_own)(logits))
        others = jnp.sum(self.others * jnp.vectorize(of_other)(logits))
        return (own + (batch_size - 1) * others) / batch_size

    def columns(self, logits: Float[Array, "states actions goals"]) -> Array:
        """`info_nce` over the rows of each goal, in batches of two; any size has this optimum."""
        flat = logits.reshape(-1, logits.shape[-1])
        own, rows = self.own.reshape(flat.shape), self.own.sum(axis=-1).ravel()

        def of_two(own: Array, other: Array) -> Array:
            batch = jnp.zeros((1, 2, 2)).at[0, :, 0].set(jnp.stack([own, other]))
            # The second goal tells the rows apart by nothing.
            return 2 * info_nce(batch, axes=(-2,))[0] - math.log(2)

        each = jnp.vectorize(of_two)(flat[:, None], flat)
        return jnp.einsum("ig,j,ijg->", own, rows, each)


def _contrast(mdp: TabularMDP, behaviour: Policy, discount: float) -> _Contrast:
    rows = stationary_states(mdp, behaviour)[:, None] * behaviour
    own = rows[..., None] * future_goals(mdp, behaviour, discount)
    others = rows[..., None] * own.sum(axis=(0, 1))
    return _Contrast(jnp.asarray(own, jnp.float32), jnp.asarray(others, jnp.float32))


# --- Values ---------------------------------------------------------------------------------------


def fit_implicit_value(
    mdp: TabularMDP, behaviour: Policy, discount: float, expectile: float, how: Descent
) -> StateGoal:
    """V(s, g) of GCIVL, and of HIQL, in units of reward; all goals alike."""
    rows = _transitions(mdp, behaviour)

    def loss(values: Array) -> Array:
        target = jax.lax.stop_gradient(values)

        def one(state: Array, following: Array, goal: Array) -> Array:
            return implicit_value(
                values[state, goal][None, None],
                target[state, goal][None, None],
                target[following, goal][None, None],
                (state == goal)[None],
                discount=discount,
                expectile=expectile,
            )[0]

        return jnp.sum(rows.chances * jax.vmap(one)(rows.state, rows.following, rows.goal))

    return np.asarray(how.descend(loss, jnp.zeros((mdp.states, mdp.states))))


class TableValue(eqx.Module):
    """V(s, g) as a table, in the place of `GoalValue`; states and goals are one-hot."""

    table: Float[Array, "states goals"]

    def __call__(self, observations: Array, goals: Array) -> Float[Array, "1 batch"]:
        return jnp.einsum("bs,bg,sg->b", observations, goals, self.table)[None]


class TableActionValue(eqx.Module):
    """Q(s, a, g) as a table, in the place of `GoalActionValue`; actions are one-hot, too."""

    table: Float[Array, "states actions goals"]

    def __call__(self, observations: Array, goals: Array, actions: Array) -> Array:
        return jnp.einsum("bs,ba,bg,sag->b", observations, actions, goals, self.table)[None]


def fit_gciql(
    mdp: TabularMDP, behaviour: Policy, discount: float, expectile: float, how: Descent
) -> Learned:
    """V(s, g) and Q(s, a, g) of GCIQL, in units of reward: the agent's own losses on tables."""
    agent = GCIQL(discount=discount, expectile=expectile, ensemble_size=1, hidden=(1,))
    rows = _transitions(mdp, behaviour)

    def loss(tables: tuple[TableValue, TableActionValue]) -> Array:
        value, critic = tables
        params = eqx.tree_at(
            lambda n: (n.value, n.critic, n.target_critic), networks, (value, critic, critic)
        )

        def of(batch: Batch) -> Array:
            return agent.value_loss(params, batch)[0] + agent.critic_loss(params, batch)[0]

        return rows.mean(mdp, of)

    networks = agent.networks(_one_hot_spaces(mdp), jax.random.key(0))
    shape = (mdp.states, mdp.actions, mdp.states)
    first = TableValue(jnp.zeros(shape[:1] + shape[2:])), TableActionValue(jnp.zeros(shape))
    value, critic = how.descend(loss, first)
    return Learned(np.asarray(value.table), np.asarray(critic.table))


@dataclass(frozen=True, eq=False)
class _Transitions:
    """Every (s, a, s', g), and the chance of each; goals are uniform."""

    state: Int[Array, " rows"]
    action: Int[Array, " rows"]
    following: Int[Array, " rows"]
    goal: Int[Array, " rows"]
    chances: Float[Array, " rows"]

    def mean(self, mdp: TabularMDP, loss: Callable[[Batch], Array]) -> Array:
        """A loss of batches, over batches of one row: one-hot states, actions and goals."""
        states, actions = jnp.eye(mdp.states), jnp.eye(mdp.actions)

        def one(state: Array, action: Array, following: Array, goal: Array) -> Array:
            offset = jnp.where(state == goal, 0, -1)
            samples = {
                "goal/value": Sampled(offset[None], {"goals": states[goal][None]}),
                "next": Sampled(jnp.ones(1, jnp.int32), {"observations": states[following][None]}),
            }
            batch = Batch.from_arrays(states[state][None], actions[action][None], samples)
            return loss(batch)

        each = jax.vmap(one)(self.state, self.action, self.following, self.goal)
        return jnp.sum(self.chances * each)


def _transitions(mdp: TabularMDP, behaviour: Policy) -> _Transitions:
    joint = behaviour[..., None] * mdp.transitions / mdp.states
    places = np.argwhere(joint > 0)
    rows = np.repeat(places, mdp.states, axis=0)
    goals = np.tile(np.arange(mdp.states), len(places))
    chances = joint[tuple(rows.T)] / mdp.states
    state, action, following = (jnp.asarray(column) for column in rows.T)
    return _Transitions(
        state, action, following, jnp.asarray(goals), jnp.asarray(chances, jnp.float32)
    )


def _one_hot_spaces(mdp: TabularMDP) -> Spaces:
    return Spaces.from_observation(Space((mdp.states,)), Actions(mdp.actions))


def fit_nsacbc(
    mdp: TabularMDP,
    behaviour: Policy,
    policy: Float[np.ndarray, "goals states actions"],
    discount: float,
    steps: int,
    how: Descent,
) -> ActionGoal:
    """Q(s, a, g) of n-step SAC+BC with its policy held fixed: the agent's own loss on a table.

    Goals are all states alike. Where a row's path of n steps meets its goal, the goal is its first
    visit there, as if drawn from the row's future; elsewhere it is a random one.
    """
    agent = NSACBC(discount=discount, backup_steps=steps, ensemble_size=1, hidden=(1,))
    paths, chances = _paths(mdp, behaviour, steps)
    rows, goals = np.repeat(paths, mdp.states, axis=0), np.tile(np.arange(mdp.states), len(paths))
    met = rows[:, 2:] == goals[:, None]
    offsets = np.where(met.any(axis=1), met.argmax(axis=1) + 1, -1)
    ahead = np.where(offsets > 0, offsets, steps)
    later = rows[np.arange(len(rows)), 1 + ahead]
    columns = [jnp.asarray(c) for c in (rows[:, 0], rows[:, 1], goals, offsets, later, ahead)]
    states, actions = jnp.eye(mdp.states), jnp.eye(mdp.actions)
    weights = jnp.asarray(np.repeat(chances, mdp.states) / mdp.states, jnp.float32)
    networks = agent.networks(_one_hot_spaces(mdp), jax.random.key(0))
    fixed = TablePolicy(jnp.asarray(policy, jnp.float32))

    def loss(table: Array) -> Array:
        critic = TableActionValue(table)
        params = eqx.tree_at(
            lambda n: (n.critic, n.target_critic, n.actor), networks, (critic, critic, fixed)
        )

        def one(state: Array, action: Array, goal: Array, offset: Array, *later: Array) -> Array:
            samples = {
                "goal/value": Sampled(offset[None], {"goals": states[goal][None]}),
                "later": Sampled(later[1][None], {"observations": states[later[0]][None]}),
            }
            batch = Batch.from_arrays(states[state][None], actions[action][None], samples)
            return agent.critic_loss(params, batch, jax.random.key(0))[0]

        return jnp.sum(weights * jax.vmap(one)(*columns))

    logits = how.descend(loss, jnp.zeros((mdp.states, mdp.actions, mdp.states)))
    return np.asarray(jax.nn.sigmoid(logits))


class TablePolicy(eqx.Module):
    """π(a | s, g) of one action each, in the place of an actor."""

    table: Float[Array, "goals states actions"]

    def sample(
        self, observations: Array, goals: Array, key: Key[Array, ""]
    ) -> Float[Array, "batch actions"]:
        return jnp.einsum("bs,bg,gsa->ba", observations, goals, self.table)


def _paths(
    mdp: TabularMDP, behaviour: Policy, steps: int
) -> tuple[Int[np.ndarray, "paths columns"], Float[np.ndarray, " paths"]]:
    """Every (s, a, s_1, …, s_n) and its chance; s is uniform and a the behaviour's."""
    joint = behaviour[..., None] * mdp.transitions / mdp.states
    paths, chain = np.argwhere(joint > 0), mdp.under(behaviour)
    chances = joint[tuple(paths.T)]
    for _ in range(steps - 1):
        following = chain[paths[:, -1]]
        row, state = np.nonzero(following)
        chances = chances[row] * following[row, state]
        paths = np.concatenate([paths[row], state[:, None]], axis=1)
    return paths, chances


# --- QRL ------------------------------------------------------------------------------------------


def fit_qrl(mdp: TabularMDP, how: Descent, *, margin: float = 0.05) -> StateGoal:
    """QRL's d(s, g) in steps: the agent's own loss.

    One-hot states through a single linear layer: an embedding a state. Every transition that has a
    chance is a row, and every state its goal, equally often.
    """
    latent = 8 * mdp.states
    agent = QRL(extraction="awr", groups=2 * mdp.states, latent=latent, hidden=(1,), margin=margin)
    places = np.argwhere(mdp.transitions > 0)
    rows = np.repeat(places, mdp.states, axis=0)
    goals = np.tile(np.arange(mdp.states), len(places))
    one_hot = jnp.eye(mdp.states)
    ahead = np.ones(len(rows), np.int32)
    samples = {
        "goal/value": Sampled(jnp.asarray(-ahead), {"goals": one_hot[goals]}),
        "next": Sampled(jnp.asarray(ahead), {"observations": one_hot[rows[:, 2]]}),
    }
    batch = Batch.from_arrays(one_hot[rows[:, 0]], jnp.asarray(rows[:, 1], jnp.int32), samples)
    key = jax.random.key(how.seed)
    networks = eqx.tree_at(
        lambda n: n.critic.embedding,
        agent.networks(
            Spaces.from_observation(Space((mdp.states,)), Actions(mdp.actions, discrete=True)), key
        ),
        Embedding(Space((mdp.states,)), (), latent, key=key),
    )
    params = how.descend(lambda p: agent.critic_loss(p, batch)[0], networks)
    metric = agent.metric(params)
    starts = metric.embed(one_hot)
    return np.asarray(metric.pairwise(starts, starts).steps)
