"""`farstep compare`, as it is typed, on run directories as training leaves them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from farstep.agents.gcbc import GCBC
from farstep.agents.mqe import MQE
from farstep.cli.main import main
from farstep.core.types import Actions, Space, Spaces
from farstep.data.normalize import Normalization
from farstep.evaluation.results import Episode, Evaluation
from farstep.training.config import DatasetReference, RunConfig, TrainConfig
from farstep.training.run import Run

SPACES = Spaces.from_observation(Space((2,)), Actions(2))
GIANT, MEDIUM = "pointmaze-giant-stitch-v0", "pointmaze-medium-stitch-v0"


@pytest.fixture(autouse=True)
def wide_output(monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")


def run(
    path: Path,
    success: list[float],
    *,
    agent=None,
    seed: int = 0,
    dataset: str = GIANT,
    digest: str = "a" * 64,
    environment: str | None = None,
    training: Mapping[str, Any] | None = None,
) -> Path:
    """A finished run whose evaluations had these success rates, on both of two tasks."""
    steps = 100 * max(1, len(success))
    config = RunConfig(
        agent=agent or MQE(),
        training=replace(
            TrainConfig(steps=steps, seed=seed, evaluate_every=100), **(training or {})
        ),
        dataset=DatasetReference(
            name=dataset,
            path="somewhere",
            digest=digest,
            environment=environment or dataset.replace("-stitch", ""),
        ),
        spaces=SPACES,
        normalization=Normalization.identity(SPACES),
    )
    made = Run.create(path, config)
    for number, rate in enumerate(success, start=1):
        record = {"step": 100 * number, "success": rate, "seconds": 1.0}
        record |= {"temperature": 0.0, "max_steps": 1000}
        made.append("eval", record | {"task1/success": rate, "task2/success": rate})
    return path


def result(path: Path, wins: int, seed: int | None = 0, **policy) -> Path:
    """A result of `farstep eval --out`: `wins` of 10 episodes of one task."""
    described = {
        "path": "runs/x",
        "agent": "mqe",
        "dataset": GIANT,
        "step": 300,
        "temperature": 0.0,
    } | policy
    if seed is not None:
        source = {"seed": seed, "digest": "a" * 64}
        described = {"source": source, "hyperparameters": {}} | described
    protocol = {
        "environment": "pointmaze-giant-v0",
        "tasks": [1],
        "episodes_per_task": 10,
        "seed": 0,
        "max_steps": 1000,
        "slots": 50,
        "versions": {"ogbench": "1.2.2", "mujoco": "4.0.0"},
        "policy": described,
    }
    episodes = tuple(Episode(1, index, index, index < wins, 80) for index in range(10))
    Evaluation(episodes, protocol, 1.0).save(path)
    return path


def rows(out: Path, name: str = "comparison.csv") -> list[dict[str, str]]:
    with (out / name).open() as file:
        return list(csv.DictReader(file))


def compared(capsys, *words: str | Path) -> str:
    main(["compare", *map(str, words)])
    return capsys.readouterr().out


def fails(capsys, *words: str | Path) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["compare", *map(str, words)])
    assert stopped.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def test_methods_by_seeds_beside_the_published_numbers(tmp_path, capsys):
    for seed, last in enumerate([0.3, 0.5]):
        run(tmp_path / "mqe" / f"s{seed}", [0.0, 0.2, 0.4, last], seed=seed)
        run(tmp_path / "gcbc" / f"s{seed}", [0.0, 0.0, 0.1, 0.2], seed=seed, agent=GCBC())
    out = tmp_path / "out"
    printed = compared(capsys, tmp_path / "mqe", tmp_path / "gcbc", "--out", out)
    assert "100.0 SCoTS" in printed
    assert "arXiv 2506.00895" in printed
    assert "the mean of the evaluations after 200, 300, 400 updates" in printed
    assert "Note" not in printed
    ours, cloned = rows(out)
    # The mean of the last three evaluations: (0.2 + 0.4 + 0.3)/3 and (0.2 + 0.4 + 0.5)/3.
    assert (ours["method"], ours["runs"]) == ("mqe", "2")
    assert float(ours["mean"]) == pytest.approx((0.3 + 1.1 / 3) / 2, abs=1e-5)
    assert float(ours["standard_error"]) == pytest.approx((1.1 / 3 - 0.3) / 2, abs=1e-5)
    # Of two runs the t interval is 12.7 standard errors to either side, cut to what rates can be.
    assert [float(ours[end]) for end in ("mean_low", "mean_high")] == pytest.approx(
        [0, 1 / 3 + 12.7062 / 30], abs=1e-5
    )
    # After 400 updates the number of a million would mislead.
    assert ours["published"] == ""
    assert (float(ours["best_published"]), ours["best_published_method"]) == (1.0, "SCoTS")
    assert (cloned["method"], cloned["published"]) == ("gcbc", "")
    assert rows(out, "improvement.csv")[0]["P(X > Y)"] == "1.00"
    assert [row["seed"] for row in rows(out, "runs.csv")] == ["0", "1"] * 2
    assert float(rows(out, "runs.csv")[0]["task2"]) == pytest.approx(0.3)
    profile = [row for row in rows(out, "profiles.csv") if row["method"] == "mqe"]
    assert {float(row["threshold"]): float(row["fraction"]) for row in profile}[0.3] == 0.5
    curve = [row["success"] for row in rows(out, "curves.csv") if row["method"] == "mqe"]
    assert curve == ["0.0", "0.2", "0.4", "0.3", "0.0", "0.2", "0.4", "0.5"]
    assert imread(out / "curves.png").shape[0] > 200
    latex = (out / "comparison.tex").read_text()
    assert r"mqe & 0 1 & 30.0 36.7 & 33.3 $\pm$ 3.3" in latex
    assert "| mqe |" in " ".join((out / "comparison.md").read_text().split())
    assert imread(out / "comparison.png").shape[0] > 200


def test_means_over_datasets_need_every_method_on_them(tmp_path, capsys):
    for dataset in (GIANT, MEDIUM):
        for seed in (0, 1):
            run(tmp_path / dataset / f"mqe{seed}", [0.4], seed=seed, dataset=dataset)
            if dataset == GIANT or seed == 0:
                path = tmp_path / dataset / f"gcbc{seed}"
                run(path, [0.2], seed=seed, dataset=dataset, agent=GCBC())
    printed = compared(capsys, tmp_path / GIANT, tmp_path / MEDIUM, "--markdown")
    assert f"## Over {GIANT}, {MEDIUM}" in printed
    assert f"gcbc on {MEDIUM}: no run with seed 1." in printed
    run(tmp_path / "large", [0.1], dataset="pointmaze-large-stitch-v0")
    printed = compared(capsys, tmp_path)
    assert f"Over {GIANT}, {MEDIUM}\n" in printed
    assert "gcbc has no runs on pointmaze-large-stitch-v0." in printed


def test_runs_under_different_protocols_are_not_averaged(tmp_path, capsys):
    out = tmp_path / "out"
    paths = [run(tmp_path / "plain", [0.2, 0.2, 0.2])]
    for name, options in (
        ("more", {"evaluation_episodes": 50}),
        ("whitened", {"normalize": True}),
        ("longer", {"evaluate_every": 50, "steps": 600}),
        ("data", {}),
    ):
        digest = ("b" if name == "data" else "a") * 64
        path = tmp_path / name
        run(path, [0.8, 0.8, 0.8], seed=len(paths), digest=digest, training=options)
        printed = compared(capsys, paths[0], path, "--out", out)
        if name == "longer":
            # How often and how long do not matter where the same evaluations were made.
            assert float(rows(out)[0]["mean"]) == 0.5
            assert f"{path}: last evaluated after 300 of 600 updates." in printed
            continue
        assert [float(row["mean"]) for row in rows(out)] == [0.2, 0.8]
        assert "mqe on pointmaze-giant-stitch-v0: 2 groups of runs are not averaged" in printed
        paths.append(path)
    printed = compared(capsys, *paths, "--out", out)
    assert len(rows(out)) == len(paths)
    assert f"normalized True; data aaaaaaaa… ({tmp_path / 'whitened'})" in printed


def test_hyperparameters_name_the_groups_and_names_can_be_given(tmp_path, capsys):
    out = tmp_path / "out"
    first = run(tmp_path / "a", [0.2])
    second = run(tmp_path / "b", [0.4], agent=replace(MQE(), alpha=0.3))
    compared(capsys, first, second, "--out", out)
    assert [row["method"] for row in rows(out)] == ["mqe (alpha 0.1)", "mqe (alpha 0.3)"]
    printed = compared(capsys, f"timid={first}", f"bold={second}", "--out", out)
    assert [row["method"] for row in rows(out)] == ["timid", "bold"]
    long = "a method whose name says very much of what was changed, and why, and what came of it"
    compared(capsys, f"{long}={first}", f"{long}, twice={second}", "--out", out)
    assert imread(out / "comparison.png").shape[1] > 500
    printed = compared(capsys, f"timid={first}", f"bold={second}", "--out", out)
    assert "Note" not in printed


def test_more_updates_are_another_protocol(tmp_path, capsys):
    run(tmp_path / "a", [0.2])
    run(tmp_path / "b", [0.4, 0.6], seed=1)
    printed = compared(capsys, tmp_path, "--evaluations", "1", "--out", tmp_path / "out")
    assert [row["mean"] for row in rows(tmp_path / "out")] == ["0.2", "0.6"]
    assert f"updates 100 ({tmp_path / 'a'})" in printed
    assert f"updates 200 ({tmp_path / 'b'})" in printed


@pytest.mark.parametrize(
    ("updates", "hidden", "dataset", "published"),
    [
        (500_000, (256,) * 3, GIANT, "0.592"),
        (499_000, (512,) * 3, GIANT, ""),
        (1_000_000, (128,) * 3, GIANT, ""),
        (250_000, (512,) * 3, "visual-scene-play-v0", "0.381"),
    ],
)
def test_published_numbers_stand_beside_runs_of_their_size(
    updates, hidden, dataset, published, tmp_path, capsys
):
    path = result(
        tmp_path / "run.json", 4, step=updates, hyperparameters={"hidden": hidden}, dataset=dataset
    )
    out = tmp_path / "out"
    compared(capsys, path, "--out", out)
    assert rows(out)[0]["published"] == published


def test_an_environment_of_ones_own_need_not_be_there(tmp_path, capsys):
    path = run(tmp_path / "a", [0.2], dataset="mine", environment="pointmaze:gone.txt")
    assert "20.0" in compared(capsys, path)


def test_result_files_count_and_planning_is_a_method_of_its_own(tmp_path, capsys):
    planning = {"landmarks": 470, "edge_cutoff": 12.5, "asked": {"landmarks": 500, "seed": 0}}
    paths = [result(tmp_path / f"{seed}.json", 4 + seed, seed) for seed in (0, 1)]
    for seed in (0, 1):
        found = planning | {"edge_cutoff": 12.5 + seed, "landmarks": 470 + seed}
        paths.append(result(tmp_path / f"plan{seed}.json", 9, seed, planning=found))
    out = tmp_path / "out"
    printed = compared(capsys, *paths, "--out", out)
    # What was found for each policy does not keep seeds apart.
    assert [(row["method"], row["mean"]) for row in rows(out)] == [
        ("mqe", "0.45"),
        ("mqe+planning", "0.9"),
    ]
    assert rows(out)[1]["published"] == ""
    assert not (out / "curves.png").exists()
    assert "methods differ in planning" in printed
    paths.append(
        result(tmp_path / "given.json", 9, 2, planning=planning | {"asked": {"edge_cutoff": 9.0}})
    )
    printed = compared(capsys, *paths, "--out", out)
    assert len(rows(out)) == 3
    assert "edge_cutoff 9" in printed


def test_older_result_files_do_not_tell_everything(tmp_path, capsys):
    paths = [result(tmp_path / f"{n}.json", 3 + n, seed=None) for n in (0, 1)]
    printed = compared(capsys, *paths, "--out", tmp_path / "out")
    assert rows(tmp_path / "out")[0]["runs"] == "2"
    assert "do not tell the training seeds of mqe" in printed
    newer = result(tmp_path / "new.json", 9, 2)
    compared(capsys, *paths, newer, "--out", tmp_path / "out")
    assert len(rows(tmp_path / "out")) == 2


def test_what_cannot_be_compared_does_not_stop_the_rest(tmp_path, capsys):
    runs = tmp_path / "runs"
    run(runs / "mqe", [0.2])
    run(runs / "new", [], seed=1)
    (runs / "foreign").mkdir()
    (runs / "foreign" / "config.json").write_text('{"model_type": "bert"}')
    (runs / "bytes").mkdir()
    (runs / "bytes" / "config.json").write_bytes(b"\xff\xfe")
    (runs / "older").mkdir()
    (run(runs / "older" / "s0", [0.4], seed=2) / "eval.jsonl").write_text('{"step": 100}\n')
    printed = compared(capsys, runs, "--out", tmp_path / "out")
    assert [row["runs"] for row in rows(tmp_path / "out")] == ["1"]
    for left_out, why in (
        ("new", "has no evaluation yet"),
        ("foreign", "is not a run's configuration"),
        ("older/s0", "lacks 'success'"),
    ):
        (note,) = [line for line in printed.splitlines() if f"{runs / left_out}" in line]
        assert note.startswith("Note: left out: ")
        assert why in note
    # Named itself, it is what was asked for.
    assert "has no evaluation yet" in fails(capsys, runs / "mqe", runs / "new")
    assert "is not a run's configuration" in fails(capsys, runs / "foreign")
    assert "none of the runs below" in fails(capsys, runs / "older")


def test_brackets_and_backslashes_in_names_are_printed_as_they_are(tmp_path, capsys):
    odd = tmp_path / "[bold]a\\[/x]"
    path = run(odd / "run", [0.2], dataset="d[red]")
    printed = compared(capsys, f"m[/bold]={path}", "--out", odd / "out")
    assert f"Written to {odd / 'out'}: comparison.md" in printed
    assert "m[/bold]" in printed
    assert "d[red]" in printed


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path, capsys):
    path = run(tmp_path / "a", [0.2])
    assert "is not a directory" in fails(capsys, path, "--out", path / "config.json")


def test_bad_input_is_one_line_and_exit_status_2(tmp_path, capsys):
    assert "holds no run" in fails(capsys, tmp_path)
    assert "cannot read the evaluation" in fails(capsys, tmp_path / "none.json")
    (tmp_path / "odd.json").write_text(json.dumps({"x": 1}))
    assert "is not a result of `farstep eval`" in fails(capsys, tmp_path / "odd.json")
    assert "has no evaluation yet" in fails(capsys, run(tmp_path / "new", []))
    a, b = run(tmp_path / "a", [0.1]), run(tmp_path / "b", [0.1])
    assert "are both seed 0 of mqe" in fails(capsys, a, b)
    assert "at least 1" in fails(capsys, a, "--evaluations", "0")
    # The same run named twice is one run.
    main(["compare", str(a), str(a)])
