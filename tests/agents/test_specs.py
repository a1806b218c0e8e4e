"""What agents ask of a batch, drawn 10⁵ times: joint laws of row and offset, by chi-squared."""

from dataclasses import fields, replace
from functools import partial

import jax
import numpy as np
import pytest
from scipy import stats

from farstep.agents.registry import AGENTS
from farstep.core.laws import (
    Ahead,
    AnyState,
    Current,
    Geometric,
    Mixture,
    UniformAhead,
    UniformFuture,
)
from farstep.core.types import BatchSpec, Sample
from farstep.sampling.batches import draw
from farstep.sampling.episodes import Episodes

DRAWS = 100_000
KEY = jax.random.key(3)
ENDS = np.array([7, 9, 14])
EPISODES = Episodes.from_ends(ENDS)
LEFT = {i: int(ENDS[np.searchsorted(ENDS, i)] - i) for i in range(15) if i not in ENDS}
"""Steps to the end of its episode, by row."""


def specs():
    """Every agent's spec, with horizons that these short episodes can tell apart."""
    options = {"discount": 0.7, "waypoint_lambda": 0.6, "policy_random": 0.25, "subgoal_steps": 3}
    options |= {"backup_steps": 4}
    for kind in AGENTS.values():
        known = {field.name for field in fields(kind)}
        yield kind(**{name: value for name, value in options.items() if name in known}).spec()


def law_of(law, left) -> dict[int, float]:
    """Probability of each offset where an episode or a cap ends `left` steps ahead."""
    match law:
        case Current():
            return {0: 1.0}
        case AnyState():
            return {0: 1 / len(LEFT), -1: 1 - 1 / len(LEFT)}
        case Ahead(steps):
            return {min(steps, left): 1.0}
        case Geometric(discount):
            within = {k: discount ** (k - 1) * (1 - discount) for k in range(1, left)}
            return within | {left: discount ** (left - 1)}
        case UniformFuture():
            if left == 1:
                return {1: 1.0}
            share = 1 / (left - 1)
            return {k: share * (0.5 if k in (1, left) else 1) for k in range(1, left + 1)}
        case UniformAhead(most):
            farthest = left if most is None else most
            chances = dict.fromkeys(range(1, left + 1), 0.0)
            for k in range(1, farthest + 1):
                chances[min(k, left)] += 1 / farthest
            return chances
        case Mixture(parts):
            chances: dict[int, float] = {}
            for probability, part in parts:
                for k, chance in law_of(part, left).items():
                    chances[k] = chances.get(k, 0.0) + probability * chance
            return chances
    raise AssertionError(f"no such law: {law}")


def capped_law(law, cap, left):
    """The same where the cap is itself drawn."""
    chances: dict[int, float] = {}
    for reach, probability in law_of(cap, left).items():
        for k, chance in law_of(law, left if reach < 0 else min(left, reach)).items():
            chances[k] = chances.get(k, 0.0) + probability * chance
    return chances


def assert_joint(rows, offsets, law):
    """Rows are uniform over the valid steps, and each row's offsets follow its own law."""
    joint = {(i, k): p / len(LEFT) for i, left in LEFT.items() for k, p in law(left).items()}
    drawn, counts = np.unique(np.stack([rows, offsets]), axis=1, return_counts=True)
    observed = dict(zip(map(tuple, drawn.T.tolist()), counts, strict=True))
    assert {cell for cell, p in joint.items() if p == 0}.isdisjoint(observed)
    assert observed.keys() <= joint.keys(), "an offset that the law excludes was drawn"
    cells = [cell for cell, p in joint.items() if p > 0]
    expected = DRAWS * np.array([joint[cell] for cell in cells])
    observed_counts = np.array([observed.get(cell, 0) for cell in cells])
    assert expected.min() > 5
    assert stats.chisquare(observed_counts, expected).pvalue > 1e-4


def random_goals():
    laws = {sample.law for spec in specs() for sample in spec.samples.values()}
    return sorted((law for law in laws if not isinstance(law, Ahead)), key=str)


@pytest.mark.parametrize("law", random_goals(), ids=str)
def test_goals_follow_the_law_that_agents_ask_for(law):
    samples = draw(BatchSpec(DRAWS, {"goal": Sample(law)}), EPISODES, KEY)
    rows = np.asarray(EPISODES.rows(samples["current"].steps))
    indices = np.asarray(EPISODES.rows(samples["goal"].steps))
    offsets = np.asarray(samples["goal"].offsets)
    assert_joint(rows, offsets, lambda left: law_of(law, left))
    ahead = offsets >= 0
    np.testing.assert_array_equal(indices[ahead], (rows + offsets)[ahead])
    assert set(indices[~ahead]) <= set(LEFT)
    assert np.all(indices[~ahead] != rows[~ahead])


@pytest.mark.parametrize("name", sorted(AGENTS))
def test_capped_states_stop_at_the_episodes_end_and_at_the_goal(name):
    spec = dict(zip(AGENTS, specs(), strict=True))[name]
    drawn = draw(replace(spec, size=DRAWS), EPISODES, KEY)
    rows = np.asarray(EPISODES.rows(drawn["current"].steps))
    left = np.array([LEFT[i] for i in rows])
    for sample, asked in spec.samples.items():
        steps, offsets = drawn[sample].steps, np.asarray(drawn[sample].offsets)
        if asked.cap is not None:
            cap = np.asarray(drawn[asked.cap].offsets)
            assert np.all((cap < 0) | (offsets <= cap))
            joint = partial(capped_law, asked.law, spec.samples[asked.cap].law)
            assert_joint(rows, offsets, joint)
        if isinstance(asked.law, Ahead):
            expected = np.minimum(asked.law.steps, left)
            if asked.cap is not None:
                expected = np.where(cap < 0, expected, np.minimum(expected, cap))
            np.testing.assert_array_equal(offsets, expected)
            np.testing.assert_array_equal(EPISODES.rows(steps), rows + expected)
