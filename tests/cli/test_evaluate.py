"""`farstep eval`, as it is typed."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

from farstep.agents.mqe import MQE
from farstep.cli.main import main
from farstep.core.rng import root_key
from farstep.core.types import Actions, Space, Spaces
from farstep.data.normalize import Normalization
from farstep.envs.opengl import require_drawing
from farstep.evaluation.results import Evaluation
from farstep.evaluation.rollout import evaluate
from farstep.serving.policy import Policy

pytest.importorskip("ogbench")

NAME = "pointmaze-medium-v0"
QUICK = ["--episodes", "1", "--max-steps", "20", "--workers", "0", "--slots", "5"]


def untrained(environment: str | None = NAME, size: int = 2) -> Policy:
    spaces = Spaces.from_observation(Space((size,)), Actions(2))
    agent = MQE(latent=8, groups=2, hidden=(8,))
    return Policy(
        agent=agent,
        params=jax.jit(lambda: agent.networks(spaces, root_key(0)))(),
        spaces=spaces,
        normalization=Normalization.identity(spaces),
        dataset="pointmaze-medium-stitch-v0",
        environment=environment,
        step=1234,
        source={"digest": "d" * 64, "seed": 3},
    )


@pytest.fixture(autouse=True)
def wide_output(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def export(tmp_path):
    path = tmp_path / "policy"
    untrained().save(path)
    return path


def fails(capsys, *words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["eval", *map(str, words)])
    assert stopped.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def test_prints_the_table_and_writes_every_episode(export, tmp_path, capsys):
    out = tmp_path / "results" / "eval.json"
    main(["eval", str(export), *QUICK, "--seed", "4", "--out", str(out)])
    printed = capsys.readouterr().out
    assert "after 1,234 updates" in printed
    assert "mean" in printed
    assert "seed 4, at most 20 steps, 5 slots" in " ".join(printed.split())
    result = Evaluation.load(out)
    assert [episode.task for episode in result.episodes] == [1, 2, 3, 4, 5]
    described = json.loads(out.read_text())["protocol"]["policy"]
    assert described.pop("hyperparameters")["latent"] == 8
    assert described == {
        "path": str(export),
        "agent": "mqe",
        "normalized": False,
        "dataset": "pointmaze-medium-stitch-v0",
        "source": {"digest": "d" * 64, "seed": 3},
        "step": 1234,
        "temperature": 0.0,
    }
    direct = evaluate(
        untrained(), NAME, episodes_per_task=1, max_steps=20, workers=0, slots=5, seed=4
    )
    assert result.episodes == direct.episodes


def test_some_tasks_in_markdown_against_an_earlier_result(export, tmp_path, capsys):
    earlier = tmp_path / "earlier.json"
    main(["eval", str(export), *QUICK, "--tasks", "2", "4", "--out", str(earlier)])
    capsys.readouterr()
    main(
        ["eval", str(export), *QUICK, "--tasks", "2", "4", "--markdown", "--against", str(earlier)]
    )
    lines = capsys.readouterr().out.splitlines()
    tables = [line for line in lines if line.startswith("|")]
    assert len(tables) == 2 * (2 + 2 + 1) + 1
    assert tables[2].startswith("| 2 ")
    header = [cell.strip() for cell in tables[5].strip("|").split("|")]
    assert header == ["task", str(export), str(earlier)]
    # The same policy on the same episodes.
    assert all(len({*row.split("|")[2:4]}) == 1 for row in map(_squeezed, tables[7:-1]))
    assert _squeezed(tables[-1]).startswith("|difference|–|+0.0(-")


def _squeezed(line: str) -> str:
    return line.replace(" ", "")


def test_noise_follows_the_temperature_and_the_seed(export, tmp_path):
    ends = []
    for number, words in enumerate([["0"], ["1"], ["1"]]):
        out = tmp_path / f"{number}.json"
        main(["eval", str(export), *QUICK, "--temperature", *words, "--out", str(out)])
        ends.append([episode.final_distance for episode in Evaluation.load(out).episodes])
    assert ends[1] == ends[2]
    assert not np.allclose(ends[0], ends[1])


def test_bad_input_is_one_line_and_exit_status_2(export, tmp_path, capsys, monkeypatch):
    assert "neither a run" in fails(capsys, tmp_path / "nothing")
    assert "tasks 1 to 5, not [9]" in fails(capsys, export, *QUICK, "--tasks", "9")
    assert "'pointmaze-large-v0'" in fails(capsys, export, "--environment", "pointmaze-larg-v0")
    message = fails(capsys, export, *QUICK, "--environment", "antmaze-medium-v0")
    assert "observations (29,)" in message
    assert "trained on observations (2,)" in message
    assert "temperature must not be negative" in fails(capsys, export, "--temperature", "-1")
    earlier = tmp_path / "earlier.json"
    main(["eval", str(export), *QUICK, "--tasks", "1", "--out", str(earlier)])
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr("farstep.cli.evaluate.evaluate", None)  # must not get that far
        message = fails(capsys, export, *QUICK, "--against", earlier)
    assert "evaluations of different tasks do not compare" in message
    assert "cannot read the evaluation" in fails(capsys, export, "--against", tmp_path / "no.json")


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    export, tmp_path, capsys, monkeypatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("farstep.cli.evaluate.evaluate", None)  # must not get that far
    inside = tmp_path / "file" / "deeper" / "eval.json"
    assert f"{tmp_path / 'file'} is not a directory" in fails(capsys, export, "--out", inside)
    assert f"{tmp_path} is a directory" in fails(capsys, export, "--out", tmp_path)
    assert "File name too long" in fails(capsys, export, "--out", tmp_path / ("x" * 300))
    assert "is not a directory" in fails(capsys, export, "--video", tmp_path / "file")
    with monkeypatch.context() as patch:
        patch.setattr("os.access", lambda *_, **__: False)  # as on a disk that is read only
        assert f"{tmp_path} is not writable" in fails(capsys, export, "--out", tmp_path / "new")
    assert {path.name for path in tmp_path.iterdir()} == {"policy", "file"}


def test_a_disk_that_fills_up_meanwhile_costs_the_file_and_not_the_result(
    export, tmp_path, capsys, monkeypatch
):
    def full(self, path):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Evaluation, "save", full)
    with pytest.raises(SystemExit) as stopped:
        main(["eval", str(export), *QUICK, "--out", str(tmp_path / "x.json")])
    assert stopped.value.code == 2
    said = capsys.readouterr()
    assert "mean" in said.out
    assert said.err == f"farstep: {tmp_path / 'x.json'}: No space left on device\n"


def test_brackets_and_backslashes_in_a_path_are_printed_as_they_are(export, tmp_path, capsys):
    odd = tmp_path / "[bold]a\\[/x]"
    odd.mkdir(parents=True)
    policy, out = odd / "policy", odd / "eval.json"
    export.rename(policy)
    main(["eval", str(policy), *QUICK, "--out", str(out)])
    printed = capsys.readouterr().out
    assert f"{policy} after 1,234 updates" in printed
    assert f"Result written to {out}" in printed
    # In a table for the terminal a long path is cut to its width.
    main(["eval", str(policy), *QUICK, "--against", str(out), "--markdown"])
    assert str(out) in capsys.readouterr().out


def test_data_without_an_environment_need_one_named(tmp_path, capsys):
    path = tmp_path / "policy"
    untrained(environment=None).save(path)
    assert "say which one with --environment" in fails(capsys, path, *QUICK)
    main(["eval", str(path), *QUICK, "--environment", NAME])
    assert NAME in capsys.readouterr().out


def test_a_video_that_cannot_be_drawn_is_refused_before_the_work(
    export, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("farstep.envs.opengl.DRAW_ONE_FRAME", "raise ImportError('no libEGL')")
    monkeypatch.setattr("farstep.cli.evaluate.evaluate", None)  # must not get that far
    require_drawing.cache_clear()
    said = fails(capsys, export, *QUICK, "--video", tmp_path / "videos")
    assert "cannot draw pictures" in said
    assert "ImportError: no libEGL" in said
    assert "install" in said
    assert not (tmp_path / "videos").exists()


def test_a_video_of_each_task_asked_for(export, tmp_path, opengl):
    videos = tmp_path / "videos"
    drawing = ["--video", videos, "--video-size", "32", "--video-format", "gif"]
    main(["eval", *map(str, [export, *QUICK, "--tasks", "1", "3", *drawing])])
    pictures = sorted(videos.iterdir())
    assert len(pictures) == 2
    assert all(picture.read_bytes().startswith(b"GIF8") for picture in pictures)
