"""Pictures of stored states: aligned row by row, the same for any number of processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ogbench")

from farstep.cli.main import main
from farstep.data.table import open_dataset

pytestmark = pytest.mark.usefixtures("opengl")


def make(name: str, *more: str) -> None:
    main(["data", "make", name, "--episodes", "3", "--steps", "60", "--processes", "1", *more])


# OpenGL on the CPU takes tens to hundreds of milliseconds a frame.
@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["antmaze-medium-navigate", "scene-play"],
)
def test_pictures_are_aligned_with_their_states(name: str, tmp_path: Path) -> None:
    make(name, "--overwrite")
    main(["data", "render", name, "--processes", "1", "--overwrite"])
    states, pictures = open_dataset(name), open_dataset(f"visual-{name}")
    for ours, theirs in ((pictures.train, states.train), (pictures.val, states.val)):
        assert ours is not None
        assert theirs is not None
        assert np.array_equal(ours.episode_ends, theirs.episode_ends)
        assert np.array_equal(ours.actions, theirs.actions)
        assert np.array_equal(ours.extras["qpos"], theirs.extras["qpos"])
        assert ours.observations.shape == (len(theirs.actions), 64, 64, 3)
    assert pictures.environment == "visual-" + str(states.environment)
    # What moves is seen to move, and equal states look the same.
    frames = pictures.train.observations.astype(int)
    assert np.abs(frames[1:60] - frames[:1]).max() > 30
    again = tmp_path / "again"
    main(["data", "render", name, "--processes", "2", "--out", str(again)])
    assert np.array_equal(open_dataset(again).train.observations, pictures.train.observations)


def test_data_without_states_are_refused(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["data", "render", str(toy)])
    assert "No environment shows pictures" in capsys.readouterr().err
