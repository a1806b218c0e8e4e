"""Planning, as it is typed: `eval --plan`, `plot plan`, `export --landmarks` and `distill`."""

from __future__ import annotations

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from matplotlib.image import imread

from farstep.agents.gcbc import GCBC
from farstep.agents.hiql import HIQL
from farstep.agents.mqe import MQE
from farstep.analysis.plan import PlanPicture, draw_plan
from farstep.cli.main import main
from farstep.core.rng import root_key
from farstep.core.types import Actions, Space, Spaces
from farstep.data.normalize import Normalization
from farstep.data.writer import TableWriter
from farstep.envs.mazes import PUBLISHED
from farstep.evaluation.rollout import evaluate
from farstep.planning.graph import LandmarkGraph, Landmarks
from farstep.serving.policy import Policy, load_policy

NAME = "pointmaze-medium-v0"
MAZE = PUBLISHED["medium"]
SPACES = Spaces.from_observation(Space((2,)), Actions(2))
QUICK = ["--episodes", "1", "--max-steps", "20", "--workers", "0", "--slots", "5"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Episodes that drift about the maze's cells."""
    path = tmp_path_factory.mktemp("data") / "drift"
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        with TableWriter(path / split, (2,), "float32", 2, environment=NAME) as writer:
            for cell in MAZE.free_cells:
                states = MAZE.ij_to_xy(cell) + np.cumsum(rng.normal(0, 0.1, (30, 2)), axis=0)
                writer.append(states.astype(np.float32), np.zeros((30, 2), np.float32))
    return str(path)


@pytest.fixture
def export(tmp_path):
    return saved(tmp_path / "policy", MQE(latent=16, groups=2, hidden=(16,)))


def saved(path, agent):
    Policy(
        agent=agent,
        params=jax.jit(lambda: agent.networks(SPACES, root_key(0)))(),
        spaces=SPACES,
        normalization=Normalization.identity(SPACES),
        dataset="absent-v0",
        environment=NAME,
        step=7,
    ).save(path)
    return str(path)


def fails(capsys, *words) -> str:
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, words)])
    assert stopped.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def test_a_planned_evaluation_says_beforehand_what_the_graph_promises_and_records_it(
    export, data, tmp_path, capsys, monkeypatch
):
    pytest.importorskip("ogbench")
    out = tmp_path / "eval.json"
    together = []

    def watched(*arguments, **settings):
        together.append(settings["start_every"])
        return evaluate(*arguments, **settings)

    monkeypatch.setattr("farstep.api.roll_out", watched)
    words = ["--plan", "graph", "--dataset", data, "--landmarks", "100", "--out", str(out)]
    main(["eval", export, *QUICK, *words])
    printed = capsys.readouterr().out
    settings = json.loads(out.read_text())["protocol"]["policy"]["planning"]
    assert settings["asked"] == {"landmarks": 100, "seed": 0}
    assert settings["landmarks"] <= 100
    assert settings["edge_cutoff"] == pytest.approx(4 * settings["step_length"])
    assert together == [settings["replan_every"]]
    head = printed.partition("success")[0]
    assert f"Longest hop {100 * settings['longest_hop']:.0f} % of a path" in head
    assert f"no path between {100 * settings['cut_off']:.1f} % of the landmarks" in head
    main(["eval", export, *QUICK, *words, "--replan-every", "9", "--seed", "1"])
    slower = json.loads(out.read_text())["protocol"]["policy"]["planning"]
    assert slower["replan_every"] == 9
    assert slower["step_length"] > settings["step_length"]
    assert slower["asked"]["seed"] == 1, "another seed draws other landmarks"


def test_the_plan_is_drawn(export, data, tmp_path, capsys):
    pytest.importorskip("ogbench")
    out = tmp_path / "plan.png"
    words = ["--dataset", data, "--landmarks", "80", "--edge-cutoff", "1e3"]
    main(["plot", "plan", export, "--task", "2", *words, "--out", str(out)])
    assert "Task 2" in capsys.readouterr().out
    assert imread(out).shape[0] > 300


def test_a_plan_is_distilled_into_a_policy_that_needs_none(export, data, tmp_path, capsys):
    pytest.importorskip("ogbench")
    out = tmp_path / "distilled"
    words = ["--dataset", data, "--landmarks", "80", "--edge-cutoff", "1e3", "--batch-size", "32"]
    main(["distill", export, *words, "--updates", "300", "--out", str(out)])
    printed = capsys.readouterr().out
    assert "update 300 of 300: loss" in printed
    assert f"Policy written to {out}" in printed
    before, after = load_policy(export), load_policy(out)
    assert after.source["distilled"]["updates"] == 300
    assert (before.params.actor.head.kernel != after.params.actor.head.kernel).any()
    state, goal = np.zeros((1, 2), np.float32), np.full((1, 2), 20, np.float32)
    assert before.distance(state, goal) == after.distance(state, goal)
    main(["eval", str(out), *QUICK])
    assert "already exists" in fails(capsys, "distill", export, "--out", out)
    cloned = saved(tmp_path / "cloned", GCBC(hidden=(8,)))
    assert "and has no distance" in fails(capsys, "distill", cloned, "--dataset", data)
    two = saved(tmp_path / "two", HIQL(hidden=(8,)))
    assert "HIQL is no single network" in fails(capsys, "distill", two, "--dataset", data)


def test_an_export_with_landmarks_is_drawn_and_distilled_without_data(tmp_path, capsys):
    pytest.importorskip("ogbench")
    plain = load_policy(saved(tmp_path / "plain", MQE(latent=16, groups=2, hidden=(16,))))
    observations = np.array([MAZE.ij_to_xy(cell) for cell in MAZE.free_cells], np.float32)
    export = str(tmp_path / "policy")
    landmarks = Landmarks(observations, observations, 5, 1e3, 1e3, tolerance=1.0)
    graph = LandmarkGraph(plain.metric, landmarks)
    graph = graph.along(np.array([[0, 1]]))
    replace(plain, landmarks=graph.landmarks).save(export)
    main(["plot", "plan", export, "--task", "2", "--seed", "3"])
    main(["distill", export, "--updates", "20", "--batch-size", "8", "--seed", "3"])
    printed = capsys.readouterr().out
    assert "Picture written to" in printed
    assert "drawn from the landmarks\nupdate 20 of 20" in printed
    assert load_policy(f"{export}/distilled").source["distilled"]["seed"] == 3
    assert "no dataset 'absent-v0'" in fails(
        capsys, "distill", export, "--landmarks", "9", "--overwrite"
    )


def test_landmarks_without_a_path_and_a_plan_without_subgoals_are_drawn(tmp_path):
    xy = np.array([MAZE.ij_to_xy(cell) for cell in MAZE.free_cells])
    costs = np.where(np.arange(len(xy)) % 3, 10.0, np.inf)
    edges = np.zeros((0, 2), int)
    picture = PlanPicture(MAZE, xy, costs, edges, xy[:2], xy[:0], xy[:5], xy[3])
    figure = draw_plan(picture, "title")
    (axes,) = figure.axes[:1]
    assert axes.get_title() == "title"
    shown = [np.size(line.get_xdata()) for line in axes.lines]
    assert np.isinf(costs).sum() in shown


def test_bad_input_is_one_line_and_exit_status_2(export, data, tmp_path, capsys):
    assert "add --plan graph" in fails(capsys, "eval", export, "--edge-cutoff", "40")
    assert "--dataset is for planning" in fails(capsys, "eval", export, "--dataset", data)
    message = fails(capsys, "export", export, "--edge-cutoff", "40")
    assert "say with --landmarks how many" in message
    message = fails(capsys, "eval", export, "--plan", "graph")
    assert "There is no dataset 'absent-v0'" in message
    planned = ["--plan", "graph", "--dataset", data]
    for option in ("edge-cutoff", "step-length", "landmarks", "replan-every"):
        message = fails(capsys, "eval", export, *planned, f"--{option}", "0")
        assert f"{option.replace('-', '_')} must be a positive number" in message
    cloned = saved(tmp_path / "cloned", GCBC(hidden=(8,)))
    assert "and has no distance" in fails(capsys, "eval", cloned, *planned)
    assert "cannot be drawn" in fails(
        capsys, "plot", "plan", export, "--environment", "cube-single-v0"
    )


@pytest.mark.slow
def test_a_trained_run_is_exported_with_landmarks_and_plans_farther_than_it_was_shown(
    tmp_path, capsys
):
    """End to end on a small corridor's worth of training: train, export, plan, evaluate."""
    pytest.importorskip("ogbench")
    data, run = tmp_path / "pointmaze-medium-stitch-v0", tmp_path / "run"
    make = ["data", "make", "pointmaze-medium-stitch", "--out", str(data), "--episodes", "1000"]
    main([*make, "--seed", "0"])
    train = ["--preset", "small", "--steps", "6000", "--evaluation-episodes", "0"]
    main(["train", str(data), "--agent", "mqe", *train, "--out", str(run)])
    main(["export", str(run), "--landmarks", "1000", "--out", str(tmp_path / "policy")])
    out = tmp_path / "eval.json"
    words = ["--episodes", "4", "--plan", "graph", "--out", str(out)]
    main(["eval", str(tmp_path / "policy"), *words])
    assert json.loads(out.read_text())["mean_success"] >= 0.6
