"""Index laws against their definitions: chi-squared on 10⁵ draws, episode caps included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from farstep.core.types import BatchSpec, GoalSpec, WaypointSpec
from farstep.sampling.batches import DeviceTable, Episodes, draw
from farstep.sampling.goals import goal_indices
from farstep.sampling.waypoints import waypoint_offsets

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


def goals(spec, index, end, random_index=0):
    full = jnp.full(DRAWS, 1, jnp.int32)
    return goal_indices(KEY, spec, full * index, full * end, full * random_index)


@pytest.mark.parametrize("left", [1, 3, 40])
def test_geometric_goals_are_capped_by_the_episode(left):
    spec = GoalSpec(law="geometric", discount=0.9)
    indices, offsets = goals(spec, 100, 100 + left)
    assert_distributed(offsets, capped_geometric(0.9, left))
    np.testing.assert_array_equal(indices, 100 + offsets)


def test_geometric_offsets_of_a_long_horizon_reach_far():
    _, offsets = goals(GoalSpec(law="geometric", discount=0.995), 0, 10**6)
    assert np.mean(offsets) == pytest.approx(200, rel=0.02)
    assert np.max(offsets) > 1500


@pytest.mark.parametrize("left", [1, 2, 6])
def test_uniform_goals_round_between_next_and_last(left):
    _, offsets = goals(GoalSpec(law="uniform"), 10, 10 + left)
    span = left - 1
    law = {1: 1.0} if span == 0 else {1 + k: 1 / span for k in range(span + 1)}
    if span:
        law[1] = law[left] = 0.5 / span
    assert_distributed(offsets, law)


def test_a_far_index_keeps_its_precision():
    start = 3 * 10**8
    indices, offsets = goals(GoalSpec(law="uniform"), start, start + 5)
    assert set(np.unique(indices)) == {start + k for k in range(1, 6)}
    np.testing.assert_array_equal(indices - start, offsets)


def test_mixtures_draw_each_law_as_often_as_asked():
    spec = GoalSpec(current=0.2, future=0.5, random=0.3, law="geometric", discount=0.0)
    indices, offsets = goals(spec, 50, 60, random_index=7)
    assert_distributed(offsets, {0: 0.2, 1: 0.5, -1: 0.3})
    assert set(np.asarray(indices[offsets == -1])) == {7}
    assert set(np.asarray(indices[offsets == 0])) == {50}


MIXTURE = {k: 0.8 * p + (0.2 if k == 1 else 0) for k, p in capped_geometric(0.7, 12).items()}


@pytest.mark.parametrize(
    ("law", "cap", "expected"),
    [
        ("mixture", 12, MIXTURE),
        ("geometric", 12, capped_geometric(0.7, 12)),
        ("uniform", 12, dict.fromkeys(range(1, 13), 1 / 12)),
        ("uniform-50", 12, dict.fromkeys(range(1, 12), 1 / 50) | {12: 39 / 50}),
        ("constant-50", 12, {12: 1.0}),
        ("constant-50", 80, {50: 1.0}),
        ("constant-1", 12, {1: 1.0}),
        ("mixture", 1, {1: 1.0}),
    ],
)
def test_waypoint_laws_of_table_1b(law, cap, expected):
    spec = WaypointSpec(law=law, lambda_=0.7, one_step=0.2)
    offsets = waypoint_offsets(KEY, spec, jnp.full(DRAWS, cap, jnp.int32))
    assert_distributed(offsets, expected)


def test_rows_are_valid_steps_drawn_uniformly():
    episodes = Episodes.from_ends(np.array([2, 3 + 1, 9]))
    np.testing.assert_array_equal(episodes.valid, [0, 1, 3, 5, 6, 7, 8])
    np.testing.assert_array_equal(episodes.ends, [2] * 3 + [4] * 2 + [9] * 5)
    drawn = draw(BatchSpec(DRAWS), episodes, KEY)
    assert_distributed(drawn.rows, dict.fromkeys((0, 1, 3, 5, 6, 7, 8), 1 / 7))


def test_a_batch_holds_what_was_asked_for_and_nothing_else():
    ends = np.array([4, 9, 29])
    table = DeviceTable(
        jnp.arange(30.0)[:, None], jnp.arange(30.0)[:, None] / 30, Episodes.from_ends(ends)
    )
    spec = BatchSpec(
        512,
        goals={"value": GoalSpec(), "actor": GoalSpec(current=0.2, future=0.3, random=0.5)},
        waypoint=WaypointSpec(),
        successors={"next": 1, "subgoal": 7},
    )
    batch = table.sample(spec, KEY)
    assert batch.waypoint is not None
    rows = np.asarray(batch.observations)[:, 0].astype(int)
    end = ends[np.searchsorted(ends, rows)]
    np.testing.assert_allclose(batch.actions[:, 0], rows / 30, rtol=1e-6)
    for sampled in (batch.goals["value"], batch.waypoint, batch.successors["subgoal"]):
        where = np.asarray(sampled.observations)[:, 0]
        np.testing.assert_array_equal(where, rows + sampled.offsets)
        assert np.all(where <= end)
    assert np.all(np.asarray(batch.waypoint.offsets) <= batch.goals["value"].offsets)
    np.testing.assert_array_equal(
        batch.successors["subgoal"].observations[:, 0], np.minimum(rows + 7, end)
    )
    assert np.all(np.asarray(batch.successors["next"].offsets) == 1)
    random = np.asarray(batch.goals["actor"].offsets) == -1
    assert 0.4 < random.mean() < 0.6

    bare = table.sample(BatchSpec(8), KEY)
    assert bare.waypoint is None
    assert not bare.goals
    assert not bare.successors


def test_goals_and_rows_are_drawn_independently_by_name():
    table = Episodes.from_ends(np.array([999]))
    spec = BatchSpec(2000, goals={"value": GoalSpec(), "policy": GoalSpec()})
    drawn = draw(spec, table, KEY)
    (_, value), (_, policy) = drawn.goals["value"], drawn.goals["policy"]
    assert abs(np.corrcoef(np.log(value), np.log(policy))[0, 1]) < 0.1


@pytest.mark.parametrize(
    "build",
    [
        lambda: GoalSpec(future=0.5),
        lambda: GoalSpec(discount=1.0),
        lambda: WaypointSpec(one_step=1.5),
        lambda: WaypointSpec(lambda_=-0.1),
        lambda: BatchSpec(0),
        lambda: BatchSpec(1, waypoint=WaypointSpec()),
        lambda: BatchSpec(
            1, goals={"value": GoalSpec(future=0.5, random=0.5)}, waypoint=WaypointSpec()
        ),
    ],
)
def test_impossible_specifications_are_refused(build):
    with pytest.raises(ValueError, match=r"must|need"):
        build()
