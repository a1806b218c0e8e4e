"""What the page is told of runs and of data, and what the command line refuses."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from farstep.agents.mqe import MQE
from farstep.cli.main import main
from farstep.core.errors import FarstepError
from farstep.core.types import Actions, Space, Spaces
from farstep.data.normalize import Normalization
from farstep.data.table import TableWriter, open_dataset
from farstep.training.config import DatasetReference, RunConfig, TrainConfig
from farstep.training.lock import locked
from farstep.training.run import Run
from farstep.viewing import episodes
from farstep.viewing.episodes import data_document, episode_document, findings_document, frame
from farstep.viewing.runs import metric_document, runs_document

SPACES = Spaces.from_observation(Space((2,)), Actions(2))
AGENT = MQE(latent=16, groups=2, hidden=(8,))
DATASET = "humanoidmaze-giant-stitch-v0"


def make_run(path, seed, successes, agent=AGENT):
    config = RunConfig(
        agent=agent,
        training=TrainConfig(steps=3000, seed=seed, evaluation_episodes=10),
        dataset=DatasetReference(
            name=DATASET, path="none", digest="0" * 64, environment="humanoidmaze-giant-v0"
        ),
        spaces=SPACES,
        normalization=Normalization.identity(SPACES),
    )
    run = Run.create(path, config)
    for number, success in enumerate(successes, 1):
        measured = {"success": success, "task1/success": success, "task2/success": success}
        run.append("eval", {"step": 1000 * number, "max_steps": 9, "temperature": 0.0, **measured})
    for step in range(1, 3001):
        run_line = {"step": step, "seconds": 0.1, "backup/loss": 1 / step}
        if step % 500 == 0:
            run.append("metrics", run_line)
    return run


def test_runs_are_told_with_their_spread_and_what_is_published(tmp_path):
    runs = [make_run(tmp_path / f"s{k}", k, (0.1, 0.2 + 0.1 * k, 0.3 + 0.1 * k)) for k in (0, 1)]
    other = replace(AGENT, alpha=9.0)
    make_run(tmp_path / "other", 0, (0.9, 0.9, 0.9), other)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    with (runs[1].path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40')  # Being written.
    names = ("s0", "s1", "other", "broken")
    with locked(runs[1].path):
        document = runs_document([(name, tmp_path / name) for name in names])
    json.dumps(document, allow_nan=False)
    assert [(run["name"], run["updates"], run["state"]) for run in document["runs"]] == [
        ("s0", 3000, "ended"),
        ("s1", 3000, "training"),
        ("other", 3000, "ended"),
    ]
    assert "broken" in document["problems"][0]
    cells = {cell["method"]: cell for cell in document["cells"]}
    cell = cells[f"mqe (alpha {AGENT.alpha:g})"]
    assert cell["seeds"] == [0, 1]
    # Means over the last three evaluations of 0.2 and of 4/15.
    assert cell["success"] == pytest.approx((0.2 + 0.8 / 3) / 2)
    low, high = cell["interval"]
    assert low < cell["success"] < high
    assert cell["curve"]["updates"] == [1000, 2000, 3000]
    assert cell["curve"]["success"] == pytest.approx([0.1, 0.25, 0.35])
    # The runs are far smaller than the paper's.
    assert cell["published"] is None
    assert cell["best_published"]["method"] == "OTA"
    assert set(document["differences"]["settings"]) == {"alpha", "seed"}
    curves = metric_document([(name, tmp_path / name) for name in names], "backup/loss")["curves"]
    assert [curve["name"] for curve in curves] == ["s0", "s1", "other"]
    assert curves[0]["steps"] == (500, 1000, 1500, 2000, 2500, 3000)


def test_data_are_told_with_their_frames_and_what_looks_wrong(tmp_path):
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 255, (4, 30, 8, 10, 3), np.uint8)
    pictures[2] = pictures[2, 0]
    with TableWriter(tmp_path / "log", (2,), "float32", 2) as writer:
        for frames in pictures:
            actions = generator.uniform(-1, 1, (30, 2)).astype(np.float32)
            writer.append(np.cumsum(actions, axis=0) / 30, actions, wrist=frames)
    dataset = open_dataset(tmp_path / "log")
    assert data_document(dataset)["cameras"] == ["wrist"]
    found = findings_document(dataset)["findings"]
    assert [(one["episode"], one["rule"]) for one in found] == [(2, "frozen camera")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(episodes, "MOST_CHECKED", 1000)
        with pytest.raises(FarstepError, match=r"too much to read .* farstep data check"):
            findings_document(dataset)
    episode = episode_document(dataset, {}, {"episode": "1"})
    assert (episode["first"], episode["length"], len(episode["curves"]["actions"])) == (30, 30, 2)
    shown = Image.open(io.BytesIO(frame(dataset, {"camera": "wrist", "row": "31"})))
    np.testing.assert_array_equal(np.asarray(shown), pictures[1, 1])
    for asked in ({"episode": "4"}, {"episode": "-1"}, {"episode": "²"}, {"split": "val"}):
        with pytest.raises(FarstepError, match=r"There is no episode|has no split"):
            episode_document(dataset, {}, asked)
    with pytest.raises(FarstepError, match="no camera 'head'"):
        frame(dataset, {"camera": "head"})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere is neither a run"),
        (["{toy}", "{toy}", "--export", "page.html"], "name one dataset"),
        (["{toy}", "--export", "page.html"], "There is no policy to show"),
        (["{toy}", "--coordinates", "1"], "name two columns, such as 0,1"),
        (["{toy}", "--port", "70000"], "Cannot listen at port 70000"),
        (["{toy}", "--episodes", "-1"], "must be at least 0"),
    ],
)
def test_bad_input_is_one_line(toy, words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["view", *(word.format(toy=toy) for word in words)])
    assert stopped.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []
