"""Real trajectories of OGBench's experts, replayed in our environments.

The trajectories (`samples/ogbench_experts`, from ktolnos/TTGS) are not part of the project.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

for _module in ("gymnasium", "mujoco", "ogbench"):
    pytest.importorskip(_module)

from farstep.envs import make  # noqa: E402 (after the checks above)

EXPERTS = Path(__file__).parents[2].parent / "shared" / "samples" / "ogbench_experts"

pytestmark = pytest.mark.skipif(
    not EXPERTS.is_dir(), reason=f"the experts' trajectories are not at {EXPERTS}"
)


@pytest.mark.parametrize("task", [1, 2])
@pytest.mark.parametrize("name", ["antmaze-giant", "humanoidmaze-giant"])
def test_simulator_states_give_the_observations(name: str, task: int) -> None:
    """Those of the ant are the states themselves; the humanoid's are computed from them."""
    with np.load(EXPERTS / f"{name}-task{task}.npz") as stored:
        trajectory = {key: stored[key] for key in stored.files}
    env: Any = make(f"{name}-v0").unwrapped
    env.reset(seed=0)
    rows = range(0, len(trajectory["qpos"]), 7)
    for row in rows:
        env.body.set_state(trajectory["qpos"][row], trajectory["qvel"][row])
        np.testing.assert_allclose(
            env.body.get_ob(), trajectory["observations"][row], rtol=0, atol=1e-12
        )


@pytest.mark.parametrize(("name", "task"), [("cube-double", 1), ("cube-triple", 2)])
def test_logged_actions_lead_to_the_logged_states(name: str, task: int) -> None:
    """From each logged state a step, and from the first state the whole episode.

    The logs are float32 and lack the actuators' state and the contacts' warm start, so a step is
    off by 2e-3 rad or m in the median, and 2e-2 where fingers touch a cube. Open loop that stays
    below a tenth over the episode: the same cubes end where they did.
    """
    with np.load(EXPERTS / f"{name}-task{task}.npz") as stored:
        qpos, qvel, actions = (stored[k].astype(float) for k in ("qpos", "qvel", "actions"))
        observations = stored["observations"]
    env = make(f"{name}-v0", terminate_at_goal=False)
    env.reset(seed=0, options={"task_id": task})
    inner: Any = env.unwrapped
    inner.set_state(qpos[0], qvel[0])
    np.testing.assert_allclose(inner.compute_observation(), observations[0], atol=1e-6)
    for action, following in zip(actions[:-1], qpos[1:], strict=True):
        env.step(action)
        assert np.abs(inner.data.qpos - following).max() < 0.1
    off = []
    for row in range(0, len(actions) - 1, 3):
        inner.set_state(qpos[row], qvel[row])
        env.step(actions[row])
        off.append(np.abs(inner.data.qpos - qpos[row + 1]).max())
    assert np.median(off) < 3e-3
    assert max(off) < 3e-2
