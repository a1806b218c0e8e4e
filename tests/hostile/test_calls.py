"""Calls that cannot be meant: each is refused with words that say what is wrong and what is needed.

A case is a line: what is called, and words of the message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

from farstep.agents.base import Agent
from farstep.agents.gcbc import GCBC
from farstep.agents.gciql import GCIQL
from farstep.agents.mqe import MQE
from farstep.core.errors import FarstepError
from farstep.core.rng import root_key
from farstep.core.types import Actions, Space, Spaces
from farstep.data.normalize import Normalization
from farstep.planning.graph import Landmarks
from farstep.serving.policy import Policy

VECTORS = Spaces.from_observation(Space((3,)), Actions(2))
STATES, GOALS = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
ACTIONS = np.zeros((5, 2), np.float32)
BYTES = np.zeros((2, 16, 16, 3), np.uint8)
NAN, INF = (np.where(np.arange(15).reshape(5, 3) == 7, bad, STATES) for bad in (np.nan, np.inf))


def policy_of(agent: Agent, spaces: Spaces) -> Policy:
    return Policy(
        agent=agent,
        params=jax.jit(lambda: agent.networks(spaces, root_key(0)))(),
        spaces=spaces,
        normalization=Normalization.identity(spaces),
        dataset="absent-v0",
        environment=None,
        step=0,
    )


@pytest.fixture(scope="module")
def policies() -> dict[str, Policy]:
    vectors = policy_of(MQE(hidden=(8,), latent=16, groups=2), VECTORS)
    landmarks = Landmarks(STATES, STATES, 5, step_length=1e4, edge_cutoff=1e4, tolerance=1.0)
    return {
        "vectors": replace(vectors, landmarks=landmarks),
        "without a distance": policy_of(GCBC(hidden=(8,)), VECTORS),
        "discrete": policy_of(
            GCIQL(hidden=(8,), extraction="awr"),
            Spaces.from_observation(Space((3,)), Actions(4, discrete=True)),
        ),
        "images": policy_of(
            GCBC(hidden=(8,)),
            Spaces.from_observation(Space((16, 16, 3), "uint8", "image"), Actions(2)),
        ),
    }


Call = Callable[[Any], object]

CALLS: list[tuple[str, Call, str]] = [
    ("vectors", lambda p: p.act(STATES, GOALS[:3]), "5 observations and 3 goals"),
    ("vectors", lambda p: p.distance(STATES[:2], GOALS[:3]), "2 observations and 3 goals"),
    ("vectors", lambda p: p.act(STATES[0], np.zeros(4)), r"goals have shape \(4,\)"),
    ("vectors", lambda p: p.act(STATES[None], GOALS), r"observations have shape \(1, 5, 3\)"),
    ("vectors", lambda p: p.act(STATES.T, GOALS), r"observations have shape \(3, 5\)"),
    ("vectors", lambda p: p.act([[1, 2, 3], [4, 5]], GOALS), "observations are no array"),
    ("vectors", lambda p: p.act(None, GOALS), "observations are of object"),
    ("vectors", lambda p: p.act(["a", "b", "c"], GOALS), "observations are of <U1"),
    ("vectors", lambda p: p.act(STATES + 0j, GOALS), "observations are of complex64"),
    ("vectors", lambda p: p.act(NAN, GOALS), r"observations are not finite: nan at \(2, 1\)"),
    ("vectors", lambda p: p.act(STATES, INF), r"goals are not finite: inf at \(2, 1\)"),
    ("vectors", lambda p: p.act(STATES, 1e300 * GOALS.astype(float)), "goals are not finite"),
    ("vectors", lambda p: p.distance(NAN[2], GOALS), r"observations are not finite: nan at \(1,\)"),
    ("vectors", lambda p: p.act(STATES, GOALS, temperature=-1), "temperature must be"),
    ("vectors", lambda p: p.act(STATES, GOALS, temperature=np.nan), "temperature must be"),
    ("vectors", lambda p: p.distance(STATES, GOALS, ACTIONS.T), r"actions have shape \(2, 5\)"),
    ("vectors", lambda p: p.distance(STATES, GOALS, ACTIONS[:3]), r"actions have shape \(3, 2\)"),
    ("vectors", lambda p: p.distance(STATES, GOALS, ACTIONS.ravel()), "actions have shape"),
    ("vectors", lambda p: p.distance(STATES, GOALS, np.nan * ACTIONS), "actions are not finite"),
    ("vectors", lambda p: p.plan(np.zeros(4)), r"the goal has shape \(4,\)"),
    ("vectors", lambda p: p.plan(GOALS), r"the goal has shape \(5, 3\)"),
    ("vectors", lambda p: p.plan(NAN[2]), "the goal is not finite"),
    ("vectors", lambda p: p.plan(GOALS[0]).act(NAN[2]), "the observation is not finite"),
    ("vectors", lambda p: p.plan(GOALS[0]).act(STATES), r"the observation has shape \(5, 3\)"),
    ("vectors", lambda p: p.plan(GOALS[0]).new_goal(NAN[2]), "the goal is not finite"),
    ("without a distance", lambda p: p.distance(STATES, GOALS), "has no distance"),
    ("without a distance", lambda p: p.plan(GOALS[0]), "has no distance"),
    ("discrete", lambda p: p.distance(STATES, GOALS, np.zeros((5, 1), int)), "actions have shape"),
    ("discrete", lambda p: p.distance(STATES, GOALS, np.zeros(5)), "actions are of float64"),
    ("discrete", lambda p: p.distance(STATES, GOALS, np.full(5, 4)), "actions are 0 to 3, and 4"),
    ("discrete", lambda p: p.distance(STATES, GOALS, np.full(5, -1)), "actions are 0 to 3, and -1"),
    ("images", lambda p: p.act(BYTES / 255, BYTES), "observations are of float64"),
    ("images", lambda p: p.act(BYTES, BYTES.astype(int) + 256), "goals must be in 0 to 255"),
    ("images", lambda p: p.act(BYTES, BYTES.transpose(0, 3, 1, 2)), "goals have shape"),
]


@pytest.mark.parametrize(("which", "call", "message"), CALLS, ids=[case[2] for case in CALLS])
def test_a_bad_call_says_what_is_wrong(
    policies: dict[str, Policy], which: str, call: Call, message: str
) -> None:
    with pytest.raises(FarstepError, match=message):
        call(policies[which])
