import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farstep.core.errors import FarstepError
from farstep.evaluation.video import Videos


def feed(videos: Videos, steps: int, task: int = 1, index: int = 0) -> int:
    """Shows an episode of `steps` frames; returns how many were drawn."""
    drawn = 0

    def render() -> np.ndarray:
        nonlocal drawn
        drawn += 1
        return np.full((32, 48, 3), 20 * drawn % 255, np.uint8)

    assert videos.start(task, index)
    for _ in range(steps):
        videos.see(task, index, np.zeros(2), np.zeros(2), render)
    return drawn


def read(path: Path) -> list[np.ndarray]:
    import imageio.v2 as imageio

    return [np.asarray(frame) for frame in imageio.mimread(path)]


# imageio reads through an ffmpeg process and leaves its pipes to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["gif", "mp4"])
def test_every_third_step_is_a_frame(tmp_path, kind):
    pytest.importorskip("imageio_ffmpeg" if kind == "mp4" else "imageio")
    with Videos(tmp_path / "new", per_task=2, every=3, kind=kind) as videos:
        assert feed(videos, 10) == 4
        assert feed(videos, 7, task=2, index=1) == 3
        assert not videos.start(1, 2)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        f"task1-episode0.{kind}",
        f"task2-episode1.{kind}",
    ]
    assert [path.name for path in videos.paths] == [
        f"task{t}-episode{t - 1}.{kind}" for t in (1, 2)
    ]
    frames = read(videos.paths[0])
    assert len(frames) == 4
    assert frames[0].shape[:2] == (32, 48)
    assert abs(int(frames[0][10, 10, 0]) - 20) < 8
    assert abs(int(frames[3][10, 10, 0]) - 80) < 8


def test_an_error_leaves_no_file(tmp_path):
    pytest.importorskip("imageio")
    videos = Videos(tmp_path, every=1, kind="gif")

    def fail() -> None:
        with videos:
            feed(videos, 3)
            raise RuntimeError("simulator")

    with pytest.raises(RuntimeError, match="simulator"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_without_an_encoder_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name.startswith("imageio") else find(name, *rest),
    )
    with pytest.raises(
        FarstepError, match=r"imageio and imageio_ffmpeg, not installed here: .*video"
    ):
        Videos(tmp_path)
    with pytest.raises(FarstepError, match="imageio, not installed"):
        Videos(tmp_path, kind="gif")


def test_frames_come_from_the_episode_that_is_watched(tmp_path, opengl):
    """Through the evaluator, its workers and the simulator's renderer."""
    pytest.importorskip("ogbench")
    pytest.importorskip("imageio")
    from farstep.evaluation.rollout import evaluate

    class Eastward:
        def begin(self, slots, observations, goals):
            pass

        def end(self, slots):
            pass

        def act(self, observations, goals):
            return np.tile([1.0, 0.0], (len(observations), 1))

    settings: dict[str, Any] = {
        "episodes_per_task": 2,
        "tasks": [1, 2],
        "max_steps": 5,
        "slots": 4,
        "workers": 2,
    }
    options = {"width": 64, "height": 64}
    with Videos(tmp_path, every=2, kind="gif") as videos:
        evaluate(Eastward(), "pointmaze-medium-v0", options=options, record=videos, **settings)
    first, second = map(read, videos.paths)
    assert len(first) == len(second) == 3
    # Little changes within an episode; the two tasks start in different corners.
    within = np.abs(first[0].astype(int) - first[2]).mean()
    between = np.abs(first[0].astype(int) - second[0]).mean()
    assert 0 < within < between / 2


def test_importing_the_module_loads_no_encoder():
    code = "import sys, farstep.evaluation.video; print('imageio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
