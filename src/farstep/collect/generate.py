"""Data sets by the published recipes, episode by episode over processes.

Every episode has random streams of its own, told apart by (seed, split, number), so a data set is
the same whatever the number of processes. It appears complete or not at all.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from collections.abc import Callable, Generator
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from farstep.collect.pointmaze import ARRAYS, Recipe
from farstep.core import machine
from farstep.core.files import staged_directory
from farstep.data.table import TableWriter, dataset_files
from farstep.envs.mazes import MazeMap
from farstep.envs.processes import in_order

Progress = Callable[[int, int], None]
"""Called with (episodes done, episodes in all)."""


def generate(
    path: Path,
    maze: MazeMap,
    recipe: Recipe,
    *,
    name: str | None = None,
    environment: str | None,
    seed: int = 0,
    processes: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write the data set of `recipe` in `maze` as `path/train` and `path/val`.

    Args:
        path: the data set's directory.
        maze: the map; the body is the point mass.
        recipe: behaviour, episodes and steps.
        name: the data set's, which presets are looked up by.
        environment: name of the environment that the tables are for. `None` for a map of your
            own: it is kept as `path/maze.txt`, and the environment is named after that file.
        seed: root of every random stream.
        processes: simulator processes; by default one a core. The data do not depend on it.
        overwrite: replace a data set at `path`.
        progress: told of every finished episode.

    Raises:
        FarstepError: `path` exists and `overwrite` is off, or the disk is full.
    """
    sizes = {"train": recipe.episodes, "val": recipe.validation_episodes}
    requests = [(split, number) for split, size in sizes.items() for number in range(size)]
    count = min(processes or machine.processes(), len(requests))
    provenance = {
        "recipe": {"name": f"pointmaze-{recipe.behaviour}", **dataclasses.asdict(recipe)},
        "maze": {"name": maze.name, "text": maze.to_text()},
        "seed": seed,
        "versions": _versions(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }
    with (
        staged_directory(path, overwrite=overwrite, owned=dataset_files(path)) as staging,
        closing(_episodes(maze, recipe, seed, requests, count)) as episodes,
    ):
        if environment is None:
            (staging / "maze.txt").write_text(maze.to_text() + "\n", encoding="utf-8")
            environment = f"pointmaze:{path.absolute() / 'maze.txt'}"
        done = 0
        for split, size in sizes.items():
            with TableWriter(
                staging / split,
                observation_shape=(2,),
                observation_dtype="float32",
                action_size=2,
                environment=environment,
                provenance={**provenance, "split": split},
                name=name,
                expected_steps=size * recipe.steps,
            ) as writer:
                for _ in range(size):
                    writer.append(**next(episodes))
                    done += 1
                    if progress is not None:
                        progress(done, len(requests))


def _episodes(
    maze: MazeMap, recipe: Recipe, seed: int, requests: list[tuple[str, int]], processes: int
) -> Generator[dict[str, np.ndarray]]:
    config: dict[str, Any] = {
        "maze": maze.to_text(),
        "name": maze.name,
        "recipe": dataclasses.asdict(recipe),
    }
    streams = [json.dumps([seed, f"collect/{split}", n]).encode() for split, n in requests]
    shape = len(ARRAYS), recipe.steps, 2
    for answer in in_order("farstep.collect.pointmaze:service", [config] * processes, streams):
        yield dict(zip(ARRAYS, np.frombuffer(answer, np.float32).reshape(shape), strict=True))


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("farstep", "mujoco", "ogbench", "numpy")}
