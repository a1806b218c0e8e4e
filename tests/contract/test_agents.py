"""Every registered agent against the one contract that training, serving and planning rely on.

They all learn the same corridor: six states in a line, walked from end to end in both directions.
So each has a right answer: the way to a goal is the way it lies, and as many steps as it is away.
"""

from dataclasses import fields, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from farstep.agents.mqe import MQE
from farstep.agents.registry import AGENTS, agent_class, agent_from_dict, agent_to_dict
from farstep.core.errors import FarstepError
from farstep.core.goals import GoalRule
from farstep.core.rng import root_key, stream_key
from farstep.core.trees import from_named, named_leaves
from farstep.core.types import Actions, Space, Spaces
from farstep.sampling.batches import DeviceTable, batch_shape
from farstep.sampling.episodes import Episodes
from farstep.training.program import TrainState, advance, member, stack, start

LENGTH = 6
SPACES = Spaces.from_observation(Space((LENGTH,)), Actions(2))
SEVERAL = Spaces.from_observation(
    Space.several({"image": Space((8, 8, 3), "uint8", "image"), "state": Space((3,))}), Actions(2)
)
PIXELS = Spaces.from_observation(Space((16, 16, 3), "uint8", "image"), Actions(2))
DISCRETE = Spaces.from_observation(Space((LENGTH,)), Actions(3, discrete=True))
KEY = root_key(0)
UPDATES = 2000

COMMON = {
    "hidden": (32,),
    "latent": 16,
    "groups": 2,
    "batch_size": 32,
    "learning_rate": 1e-3,
    "alpha": 1.0,
    "inverse_temperature": 1.0,
    "discount": 0.9,
    "target_rate": 0.05,
}
OWN = {
    "cmd": {"discount": 0.5},
    "crl": {"alpha": 3.0},
    "gciql": {"batch_size": 64, "expectile": 0.95, "learning_rate": 3e-3, "target_rate": 0.2},
    "gcivl": {"expectile": 0.95},
    "hiql": {"expectile": 0.95, "subgoal_steps": 2},
    "mqe": {"diagonal_weight": 1.0},
    "nsacbc": {"batch_size": 64, "backup_steps": 1, "target_rate": 0.2},
    "qrl": {"learning_rate": 3e-3},
    "tmd": {"discount": 0.5},
}
NEAREST = {"hiql": 2}
"""Least steps to a goal that a policy has learned of: HIQL's low one sees no nearer subgoal."""

COUNTS_STEPS = {"gciql", "gcivl", "hiql", "mqe", "nsacbc", "qrl"}
"""Whose theory says that, here, the distance is the number of steps; the others' orders the states
by how far they are from a goal."""

NEEDS_CONTINUOUS = {"cmd", "nsacbc"}
NEEDS_CLONING = {"crl", "gciql", "mqe", "qrl", "tmd"}
STATES_ONLY = {"gcivl", "hiql"}
WHOLE_GOALS = {"cmd", "qrl"}
WITHOUT_METRIC = {"crl", "gcbc", "tra"}


def slow_but(*quick):
    """Every agent, for a check that compiles more than the default suite has time for."""
    return [
        pytest.param(name, marks=[] if name in quick else [pytest.mark.slow])
        for name in sorted(AGENTS)
    ]


def settings(name):
    return COMMON | OWN.get(name, {})


def small(name, **options):
    kind = AGENTS[name]
    known = {field.name for field in fields(kind)}
    values = settings(name) | options
    return kind(**{key: value for key, value in values.items() if key in known})


@cache
def corridor():
    """Walks from end to end: the first action says the direction, the second nothing."""
    rng = np.random.default_rng(0)
    there = np.arange(LENGTH)
    states = np.concatenate([there, there[::-1]] * 20)
    actions = rng.uniform(-0.3, 0.3, (len(states), 2)).astype(np.float32)
    actions[:, 0] = np.repeat([0.8, -0.8] * 20, LENGTH)
    return DeviceTable(
        jnp.asarray(np.eye(LENGTH, dtype=np.float32)[states]),
        jnp.asarray(actions),
        Episodes.from_ends(np.arange(LENGTH - 1, len(states), LENGTH)),
    )


def go_on(agent, state, updates):
    first, roots = jnp.asarray(0), KEY[None]
    return member(advance(agent, stack([state]), corridor(), first, roots, jnp.asarray(updates)), 0)


@partial(jax.jit, static_argnums=0)
def initial(agent, seed):
    return start(agent, SPACES, seed)


@cache
def learned(name, updates):
    agent = small(name)
    if updates == 0:
        return initial(agent, 0)
    return go_on(agent, learned(name, 0), updates)


HERE, THERE = np.divmod(np.arange(LENGTH**2), LENGTH)
AHEAD = THERE - HERE
"""Every pair of states, and how far the second lies ahead of the first."""


@cache
def asked(name):
    """What the agent says of every pair once it has learned, in one compiled program."""
    return jax.tree.map(np.asarray, answer(name, learned(name, UPDATES).state.params))


@partial(jax.jit, static_argnums=0)
def answer(name, params):
    agent = small(name)
    corridor_states = jnp.eye(LENGTH)
    states, goals = corridor_states[HERE], corridor_states[THERE]
    towards = jnp.stack([0.8 * np.sign(AHEAD), np.zeros_like(AHEAD)], axis=-1).astype(jnp.float32)

    keys = jnp.stack([KEY, root_key(1), KEY])

    def act(key, temperature):
        return agent.act(params, states, goals, key, temperature)

    answers: dict[str, Any] = {}
    answers["actions"] = jax.vmap(act)(keys, jnp.asarray([0.0, 0.0, 100.0]))
    metric = agent.metric(params)
    if metric is None:
        return answers
    starts, ends = metric.embed(corridor_states), metric.embed_goal(corridor_states)
    answers["embedded"] = starts
    answers["distance"] = metric.distance(starts[HERE], ends[THERE])
    answers["from one start"] = metric.distance(starts[:1], ends[THERE])
    answers["pairwise"] = metric.pairwise(starts, ends)
    laid_out = metric.laid_out(starts)
    answers["laid out"] = metric.embeddings(laid_out)
    answers["both ways"] = metric.both_ways(laid_out[HERE], laid_out[THERE])
    answers["from one"] = metric.both_ways(laid_out[:1], laid_out[THERE])
    for few in (1, 2):
        answers[f"to {few}"] = metric.pairwise(starts, ends[:few])
        answers[f"from {few}"] = metric.pairwise(starts[:few], ends)
    if name not in STATES_ONLY:
        after = [metric.after(states, actions, goals) for actions in (towards, -towards)]
        answers["after actions"] = jax.tree.map(lambda *each: jnp.stack(each), *after)
    return answers


@pytest.fixture(scope="module", params=sorted(AGENTS))
def name(request):
    return request.param


def test_one_update_changes_every_layer_and_counts(name):
    before, after = learned(name, 0).state, learned(name, 1).state
    assert int(after.step) == 1
    old, new = named_leaves(before.params), named_leaves(after.params)
    assert all(np.any(old[leaf] != new[leaf]) for leaf in old if leaf.endswith("kernel"))
    assert all(np.all(np.isfinite(leaf)) for leaf in new.values())


def test_metrics_are_finite_scalars_that_the_agents_page_explains(name):
    page = (Path(__file__).parents[2] / "docs" / f"{name}.md").read_text()
    metrics = learned(name, 1).means()
    assert metrics["gradient/norm"] > 0
    for metric, value in metrics.items():
        assert value.shape == (), metric
        assert np.isfinite(value), metric
        assert f"`{metric}`" in page, metric


def test_a_run_cut_in_two_is_the_same_run_bit_for_bit(name):
    half = go_on(small(name), learned(name, 0), 7)
    stored = named_leaves(jax.tree.map(np.asarray, half.items()))
    items = jax.tree.map(jnp.asarray, from_named(half.items(), stored, where="memory"))
    restored = TrainState.from_items(items)
    resumed = named_leaves(go_on(small(name), restored, 13))
    whole = named_leaves(go_on(small(name), learned(name, 0), 20))
    assert all(np.array_equal(resumed[leaf], whole[leaf]) for leaf in whole)


def test_the_policy_goes_the_way_the_goal_lies(name):
    apart = np.abs(AHEAD) >= NEAREST.get(name, 1)
    actions, _, _ = asked(name)["actions"]
    np.testing.assert_array_equal(np.sign(actions[apart, 0]), np.sign(AHEAD[apart]))


def test_actions_lie_in_bounds_and_noise_needs_temperature(name):
    actions, by_another_key, noisy = asked(name)["actions"]
    assert actions.shape == (len(HERE), 2)
    np.testing.assert_array_equal(actions, by_another_key)
    assert not np.array_equal(actions, noisy)
    assert np.abs(asked(name)["actions"]).max() <= 1


def test_the_distance_is_as_far_as_the_goal_is_or_clearly_absent(name):
    if name in WITHOUT_METRIC:
        assert "distance" not in asked(name)
        return
    nats, steps = asked(name)["distance"]
    assert np.all(nats >= 0)
    np.testing.assert_allclose(
        nats, steps * -np.log(settings(name)["discount"]), rtol=1e-5, atol=1e-6
    )
    apart = np.abs(AHEAD)
    if name in COUNTS_STEPS:
        np.testing.assert_allclose(steps, apart, rtol=0.15, atol=0.75)
    else:
        by_goal = np.arange(LENGTH**2).reshape(LENGTH, LENGTH).T
        ranks = stats.rankdata(np.stack([steps[by_goal], apart[by_goal]]), axis=-1)
        assert np.corrcoef(*ranks.reshape(2, -1))[0, 1] > 0.9


def test_mqe_keeps_its_distance_where_other_rows_actions_cost_nothing_either():
    agent = small("mqe", invariance="cross")
    critic = go_on(agent, learned("mqe", 0), UPDATES).state.params
    metric = agent.metric(critic)
    assert metric is not None
    steps = metric.distance(*(metric.embed(jnp.eye(LENGTH)[at]) for at in (HERE, THERE))).steps
    apart = np.abs(AHEAD)
    assert np.corrcoef(steps, apart)[0, 1] > 0.95
    assert np.mean(steps[apart > 0]) == pytest.approx(np.mean(apart[apart > 0]), rel=0.15)


def test_the_distance_after_an_action_counts_the_action_or_is_refused(name):
    if name in WITHOUT_METRIC:
        return
    if name in STATES_ONLY:
        metric, states = small(name).metric(learned(name, 0).state.params), jnp.eye(LENGTH)
        assert metric is not None
        with pytest.raises(FarstepError, match="without them"):
            metric.after(states, jnp.zeros((LENGTH, 2)), states)
        return
    inside = (AHEAD != 0) & (HERE > 0) & (HERE < LENGTH - 1)  # Where both actions are logged.
    towards, away = asked(name)["after actions"].steps[:, inside]
    assert np.mean(towards < away) > 0.9
    if name in COUNTS_STEPS:
        np.testing.assert_allclose(towards, np.abs(AHEAD)[inside], rtol=0.15, atol=0.75)


def test_pairwise_distances_are_those_of_each_pair(name):
    if name in WITHOUT_METRIC:
        return
    answers = asked(name)
    assert len(answers["embedded"]) == LENGTH
    np.testing.assert_array_equal(answers["laid out"], answers["embedded"])
    for pairwise, each in zip(answers["pairwise"], answers["distance"], strict=True):
        np.testing.assert_allclose(pairwise, each.reshape(LENGTH, -1), rtol=1e-4, atol=1e-4)
    for few in (1, 2):
        narrow = zip(answers[f"to {few}"], answers[f"from {few}"], answers["pairwise"], strict=True)
        for to, away, every in narrow:
            np.testing.assert_allclose(to, every[:, :few], rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(away, every[:few], rtol=1e-4, atol=1e-4)
    # `pairwise` by starts and goals; `both ways` of each pair, and the way back.
    back = [every.T.reshape(-1) for every in answers["pairwise"]]
    for ways, expected in zip(answers["both ways"], (answers["distance"], back), strict=True):
        for each, every in zip(ways, expected, strict=True):
            np.testing.assert_allclose(each, every, rtol=1e-4, atol=1e-4)
    from_one = [every[0, THERE] for every in answers["pairwise"]]
    for each, every in zip(answers["from one start"], from_one, strict=True):
        np.testing.assert_allclose(each, every, rtol=1e-4, atol=1e-4)
    to_one = [every[THERE, 0] for every in answers["pairwise"]]
    for ways, expected in zip(answers["from one"], (from_one, to_one), strict=True):
        for each, every in zip(ways, expected, strict=True):
            np.testing.assert_allclose(each, every, rtol=1e-4, atol=1e-4)


def test_seeds_alone_initialise_differently(name):
    first = named_leaves(learned(name, 0).state.params)
    again, other = (named_leaves(initial(small(name), seed).state.params) for seed in (0, 1))
    assert all(np.array_equal(first[leaf], again[leaf]) for leaf in first)
    kernels = [leaf for leaf in first if leaf.endswith("kernel")]
    assert not any(np.array_equal(first[leaf], other[leaf]) for leaf in kernels)


def test_hyperparameters_survive_json(name):
    assert agent_from_dict(agent_to_dict(small(name)), where="file") == small(name)


def outcome(agent, spaces):
    """What an update and an action come to, in shapes and types."""

    def run(batch):
        state = agent.init(spaces, KEY)
        later, metrics = agent.update(state, batch, KEY)
        actions = agent.act(later.params, batch.observations, batch.goals, KEY)
        distances = ()
        metric = agent.metric(later.params)
        if metric is not None:
            starts, goals = metric.embed(batch.observations), metric.embed_goal(batch.goals)
            few = jax.tree.map(lambda array: array[:2], starts)
            distances = metric.distance(starts, goals), metric.pairwise(few, goals)
        return state, later, metrics, actions, distances

    return jax.eval_shape(run, batch_shape(agent.training_spec(), spaces))


def test_pixels_are_observations_like_any_other(name):
    agent = small(name, crops=0.5)
    state, later, metrics, actions, distances = outcome(agent, PIXELS)
    assert jax.tree.structure(state) == jax.tree.structure(later)
    convolutions = [leaf for leaf in named_leaves(state.params).values() if leaf.ndim == 4]
    assert convolutions
    assert actions.shape == (agent.batch_size, 2)
    assert all(metric.shape == () for metric in metrics.values())
    if name not in WITHOUT_METRIC:
        each, pairwise = distances
        assert each.steps.shape == (agent.batch_size,)
        assert pairwise.steps.shape == (2, agent.batch_size)


@pytest.mark.parametrize("one", slow_but("gciql", "mqe"))
def test_an_image_beside_a_vector_is_an_observation_like_any_other(one):
    """With stacked frames, and goals that are the image alone where a method allows it."""
    agent = small(one, crops=0.5, augmentation="bridge")
    spaces = SEVERAL
    if one not in WHOLE_GOALS:
        spaces = replace(spaces, goal=spaces.observation.keys["image"], rule=GoalRule(key="image"))
    state, later, _, actions, distances = outcome(agent, spaces.stacked(2))
    assert jax.tree.structure(state) == jax.tree.structure(later)
    assert actions.shape == (agent.batch_size, 2)
    assert (distances == ()) == (one in WITHOUT_METRIC)


def test_discrete_actions_where_defined_and_else_refused(name):
    agent = small(name)
    if name in NEEDS_CONTINUOUS | NEEDS_CLONING:
        with pytest.raises(FarstepError, match="discrete"):
            agent.networks(DISCRETE, KEY)
    if name in NEEDS_CONTINUOUS:
        return
    if name in NEEDS_CLONING:
        agent = replace(agent, extraction="awr")
    *_, actions, _ = outcome(agent, DISCRETE)
    assert actions.shape == (agent.batch_size,)
    assert actions.dtype == jnp.int32


@pytest.mark.slow
def test_a_batch_holds_nothing_that_the_loss_does_not_read(name):
    agent = small(name)
    params = learned(name, 0).state.params
    batch = corridor().sample(agent.spec(), KEY)
    jaxpr = jax.make_jaxpr(lambda held: agent.loss(params, held, KEY)[0])(batch).jaxpr
    used = {id(v) for equation in jaxpr.eqns for v in equation.invars}
    names = list(named_leaves(batch))
    unread = [leaf for leaf, v in zip(names, jaxpr.invars, strict=True) if id(v) not in used]
    assert all(leaf.endswith("offsets") for leaf in unread)


@pytest.mark.parametrize("one", slow_but("gcbc", "gcivl"))
def test_compiled_programs_compute_what_each_operation_by_itself_does(one):
    agent, progress = small(one), learned(one, 0)
    batch = corridor().sample(agent.training_spec(), stream_key(KEY, "batch", 0))
    _, eager = agent.loss(progress.state.params, batch, stream_key(KEY, "update", 0))
    compiled = learned(one, 1).means()
    for metric, value in eager.items():
        np.testing.assert_allclose(compiled[metric], value, rtol=2e-4, atol=1e-5, err_msg=metric)


@pytest.mark.parametrize("one", slow_but("gcbc"))
def test_seeds_trained_together_are_the_seeds_trained_alone(one):
    agent = small(one)
    together = stack([initial(agent, seed) for seed in (0, 1)])
    roots = jnp.stack([root_key(seed) for seed in (0, 1)])
    seeds = advance(agent, together, corridor(), jnp.asarray(0), roots, jnp.asarray(5))
    alone = named_leaves(go_on(agent, learned(one, 0), 5).state.params)
    for leaf, value in named_leaves(member(seeds, 0).state.params).items():
        # Adam turns the rounding of a gradient near 0 into a share of its step of 1e-3.
        np.testing.assert_allclose(value, alone[leaf], rtol=1e-3, atol=5e-4, err_msg=leaf)


@pytest.mark.parametrize("one", slow_but())
def test_an_update_on_pixels_is_finite(one):
    agent = small(one, batch_size=4, crops=0.5)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3)).astype(np.uint8)
    table = DeviceTable(
        jnp.asarray(pixels), jnp.zeros((40, 2)), Episodes.from_ends(np.array([19, 39]))
    )

    @jax.jit
    def run(key):
        batch = table.sample(agent.training_spec(), key)
        return agent.update(agent.init(PIXELS, key), batch, key)

    state, metrics = run(KEY)
    for leaf, value in (named_leaves(state.params) | metrics).items():
        assert np.all(np.isfinite(value)), leaf


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(FarstepError, match="Did you mean 'mqe'"):
        agent_class("mqee")
    values = agent_to_dict(MQE()) | {"discont": 0.9}
    with pytest.raises(FarstepError, match=r"config.json: MQE has no 'discont'.*'discount'"):
        agent_from_dict(values, where="config.json")
