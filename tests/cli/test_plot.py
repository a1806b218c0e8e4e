"""`farstep plot distance`, as it is typed."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from matplotlib.image import imread

from farstep.agents.gcbc import GCBC
from farstep.agents.mqe import MQE
from farstep.cli.main import main
from farstep.core.rng import root_key
from farstep.core.types import Actions, Space, Spaces
from farstep.data.normalize import Normalization
from farstep.data.writer import TableWriter
from farstep.envs.mazes import PUBLISHED
from farstep.serving.policy import Policy


def export(path, environment="pointmaze-medium-v0", spaces=None, agent=None, dataset="none-v0"):
    spaces = spaces or Spaces.from_observation(Space((2,)), Actions(2))
    agent = agent or MQE(latent=8, groups=2, hidden=(8,))
    policy = Policy(
        agent=agent,
        params=jax.jit(lambda: agent.networks(spaces, root_key(0)))(),
        spaces=spaces,
        normalization=Normalization.identity(spaces),
        dataset=str(dataset),
        environment=environment,
        step=7,
    )
    policy.save(path)
    return str(path)


def fails(capsys, *words) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["plot", "distance", *map(str, words)])
    assert stopped.value.code == 2
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("goal", "name"),
    [
        (["--goal", "task:2"], "distance-task-2.png"),
        (["--goal", "4,2"], "distance-4-2.png"),
        (["--goal-xy", "4.5,9"], "distance-4.5-9.png"),
    ],
)
def test_a_point_needs_no_data(tmp_path, capsys, goal, name):
    run = export(tmp_path / "policy")
    main(["plot", "distance", run, *goal, "--rollouts", "0"])
    path = tmp_path / "policy" / "plots" / name
    printed = capsys.readouterr().out
    assert "Rank correlation" in printed
    assert str(path) in printed
    assert imread(path).shape[0] > 300


def test_other_bodies_are_drawn_by_the_states_of_their_data(tmp_path):
    maze = PUBLISHED["medium"]
    data = tmp_path / "data"
    generator = np.random.default_rng(0)
    with TableWriter(data, (29,), "float32", 8, environment="antmaze-medium-v0") as writer:
        for cell in maze.free_cells:
            states = generator.normal(size=(20, 29)).astype(np.float32)
            states[:, :2] = maze.ij_to_xy(cell) + generator.uniform(-1.9, 1.9, (20, 2))
            writer.append(states, np.zeros((20, 8), np.float32))
    run = export(
        tmp_path / "policy",
        "antmaze-medium-v0",
        Spaces.from_observation(Space((29,)), Actions(8)),
        dataset=data,
    )
    out = tmp_path / "field.png"
    words = ["--rollouts", "0", "--samples", "500", "--out", str(out)]
    main(["plot", "distance", run, "--goal", "1,6", *words])
    assert imread(out).shape[0] > 300


def test_routes_are_drawn(tmp_path, monkeypatch):
    pytest.importorskip("ogbench")
    from farstep.analysis import heatmap

    drawn = []
    original = heatmap.draw_distance_field
    monkeypatch.setattr(
        heatmap,
        "draw_distance_field",
        lambda field, title, routes, reached: (
            drawn.append((routes, reached)) or original(field, title, routes, reached)
        ),
    )
    run = export(tmp_path / "policy")
    main(["plot", "distance", run, "--goal", "6,6", "--rollouts", "6"])
    ((routes, reached),) = drawn
    assert len(routes) == 6
    assert 0 <= reached <= 6
    maze = PUBLISHED["medium"]
    starts = [maze.xy_to_ij(route[0]) for route in routes]
    # The tasks' starts in turn.
    assert starts == [(1, 1), (6, 1), (5, 3), (6, 5), (2, 6), (1, 1)]


def test_bad_input_is_one_line_and_exit_status_2(tmp_path, capsys):
    run = export(tmp_path / "policy")
    assert "tasks task:1 to task:5" in fails(capsys, run, "--goal", "task:6")
    assert "--goal six: write it like" in fails(capsys, run, "--goal", "six")
    assert "--goal-xy 1: write it like" in fails(capsys, run, "--goal-xy", "1")
    assert "cell (0, 0) of medium, which is not free" in fails(capsys, run, "--goal", "0,0")
    assert "must end in one of" in fails(
        capsys, run, "--rollouts", "0", "--out", tmp_path / "field.bmpp"
    )
    message = fails(capsys, run, "--environment", "cube-single-v0")
    assert "cube-single-v0 cannot be drawn" in message
    plain = export(tmp_path / "cloned", agent=GCBC(hidden=(8,)))
    assert "has no distance" in fails(capsys, plain)
    ant = export(
        tmp_path / "ant", "antmaze-medium-v0", Spaces.from_observation(Space((29,)), Actions(8))
    )
    assert "none" in fails(capsys, ant)
