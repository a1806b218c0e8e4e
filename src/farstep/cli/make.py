"""`farstep data make`: generate a data set by its published recipe."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.progress import MofNCompleteColumn
from rich.table import Table as Grid

from farstep.cli.console import plain_console, progress_bar
from farstep.collect.collector import FAMILIES, Recipe
from farstep.collect.generate import generate
from farstep.collect.walkers.bodies import walker_body
from farstep.core.errors import FarstepError, nearest
from farstep.core.seeds import check_seed
from farstep.data.records import unfinished
from farstep.data.table import Table, canonical_name, data_root, is_dataset, open_dataset
from farstep.envs.catalog import (
    DATASETS,
    MAZE_FAMILIES,
    check_installed,
    environment,
    environment_of,
    own_maze,
)
from farstep.envs.mazes import MazeMap
from farstep.envs.specs import EnvironmentSpec


@dataclass(frozen=True)
class DataMake:
    """Generate a data set by the recipe of the published one.

    Episodes, steps and noise are the published ones unless told otherwise, and a validation table
    of a tenth of the episodes is made too. The same seed gives the same data for any number of
    processes. The data set appears when everything is there; a call that was cut off goes on where
    it was when it is given again.

    `farstep data make pointmaze-giant-stitch`

    `farstep data make antmaze-large-explore`

    `farstep data make stitch --maze rooms.txt --body antmaze` takes a map of your own.

    Attributes:
        name: a published data set, such as antmaze-medium-stitch; with --maze, a behaviour:
            navigate, stitch or explore.
        episodes: episodes of the training table.
        steps: stored observations of an episode.
        noise: standard deviation of the noise on actions.
        walker: file of the walker to walk an ant or a humanoid with, in place of farstep's own.
        dribbler: file of the dribbler of antsoccer's ball.
        seed: root of everything random.
        processes: simulator processes; one a core unless told otherwise.
        out: directory to write; by default its name under $FARSTEP_DATA or ~/.farstep/data.
        maze: a text file with a map of your own.
        body: with --maze, pointmaze, antmaze or humanoidmaze.
        overwrite: replace a data set that is already there, or what is left of one that was begun
            with other options.
    """

    name: tyro.conf.Positional[str]
    episodes: int | None = None
    steps: int | None = None
    noise: float | None = None
    walker: Path | None = None
    dribbler: Path | None = None
    seed: int = 0
    processes: int | None = None
    out: Path | None = None
    maze: Path | None = None
    body: str = "pointmaze"
    overwrite: bool = False

    def run(self) -> None:
        check_seed(self.seed, "--seed")
        if self.processes is not None and self.processes < 1:
            raise FarstepError(f"--processes must be at least 1, not {self.processes}")
        name, spec, recipe = self._asked()
        check_installed(spec)
        path = self.out or data_root() / name
        rate = "episodes {task.fields[rate]:,.0f} steps/s"
        with progress_bar(MofNCompleteColumn(), rate, speed_estimate_period=300) as bar:
            task = bar.add_task(name, total=None, rate=0.0)
            clock = _Clock(recipe.steps)

            def report(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total, rate=clock.rate(done))

            try:
                generate(
                    path,
                    spec,
                    recipe,
                    name=name,
                    seed=self.seed,
                    processes=self.processes,
                    overwrite=self.overwrite,
                    progress=report,
                )
            except (KeyboardInterrupt, SystemExit):
                if unfinished(path).exists():
                    bar.console.print("stopped; the same command goes on from here")
                raise
        dataset = open_dataset(path)
        done = dataset.train.num_steps + (dataset.val.num_steps if dataset.val else 0)
        console = plain_console(stderr=True)
        console.print(f"{done:,} steps in {path}, made at {clock.rate(None):,.0f} a second")
        for line in against_published(dataset.train):
            console.print(line)

    def _asked(self) -> tuple[str, EnvironmentSpec, Recipe]:
        """The data set's name, its environment and its recipe."""
        if self.maze is not None:
            if self.body not in MAZE_FAMILIES:
                raise FarstepError(f"no body '{self.body}'.{nearest(self.body, MAZE_FAMILIES)}")
            spec = environment(f"{self.body}:{self.maze.absolute()}")
            behaviour = self.name
            named = own_maze(self.body, MazeMap.from_file(self.maze)).name
            name = f"{named.removesuffix('-v0')}-{behaviour}-v0"
        elif any(self.name in family.behaviours for family in FAMILIES.values()):
            raise FarstepError(
                f"'{self.name}' needs a map: add --maze FILE.txt, or name a data set"
            )
        else:
            spec = environment_of(self.name)
            name = canonical_name(self.name)
            behaviour = name.split("-")[-2]
        family = FAMILIES[spec.family]
        if spec.states is not None:
            raise FarstepError(
                f"'{name}' cannot be generated: {way_to(name)}. 'farstep data list' shows what can."
            )
        if behaviour not in family.behaviours:
            raise FarstepError(
                f"{self.body} has no behaviour '{behaviour}'."
                f"{nearest(behaviour, family.behaviours)}"
            )
        changes: dict[str, Any] = {
            "episodes": self.episodes,
            "steps": self.steps,
            "noise": self.noise,
            "walker": None if self.walker is None else str(self.walker.absolute()),
            "dribbler": None if self.dribbler is None else str(self.dribbler.absolute()),
        }
        changes = {name: value for name, value in changes.items() if value is not None}
        return name, spec, family.published(spec.name, behaviour, **changes)


def way_to(name: str) -> str:
    """How to get a published data set: the command, or why there is none and what to do."""
    spec = environment_of(name)
    name = canonical_name(name).removesuffix("-v0")
    if spec.states is not None:
        return f"farstep data render {name.removeprefix('visual-')}, once that is made"
    command = f"farstep data make {name}"
    body = "antball" if spec.ball else spec.body
    if body in ("humanoid", "antball"):
        return f"{command} --{walker_body(body).role} FILE, by farstep walker train {body}"
    return command


@dataclass(frozen=True)
class DataList:
    """List the published data sets, and how to come by each.

    `farstep data list antmaze`

    Attributes:
        names: words that a name must contain.
    """

    names: tyro.conf.Positional[tuple[str, ...]] = ()

    def run(self) -> None:
        chosen = [name for name in DATASETS if all(word in name for word in self.names)]
        if not chosen:
            words = " ".join(self.names)
            raise FarstepError(f"No data set is called so: '{words}'.{nearest(words, DATASETS)}")
        grid = Grid("data set", "here", "episodes × steps", "how")
        for name in chosen:
            there = "yes" if is_dataset(data_root() / name) else ""
            grid.add_row(name.removesuffix("-v0"), there, published_size(name), way_to(name))
        plain_console().print(grid)


def published_size(name: str) -> str:
    """Episodes and steps of the published training table."""
    spec = environment_of(name)
    source = environment(spec.states) if spec.states is not None else spec
    recipe = FAMILIES[spec.family].published(source.name, name.split("-")[-2])
    return f"{recipe.episodes:,} × {recipe.steps:,}"


def against_published(table: Table) -> list[str]:
    """A generated table against the published description, in lines."""
    manifest, lengths = table.manifest, table.episode_lengths
    name = manifest.name
    published = published_size(name) if name in DATASETS else ""
    span = f"{lengths.min():,}" + (f" to {lengths.max():,}" if np.ptp(lengths) else "")
    lines = [
        f"episodes × steps: {table.num_episodes:,} × {span}"
        + (f" (published: {published})" if published else "")
    ]
    if not manifest.discrete:
        actions = manifest.statistics["actions"]
        lines.append(f"actions: {min(actions.min):.3g} to {max(actions.max):.3g} (published: ±1)")
    counts = manifest.provenance.get("counts", {})
    for name, done in (("primitives", "succeeded"), ("goals", "reached")):
        if ended := counts.get(name):
            succeeded = counts[f"{name}_{done}"]
            share = f"{succeeded / ended:.1%}"
            lines.append(f"{name} {done}: {succeeded:,} of {ended:,} ({share})")
    return lines


class _Clock:
    """Steps a second since the first new episode."""

    def __init__(self, steps: int):
        self._steps = steps
        self._began: float | None = None
        self._there = self._done = 0

    def rate(self, done: int | None) -> float:
        """The rate at `done` episodes; `None` stands for the number of the last call."""
        if self._began is None:
            self._began, self._there = time.perf_counter(), done or 0
        self._done = self._done if done is None else done
        elapsed = time.perf_counter() - self._began
        return (self._done - self._there) * self._steps / elapsed if elapsed > 0 else 0.0
