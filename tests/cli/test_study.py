"""`farstep study`, as it is typed. Training is real in one test, and made up where only the
bookkeeping, the tables and the figures are looked at."""

from __future__ import annotations

import csv
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from matplotlib.image import imread

from farstep.agents.crl import CRL
from farstep.agents.mqe import MQE, WaypointLaw
from farstep.analysis.horizon import horizon_curve, pair_distances, spread_pairs, task_distances
from farstep.cli.main import main
from farstep.data.table import TableWriter
from farstep.envs.catalog import environment
from farstep.envs.mazes import PUBLISHED
from farstep.training.run import Run

MEDIUM = "pointmaze-medium-v0"


@pytest.fixture(autouse=True)
def wide_output(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("data") / "pointmaze-medium-stitch-v0"
    rng = np.random.default_rng(0)
    with TableWriter(path / "train", (2,), "float32", 2, environment=MEDIUM) as writer:
        for _ in range(4):
            actions = rng.uniform(-1, 1, (20, 2)).astype(np.float32)
            writer.append(np.cumsum(actions, axis=0), actions)
    return str(path)


@pytest.fixture
def trained(monkeypatch) -> list[tuple[str, bool]]:
    """Trainings that cost nothing: the runs that were trained, and whether they were resumed.

    Success is 0.1 a seed, more for the later of two evaluations, and task k's is 0.01·k more.
    """
    done: list[tuple[str, bool]] = []

    def train(trainer, *, resume: bool = False, from_step: int | None = None) -> None:
        for run in trainer.runs:
            done.append((f"{run.path.parent.name}/{run.path.name}", resume))
            config = run.config.training
            for step in range(config.evaluate_every, config.steps + 1, config.evaluate_every):
                success = 0.1 * config.seed + 0.01 * step
                tasks = {f"task{k}/success": success + 0.01 * k for k in range(1, 6)}
                measured = {"temperature": 0.0, "max_steps": 1000}
                run.append("eval", {"step": step, "success": success} | measured | tasks)
                (run.path / "checkpoints" / str(step)).mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr("farstep.api.Trainer.train", train)
    return done


QUICK = ["--steps", "4", "--evaluate-every", "2", "--seeds", "2"]


def study(*words: str | Path) -> None:
    main(["study", *map(str, words)])


def fails(capsys, *words: str | Path) -> str:
    with pytest.raises(SystemExit) as stopped:
        study(*words)
    assert stopped.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open() as file:
        return {row["setting"]: row for row in csv.DictReader(file)}


@pytest.mark.slow
def test_the_waypoint_ablation_stands_beside_the_published_one(data, trained, tmp_path, capsys):
    out = tmp_path / "out"
    study("ablation-waypoint", data, *QUICK, "--alpha", "0.3", "--out", out)
    printed = capsys.readouterr().out
    assert printed.count(", seeds 0 to 1, in ") == 6
    assert [name for name, _ in trained[:2]] == ["mixture/s0", "mixture/s1"]
    assert len(trained) == 12
    for name, _ in trained:
        agent = Run.open(out / name).config.agent
        assert agent == MQE(
            waypoint_law=cast(WaypointLaw, name.split("/")[0]),
            alpha=0.3,
            policy_goals="paired",
            diagonal_weight=0.3,
        )
    table = rows(out / "study.csv")
    assert len(table) == 6
    uniform = table["uniform on [1, k_g]"]
    # Of seeds 0 and 1, the means of the evaluations after 2 and 4 updates.
    assert (uniform["each"], uniform["mean ± s.e."]) == ("3.0 13.0", "8.0 ± 5.0")
    assert uniform["published, humanoidmaze-giant-stitch"] == "18.9 ± 0.9"
    assert "18.9 ± 0.9" in printed
    assert "| constant 50 " in (out / "study.md").read_text()
    assert r"constant 1 & 0 1" in (out / "study.tex").read_text()
    assert imread(out / "study.png").shape[0] > 200
    with (out / "curves.csv").open() as file:
        curves = [row for row in csv.DictReader(file) if row["method"] == "constant 1"]
    assert [(row["seed"], row["updates"]) for row in curves] == [
        ("0", "2"),
        ("0", "4"),
        ("1", "2"),
        ("1", "4"),
    ]
    assert imread(out / "curves.png").shape[0] > 200


@pytest.mark.slow
def test_the_invariance_ablation_is_one_option_of_mqe(data, trained, tmp_path, capsys):
    out = tmp_path / "out"
    study("ablation-invariance", data, *QUICK, "--seeds", "1", "--out", out)
    agents = [cast(MQE, Run.open(out / name).config.agent) for name, _ in trained]
    assert [(agent.invariance, agent.expectile) for agent in agents] == [
        ("logged", 0.7),
        ("off", 0.7),
        ("expectile", 0.7),
        ("expectile", 0.9),
    ]
    published = "published, humanoidmaze-giant-stitch"
    assert rows(out / "study.csv")["without L_I"][published] == "7.9 ± 0.7"


@pytest.mark.slow
def test_a_finished_run_is_not_repeated_and_others_are_continued(data, trained, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["p-lambda-grid", data, "--p", "0", "0.2", "--lambda", "0.9", "--out", out]
    study(*words, *QUICK)
    trained.clear()
    study(*words, *QUICK)
    assert trained == []
    study(*words, *QUICK, "--seeds", "3")
    assert trained == [("p0-lambda0.9/s2", False), ("p0.2-lambda0.9/s2", False)]
    trained.clear()
    # As a stopped run leaves it: its last evaluation is still to come.
    log = out / "p0-lambda0.9" / "s1" / "eval.jsonl"
    log.write_text(log.read_text().splitlines(keepends=True)[0])
    study(*words, *QUICK, "--seeds", "3")
    assert trained == [("p0-lambda0.9/s1", True)]
    trained.clear()
    study(*words, "--steps", "8", "--evaluate-every", "2", "--seeds", "3")
    assert [resumed for _, resumed in trained] == [True] * 6


@pytest.mark.slow
def test_the_grid_is_a_heat_map(data, trained, tmp_path, capsys):
    out = tmp_path / "out"
    grid = ["--p", "0", "1", "--lambda", "0.5", "0.9", "0.99"]
    study("p-lambda-grid", data, *grid, *QUICK, "--out", out)
    assert list(rows(out / "study.csv"))[:3] == [
        "p = 0, λ = 0.5",
        "p = 0, λ = 0.9",
        "p = 0, λ = 0.99",
    ]
    assert imread(out / "study.png").shape[1] > 300


def test_success_by_distance(data, trained, tmp_path, capsys):
    out = tmp_path / "out"
    study("horizon", data, "--agents", "gcbc", "qrl", *QUICK, "--out", out)
    assert [name for name, _ in trained] == ["gcbc/s0", "gcbc/s1", "qrl/s0", "qrl/s1"]
    text = (out / "study.md").read_text()
    table = text.split("## Success in % by distance")[1].splitlines()
    distances = task_distances(environment(MEDIUM))
    assert distances is not None
    header = [cell.strip() for cell in table[2].strip("|").split("|")]
    assert header == ["method", *(f"{d:g} m" for d in sorted(set(distances.values())))]
    nearest = min(distances, key=lambda task: distances[task])
    shown = [cell.strip() for cell in table[4].strip("|").split("|")]
    tied = [task for task in distances if distances[task] == distances[nearest]]
    assert float(shown[1]) == pytest.approx(8 + np.mean(tied), abs=0.06)
    assert imread(out / "study.png").shape[0] > 300


@pytest.mark.slow
def test_goals_of_policies_are_crossed_and_paired(data, trained, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["policy-goals", data, "--agents", "mqe", "crl", *QUICK, "--seeds", "1"]
    study(*words, "--out", out)
    assert list(rows(out / "study.csv")) == [
        "mqe, cross",
        "mqe, paired",
        "crl, cross",
        "crl, paired",
    ]
    config = Run.open(out / "crl-cross" / "s0").config
    assert cast(CRL, config.agent).policy_goals == "cross"
    assert "climbs no critic" in fails(capsys, "policy-goals", data, "--agents", "gcbc")


@pytest.mark.slow
def test_levers_of_the_policy_are_each_alone(data, trained, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["policy-levers", data, *QUICK, "--seeds", "1", "--chunk", "3", "--out", out]
    study(*words, "--alpha", "0.2")
    names = ["gaussian", "best-of-n", "distilled", "chunk-3", "average-0.999"]
    assert [name for name, _ in trained] == [f"{name}/s0" for name in names]
    agents = [cast(MQE, Run.open(out / name / "s0").config.agent) for name in names]
    plain = replace(agents[0], alpha=0.2)
    assert agents == [
        plain,
        replace(plain, policy="flow", extraction="best-of-n"),
        replace(plain, policy="flow"),
        replace(plain, action_chunk=3),
        replace(plain, policy_average=0.999),
    ]


def test_bad_input_is_one_line_and_exit_status_2(data, trained, tmp_path, capsys, toy):
    out = ["--out", str(tmp_path / "out")]
    assert "names no environment" in fails(capsys, "ablation-waypoint", toy)
    message = fails(capsys, "ablation-waypoint", data, *out, "--waypoint-law", "uniform")
    assert "--waypoint-law is set by setting" in message
    assert "--resume is set by the study" in fails(
        capsys, "ablation-waypoint", data, *out, "--resume"
    )
    assert "Did you mean 'gcbc'" in fails(capsys, "horizon", data, *out, "--agents", "gcbcc")
    assert "leaves nothing to compare" in fails(
        capsys, "ablation-waypoint", data, *out, "--evaluation-episodes", "0"
    )
    manipulation = tmp_path / "cube-single-play-v0"
    with TableWriter(manipulation / "train", (2,), "float32", 2, environment="cube-single-v0") as w:
        w.append(np.zeros((3, 2), np.float32), np.zeros((3, 2), np.float32))
    assert "--pairs is for mazes" in fails(capsys, "horizon", manipulation, *out, "--pairs", "3")
    assert "--steeps" in fails(capsys, "ablation-waypoint", data, *out, "--steeps", "3")
    assert trained == []
    study("p-lambda-grid", data, "--p", "0", "--lambda", "0.9", *QUICK, *out)
    words = ["p-lambda-grid", data, "--p", "0", "--lambda", "0.9", *out]
    message = fails(capsys, *words, *QUICK, "--alpha", "7")
    assert "agent.alpha: 0.1 before, 7.0 now" in message
    assert "training.steps: 4 before, 2 now" in fails(
        capsys, *words, "--steps", "2", "--evaluate-every", "2"
    )


def test_a_stopped_study_goes_on(data, tmp_path, capsys, monkeypatch):
    """Real training, of the quickest agent; what success is measured to be is made up."""
    stops = [True]

    def evaluator(run, params, step):
        if stops and step == 3:
            stops.clear()
            os.kill(os.getpid(), signal.SIGTERM)
        measured = {"success": 0.5, "temperature": 0.0, "max_steps": 1000}
        return measured | {f"task{k}/success": 0.5 for k in range(1, 6)}

    monkeypatch.setattr("farstep.api.environment_evaluator", lambda *_: evaluator)
    out = tmp_path / "out"
    words = ["horizon", data, "--agents", "gcbc", "--hidden", "8", "--batch-size", "4"]
    words += ["--checkpoint-every", "4", "--steps", "6", "--evaluate-every", "3"]
    words += ["--seeds", "1", "--out", str(out)]
    with pytest.raises(SystemExit) as stopped:
        study(*words)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert not (out / "study.md").exists()
    study(*words)
    printed = capsys.readouterr().out
    assert "stopped by SIGTERM after 4 updates" in printed
    assert "going on after 4 updates" in printed
    assert [record["step"] for record in Run.open(out / "gcbc" / "s0").records("eval")] == [3, 6]
    assert "| gcbc " in (out / "study.md").read_text()


def test_frames_and_goals_are_forwarded_and_others_are_other_runs(data, trained, tmp_path, capsys):
    words = ["horizon", data, "--agents", "gcbc", *QUICK, "--out", tmp_path / "out"]
    study(*words, "--frames", "2")
    assert Run.open(tmp_path / "out" / "gcbc" / "s1").config.spaces.frames == 2
    assert "spaces.frames: 2 before, 1 now" in fails(capsys, *words)
    assert "spaces.rule" in fails(capsys, *words, "--frames", "2", "--goal", "0")


def test_pairs_of_cells_are_spread_over_all_distances():
    maze = PUBLISHED["medium"]
    pairs = spread_pairs(maze, 6, seed=0)
    assert pairs == spread_pairs(maze, 6, seed=0)
    lengths = [len(maze.path(start, goal)) - 1 for start, goal in pairs]
    farthest = max(
        maze.distances_to(goal)[start] for goal in maze.free_cells for start in maze.free_cells
    )
    assert (lengths[0], lengths[-1]) == (1, farthest)
    assert lengths == sorted(lengths)
    tasks = type(maze)(maze.name, maze.rows, tuple(pairs))
    assert list(pair_distances(tasks).values()) == [4.0 * length for length in lengths]


def test_a_curve_averages_tasks_at_one_distance_by_hand():
    runs = [{1: 0.0, 2: 1.0, 3: 0.2}, {1: 0.4, 2: 1.0, 3: 0.4}]
    curve = horizon_curve("mqe", runs, {1: 8.0, 2: 8.0, 3: 4.0})
    assert curve.x.tolist() == [4.0, 8.0]
    assert curve.success == pytest.approx([0.3, 0.6])
    assert curve.band is not None
    # 12.7 standard errors of two runs either way, cut to what rates can be.
    assert [list(end) for end in curve.band] == [[0, 0], [1, 1]]
    assert horizon_curve("mqe", runs[:1], None).x.tolist() == [1.0, 2.0, 3.0]
    assert horizon_curve("mqe", runs[:1], None).band is None


@pytest.mark.slow
def test_policies_are_measured_on_pairs_of_cells(data, tmp_path, capsys):
    pytest.importorskip("ogbench")
    out = tmp_path / "out"
    words = ["horizon", data, "--agents", "gcbc", "--hidden", "8", "--batch-size", "4"]
    words += ["--seeds", "1", "--steps", "2", "--evaluation-episodes", "1", "--out", str(out)]
    study(*words, "--pairs", "4", "--episodes", "1")
    kept = out / "gcbc" / "s0" / "pairs-4x1.json"
    assert json.loads(kept.read_text())["protocol"]["max_steps"] == 1000
    header = (out / "study.md").read_text().split("% by distance")[1].splitlines()[2]
    assert header.count(" m ") == 4
    written = kept.stat().st_mtime_ns
    study(*words, "--pairs", "4", "--episodes", "1")
    assert kept.stat().st_mtime_ns == written
