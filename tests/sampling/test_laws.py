"""Index laws against their definitions: chi-squared on 10⁵ draws, episode caps included."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from farstep.agents.registry import AGENTS
from farstep.core.laws import (
    Ahead,
    AnyState,
    Current,
    Geometric,
    Steps,
    UniformAhead,
    UniformFuture,
    Window,
    exponential,
    mixture,
)
from farstep.core.rng import root_key, stream_key
from farstep.core.types import GOALS, BatchSpec, Sample
from farstep.sampling.batches import DeviceTable, draw
from farstep.sampling.episodes import Episodes

DRAWS = 100_000
KEY = jax.random.key(7)


def assert_distributed(samples, probabilities):
    """`probabilities` maps each possible value to its probability."""
    values, counts = np.unique(np.asarray(samples), return_counts=True)
    assert set(values) <= set(probabilities), "a value that the law excludes was drawn"
    observed = np.array([counts[values == v].sum() for v in probabilities])
    expected = DRAWS * np.array(list(probabilities.values()))
    keep = expected > 5
    observed = np.append(observed[keep], observed[~keep].sum())
    expected = np.append(expected[keep], expected[~keep].sum())
    nonzero = expected > 1e-9
    if nonzero.sum() == 1:
        return  # The law leaves no choice, and the first assertion says that none was made.
    assert stats.chisquare(observed[nonzero], expected[nonzero]).pvalue > 1e-4


def capped_geometric(rate, cap):
    law = {k: rate ** (k - 1) * (1 - rate) for k in range(1, cap)}
    return law | {cap: rate ** (cap - 1)}


def standing(before, left):
    """As many rows as draws, all at one place of their episode."""
    full = jnp.full(DRAWS, 1, jnp.int32)
    return Steps(0 * full, before * full, left * full)


def drawn(law, left, *, before=0, anywhere=None):
    """Offsets of `law`, which must agree with the steps."""
    rows = standing(before, left)
    one = law.draw(KEY, rows, rows.left, lambda: anywhere)
    ahead = np.asarray(one.offsets) >= 0
    np.testing.assert_array_equal((one.steps.step - before)[ahead], one.offsets[ahead])
    np.testing.assert_array_equal((left - one.steps.left)[ahead], one.offsets[ahead])
    return one


def test_draws_are_those_that_they_were():
    """As drawn by every agent's laws when they were first written, bit for bit."""
    pinned = json.loads((Path(__file__).parent / "draws.json").read_text())
    episodes = Episodes.from_ends(np.array(pinned["episode_ends"]))
    changed = {"waypoint_lambda": 0.9, "policy_random": 0.25, "subgoal_steps": 7, "backup_steps": 9}

    def spec(name):
        agent, _, option = name.partition("/")
        values = changed if option == "options" else {"waypoint_law": option} if option else {}
        known = {field.name for field in fields(AGENTS[agent])}
        values = {"batch_size": 6} | {key: v for key, v in values.items() if key in known}
        return AGENTS[agent](**dict[str, Any](values)).spec()

    specs = {name: spec(name) for name in pinned["draws"]}

    @jax.jit
    def draws(key):
        return {
            name: {
                sample: (episodes.rows(one.steps), one.offsets)
                for sample, one in draw(spec, episodes, key).items()
            }
            for name, spec in specs.items()
        }

    found = jax.tree.map(np.asarray, draws(stream_key(root_key(11), "batch", 5)))
    assert found.keys() == pinned["draws"].keys()
    for name, samples in pinned["draws"].items():
        assert found[name].keys() == samples.keys()
        for sample, expected in samples.items():
            np.testing.assert_array_equal(found[name][sample], expected, f"{name}: {sample}")


@pytest.mark.parametrize("left", [1, 3, 40])
def test_geometric_goals_are_capped_by_the_episode(left):
    assert_distributed(drawn(Geometric(0.9), left).offsets, capped_geometric(0.9, left))


def test_geometric_offsets_of_a_long_horizon_reach_far():
    offsets = drawn(Geometric(0.995), 10**6).offsets
    assert np.mean(offsets) == pytest.approx(200, rel=0.02)
    assert np.max(offsets) > 1500


@pytest.mark.parametrize("gap", [1e-4, 1e-6, 1e-8, 1e-15])
def test_the_geometric_law_holds_as_the_discount_nears_one(gap):
    left = 2**31 - 2
    offsets = np.asarray(drawn(Geometric(1 - gap), left).offsets, np.int64)
    assert offsets.min() >= 1
    assert offsets.max() <= left
    # Ten bins of equal probability, those beyond the cap joined.
    edges = 1 + np.floor(np.log1p(-np.arange(1, 10) / 10) / np.log1p(-gap))
    edges = edges[edges < left]
    counts = np.histogram(offsets, [0.5, *(edges + 0.5), 2.0**31])[0]
    upper = np.append(-np.expm1(edges * np.log1p(-gap)), 1.0)
    expected = DRAWS * np.diff(upper, prepend=0.0)
    assert len(counts) == 1 or stats.chisquare(counts, expected).pvalue > 1e-4


def test_near_steps_are_drawn_however_near_one_the_discount():
    """Small draws lie between the steps of 2⁻²³ that one uniform float32 would make."""
    draws = np.asarray(exponential(KEY, (4_000_000,)))
    assert stats.kstest(draws[draws < 1e-4] / 2.0**-23 % 1, "uniform").pvalue > 1e-4


@pytest.mark.parametrize("left", [1, 2, 6])
def test_uniform_goals_round_between_next_and_last(left):
    span = left - 1
    law = {1: 1.0} if span == 0 else {1 + k: 1 / span for k in range(span + 1)}
    if span:
        law[1] = law[left] = 0.5 / span
    assert_distributed(drawn(UniformFuture(), left).offsets, law)


def test_a_far_step_keeps_its_precision_and_its_episode():
    start = 3 * 10**8
    assert set(np.unique(drawn(UniformFuture(), 5, before=start).offsets)) == {1, 2, 3, 4, 5}
    offsets = drawn(UniformFuture(), 2**31 - 1).offsets
    assert np.min(offsets) > 0


def test_mixtures_draw_each_law_as_often_as_asked():
    law = mixture((0.2, Current()), (0.5, Geometric(0.0)), (0.3, AnyState()))
    other = Steps(*(jnp.full(DRAWS, value, jnp.int32) for value in (3, 7, 2)))
    one = drawn(law, 10, before=50, anywhere=other)
    assert_distributed(one.offsets, {0: 0.2, 1: 0.5, -1: 0.3})
    random = np.asarray(one.offsets) == -1
    assert {tuple(place) for place in np.stack(jax.tree.leaves(one.steps), 1)[random]} == {
        (3, 7, 2)
    }


def test_any_state_that_is_the_row_itself_is_no_step_away():
    rows = standing(4, 3)
    assert np.all(drawn(AnyState(), 3, before=4, anywhere=rows).offsets == 0)


MIXTURE = {k: 0.8 * p + (0.2 if k == 1 else 0) for k, p in capped_geometric(0.7, 12).items()}


@pytest.mark.parametrize(
    ("law", "cap", "expected"),
    [
        (mixture((0.2, Ahead(1)), (0.8, Geometric(0.7))), 12, MIXTURE),
        (Geometric(0.7), 12, capped_geometric(0.7, 12)),
        (UniformAhead(), 12, dict.fromkeys(range(1, 13), 1 / 12)),
        (UniformAhead(50), 12, dict.fromkeys(range(1, 12), 1 / 50) | {12: 39 / 50}),
        (Ahead(50), 12, {12: 1.0}),
        (Ahead(50), 80, {50: 1.0}),
        (Ahead(1), 12, {1: 1.0}),
        (mixture((0.2, Ahead(1)), (0.8, Geometric(0.7))), 1, {1: 1.0}),
    ],
)
def test_waypoint_laws_of_table_1b(law, cap, expected):
    rows = standing(0, 100)
    one = law.draw(KEY, rows, jnp.full(DRAWS, cap, jnp.int32), lambda: rows)
    assert_distributed(one.offsets, expected)


def test_rows_are_valid_steps_drawn_uniformly():
    episodes = Episodes.from_ends(np.array([2, 3 + 1, 9]))
    rows = draw(BatchSpec(DRAWS), episodes, KEY)["current"].steps
    assert_distributed(episodes.rows(rows), dict.fromkeys((0, 1, 3, 5, 6, 7, 8), 1 / 7))
    starts, last = np.array([0, 3, 5]), np.array([2, 4, 9])
    np.testing.assert_array_equal(episodes.starts(), starts)
    np.testing.assert_array_equal(starts[rows.episode] + rows.step, episodes.rows(rows))
    np.testing.assert_array_equal(last[rows.episode] - rows.left, episodes.rows(rows))


@pytest.mark.parametrize("scale", [1, 50])
def test_steps_of_a_long_table_are_drawn_uniformly(scale):
    """A hundred million steps, and five billion, more than an int32 counts."""
    lengths = scale * np.array([40_000_000, 10, 39_999_990, 20_000_000])
    episodes = Episodes.from_ends(np.cumsum(lengths) - 1)
    np.testing.assert_array_equal(episodes.starts(), np.cumsum(lengths) - lengths)
    steps = jax.tree.map(np.asarray, episodes.uniform(KEY, DRAWS))
    np.testing.assert_array_equal(steps.step + steps.left, lengths[steps.episode] - 1)
    assert steps.step.min() >= 0
    assert steps.left.min() >= 1
    rows = episodes.starts()[steps.episode] + steps.step.astype(np.int64)
    if scale == 1:
        np.testing.assert_array_equal(episodes.rows(steps), rows)
    assert stats.kstest(rows / lengths.sum(), "uniform").pvalue > 1e-4


@pytest.mark.parametrize("number", [0, 1, 2, 3, 6, 7])
def test_counts_beyond_int32_find_the_episode_of_every_transition(number, monkeypatch):
    """The search over blocks, where each transition can be told: 4 and 3 and 1 of them."""
    counts = np.array([4, 7, 8])
    episodes = Episodes(jnp.asarray(counts // 2), jnp.asarray(counts % 2), 2, 4)
    block, place = divmod(number, 2)
    answers = iter([jnp.array([place]), jnp.array([block])])
    monkeypatch.setattr(jax.random, "randint", lambda *_: next(answers))
    found = episodes.uniform(KEY, 1)
    episode = int(np.searchsorted(counts, number, side="right"))
    first = 0 if episode == 0 else int(counts[episode - 1])
    assert [int(leaf[0]) for leaf in jax.tree.leaves(found)] == [
        episode,
        number - first,
        int(counts[episode]) - number,
    ]


def test_a_batch_holds_what_was_asked_for_and_nothing_else():
    ends = np.array([4, 9, 29])
    table = DeviceTable(
        jnp.arange(30.0)[:, None], jnp.arange(30.0)[:, None] / 30, Episodes.from_ends(ends)
    )
    mixed = mixture((0.2, Current()), (0.3, Geometric(0.99)), (0.5, AnyState()))
    spec = BatchSpec(
        512,
        {
            "goal/value": Sample(Geometric(0.99), GOALS),
            "goal/actor": Sample(mixed, GOALS),
            "waypoint": Sample(Geometric(0.95), ("observations", "goals"), cap="goal/value"),
            "next": Sample(Ahead(1)),
            "subgoal": Sample(Ahead(7)),
            "after": Sample(Ahead(2), around="subgoal"),
        },
    )
    batch = table.sample(spec, KEY)
    assert set(batch.samples) == {"current", *spec.samples}
    assert batch["goal/value"].columns.keys() == {"goals"}
    rows = np.asarray(batch.observations)[:, 0].astype(int)
    end = ends[np.searchsorted(ends, rows)]
    np.testing.assert_allclose(batch.actions[:, 0], rows / 30, rtol=1e-6)
    waypoint = batch["waypoint"]
    np.testing.assert_array_equal(waypoint.observations, waypoint.goals)
    for offsets, read in (
        (batch["goal/value"].offsets, batch["goal/value"].goals),
        (waypoint.offsets, waypoint.goals),
        (batch["subgoal"].offsets, batch["subgoal"].observations),
    ):
        where = np.asarray(read)[:, 0]
        np.testing.assert_array_equal(where, rows + offsets)
        assert np.all(where <= end)
    assert np.all(np.asarray(waypoint.offsets) <= batch["goal/value"].offsets)
    np.testing.assert_array_equal(batch["subgoal"].observations[:, 0], np.minimum(rows + 7, end))
    np.testing.assert_array_equal(batch["after"].observations[:, 0], np.minimum(rows + 9, end))
    assert np.all(np.asarray(batch["next"].offsets) == 1)
    random = np.asarray(batch["goal/actor"].offsets) == -1
    assert 0.4 < random.mean() < 0.6

    assert table.sample(BatchSpec(8), KEY).samples.keys() == {"current"}


def test_frames_and_chunks_stop_at_their_episode_and_at_the_cap():
    ends = np.array([4, 9, 29])
    numbers = jnp.arange(30.0)[:, None]
    table = DeviceTable(numbers, numbers, Episodes.from_ends(ends))
    frames, chunk = Window(back=2), Window(ahead=3)
    spec = BatchSpec(
        256,
        {
            "goal": Sample(Ahead(2), GOALS),
            "frames": Sample(frames),
            "chunk": Sample(chunk, ("actions",)),
            "towards": Sample(chunk, ("actions",), cap="goal"),
            "goal/frames": Sample(frames, GOALS, around="goal"),
        },
    )
    batch = table.sample(spec, KEY)
    rows = np.asarray(batch.observations, int)
    end = ends[np.searchsorted(ends, rows)]
    first = np.append(0, ends + 1)[np.searchsorted(ends, rows)]
    seen = batch["frames"].observations[..., 0]
    np.testing.assert_array_equal(seen, np.maximum(rows + frames.places, first))
    np.testing.assert_array_equal(
        frames.valid(batch["frames"].offsets), rows + frames.places >= first
    )
    done = batch["chunk"].actions[..., 0]
    np.testing.assert_array_equal(done, np.minimum(rows + np.arange(4), end - 1))
    np.testing.assert_array_equal(chunk.valid(batch["chunk"].offsets), rows + np.arange(4) < end)
    reached = np.minimum(rows + 2, end)
    np.testing.assert_array_equal(
        chunk.valid(batch["towards"].offsets), rows + np.arange(4) < reached
    )
    before = batch["goal/frames"].goals[..., 0]
    # A frame stack ends with its own state, the episode's last included.
    np.testing.assert_array_equal(before, np.maximum(reached + frames.places, first))


def test_goals_and_rows_are_drawn_independently_by_name():
    table = Episodes.from_ends(np.array([999]))
    goal = Sample(Geometric(0.99), GOALS)
    both = draw(BatchSpec(2000, {"goal/value": goal, "goal/policy": goal}), table, KEY)
    value, policy = both["goal/value"].offsets, both["goal/policy"].offsets
    assert abs(np.corrcoef(np.log(value), np.log(policy))[0, 1]) < 0.1


@pytest.mark.parametrize(
    "build",
    [
        lambda: mixture((0.5, Current())),
        lambda: mixture((1.5, Current()), (-0.5, AnyState())),
        lambda: mixture((0.5, Window(1)), (0.5, AnyState())),
        lambda: Geometric(1.0),
        lambda: Geometric(-0.1),
        lambda: Ahead(0),
        lambda: Window(back=-1),
        lambda: UniformAhead(0),
        lambda: BatchSpec(0),
        lambda: BatchSpec(1, {"waypoint": Sample(Ahead(1), cap="goal")}),
        lambda: BatchSpec(
            1, {"frames": Sample(Window(1), around="next"), "next": Sample(Ahead(1))}
        ),
        lambda: BatchSpec(1, {"current": Sample(Ahead(1))}),
        lambda: Sample(Ahead(1), cap="goal", around="next"),
    ],
)
def test_impossible_specifications_are_refused(build):
    with pytest.raises(ValueError, match=r"must|need"):
        build()
