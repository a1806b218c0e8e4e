"""`farstep data make`: generate a data set by its published recipe."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import tyro
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from farstep.collect.generate import generate
from farstep.collect.pointmaze import BEHAVIOURS, Behaviour, Recipe, published_recipe
from farstep.core.errors import FarstepError, nearest
from farstep.core.seeds import check_seed
from farstep.data.table import data_root
from farstep.envs.catalog import DATASETS, EnvironmentSpec, environment_of, own_maze
from farstep.envs.mazes import MazeMap


@dataclass(frozen=True)
class DataMake:
    """Generate a data set of the point mass by the recipe of the published one.

    Episodes, steps and noise are the published ones unless told otherwise, and a validation table
    of a tenth of the episodes is made too. The same seed gives the same data for any number of
    processes. Nothing is written until everything is there.

    `farstep data make pointmaze-giant-stitch`

    `farstep data make stitch --maze rooms.txt` takes a map of your own.

    Attributes:
        name: a published data set, such as pointmaze-medium-stitch; with --maze, navigate or
            stitch.
        episodes: episodes of the training table.
        steps: stored observations of an episode.
        noise: standard deviation of the noise on actions.
        seed: root of everything random.
        processes: simulator processes; one a core unless told otherwise.
        out: directory to write; by default its name under $FARSTEP_DATA or ~/.farstep/data.
        maze: a text file with a map of your own.
        overwrite: replace a data set that is already there.
    """

    name: tyro.conf.Positional[str]
    episodes: int | None = None
    steps: int | None = None
    noise: float | None = None
    seed: int = 0
    processes: int | None = None
    out: Path | None = None
    maze: Path | None = None
    overwrite: bool = False

    def run(self) -> None:
        """Generate, with a progress bar, and say where the data are and how fast that went.

        Raises:
            FarstepError: no recipe of that name, a number that makes no sense, a map that cannot
                be read, or a data set that is already there.
        """
        check_seed(self.seed, "--seed")
        if self.processes is not None and self.processes < 1:
            raise FarstepError(f"--processes must be at least 1, not {self.processes}")
        name, behaviour, spec, maze = self._asked()
        recipe = self._overridden(published_recipe(maze.name, behaviour))
        path = self.out or data_root() / name
        columns = (
            TextColumn(name),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("episodes"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        console = Console(stderr=True)
        began = time.perf_counter()
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(name, total=None)
            generate(
                path,
                maze,
                recipe,
                name=name,
                environment=spec.name if self.maze is None else None,
                seed=self.seed,
                processes=self.processes,
                overwrite=self.overwrite,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        steps = (recipe.episodes + recipe.validation_episodes) * recipe.steps
        rate = steps / (time.perf_counter() - began)
        console.print(f"{steps:,} steps at {rate:,.0f} a second in {path}", soft_wrap=True)

    def _asked(self) -> tuple[str, Behaviour, EnvironmentSpec, MazeMap]:
        """The data set's name, its behaviour, its environment and its map."""
        if self.maze is not None:
            if self.name not in BEHAVIOURS:
                raise FarstepError(
                    f"no recipe '{self.name}' for the point mass.{nearest(self.name, BEHAVIOURS)}"
                )
            maze = MazeMap.from_file(self.maze)
            spec = own_maze("pointmaze", maze)
            name = spec.name.removesuffix("-v0") + f"-{self.name}-v0"
            return name, cast(Behaviour, self.name), spec, maze
        if self.name in BEHAVIOURS:
            raise FarstepError(
                f"'{self.name}' needs a map: add --maze FILE.txt, or name a data set"
            )
        spec = environment_of(self.name)
        maze = spec.maze_map
        name = self.name.removesuffix("-v0") + "-v0"
        behaviour = name.split("-")[-2]
        if spec.body != "point" or maze is None:
            makeable = [known for known in DATASETS if known.startswith("pointmaze-")]
            raise FarstepError(
                f"'{name}' cannot be generated here, since its behaviour policy is not a rule of "
                f"the point mass; download it instead: farstep data get {name}."
                f" Can be generated: {', '.join(makeable)}."
            )
        return name, cast(Behaviour, behaviour), spec, maze

    def _overridden(self, recipe: Recipe) -> Recipe:
        given = {"episodes": self.episodes, "steps": self.steps, "noise": self.noise}
        return dataclasses.replace(recipe, **{k: v for k, v in given.items() if v is not None})
