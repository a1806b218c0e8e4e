"""Videos of chosen episodes, one file each.

Frames go to the encoder as they are drawn, so that memory does not grow with the episode.
"""

from __future__ import annotations

import importlib.util
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from farstep.core.errors import FarstepError, install_command
from farstep.core.files import whole_file
from farstep.evaluation.rollout import Render

Format = Literal["mp4", "gif"]

FRAMES_PER_SECOND = 30


class Videos:
    """Records the first `per_task` episodes of every task as `task1-episode0.mp4` and so on.

    Use as a context manager around `evaluate(record=videos)`: files get their names when it is
    left, and are removed instead if an error leaves it.

    Args:
        directory: directory of the files; made if it does not exist.
        per_task: episodes of each task.
        every: steps between frames; 1 draws every step.
        kind: `mp4`, which ffmpeg encodes, or `gif`.

    Raises:
        FarstepError: the encoder is not installed. A machine that cannot render raises the
            environment's own error at the first frame.
    """

    def __init__(
        self, directory: Path, per_task: int = 1, every: int = 3, kind: Format = "mp4"
    ) -> None:
        needed = ["imageio"] + (["imageio_ffmpeg"] if kind == "mp4" else [])
        missing = [name for name in needed if importlib.util.find_spec(name) is None]
        if missing:
            raise FarstepError(
                f"videos need {' and '.join(missing)}, not installed here: "
                f"{install_command('video')}"
            )
        self._directory = directory
        self._per_task = per_task
        self._every = every
        self._kind: Format = kind
        self._files = ExitStack()
        self._writers: dict[tuple[int, int], Any] = {}
        self._steps: dict[tuple[int, int], int] = {}

    @property
    def paths(self) -> list[Path]:
        """The files, in order of task and episode."""
        return [self._path(*episode) for episode in sorted(self._writers)]

    def start(self, task: int, index: int) -> bool:
        """Whether the episode is one of the first `per_task`."""
        return index < self._per_task

    def see(
        self, task: int, index: int, observation: np.ndarray, goal: np.ndarray, render: Render
    ) -> None:
        """Draws the step if it is one of every `every`."""
        episode = task, index
        step = self._steps.get(episode, 0)
        self._steps[episode] = step + 1
        if step % self._every:
            return
        frame = render()
        if episode not in self._writers:
            self._writers[episode] = self._open(self._path(*episode))
        with warnings.catch_warnings():
            # The first frame starts ffmpeg. JAX warns of every fork; this one only executes it.
            warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
            self._writers[episode].append_data(frame)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        for writer in self._writers.values():
            writer.close()
        self._files.__exit__(*exception)

    def _path(self, task: int, index: int) -> Path:
        return self._directory / f"task{task}-episode{index}.{self._kind}"

    def _open(self, path: Path) -> Any:
        import imageio.v2 as imageio

        path = self._files.enter_context(whole_file(path))
        if self._kind == "gif":
            # GIF counts a frame's time in hundredths of a second; `duration` is in milliseconds.
            return imageio.get_writer(path, mode="I", duration=1000 // FRAMES_PER_SECOND, loop=0)
        # Players want even sizes; a block of 2 keeps the frame's own size where it is even.
        return imageio.get_writer(path, fps=FRAMES_PER_SECOND, macro_block_size=2)
