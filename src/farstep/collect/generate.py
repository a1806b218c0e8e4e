"""Data sets by the published recipes, episode by episode over processes.

Every episode has random streams of its own, told apart by (seed, split, number), so a data set is
the same whatever the number of processes. It appears complete or not at all. Finished episodes are
kept beside it until then, so that the same call goes on where it was cut off.
"""

from __future__ import annotations

import dataclasses
import itertools
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Any

from farstep.collect.collector import FAMILIES, Layout, Recipe
from farstep.collect.worker import Packing, described, packed_episodes
from farstep.core import machine
from farstep.core.errors import FarstepError
from farstep.core.files import check_free_space, check_replaceable
from farstep.core.types import Actions, Space, Spaces
from farstep.data.episodes import Episode, Split, import_episodes
from farstep.data.records import Records, unfinished
from farstep.data.table import dataset_files
from farstep.envs.specs import EnvironmentSpec

Progress = Callable[[int, int], None]
"""Called with (episodes done, episodes in all)."""


def generate(
    path: Path,
    spec: EnvironmentSpec,
    recipe: Recipe,
    *,
    name: str | None = None,
    seed: int = 0,
    processes: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write the data set of `recipe` in the environment `spec` as `path/train` and `path/val`.

    Args:
        path: the data set's directory.
        spec: the environment, of one of `FAMILIES`. The map of a maze of one's own is kept as
            `path/maze.txt`, and the tables' environment is named after that file.
        recipe: behaviour, episodes and steps.
        name: the data set's, which presets are looked up by.
        seed: root of every random stream.
        processes: simulator processes; by default one a core. The data do not depend on it.
        overwrite: replace a data set at `path`, and what is left of another that was begun.
        progress: told of the episodes that were there, then of each that is finished.

    Raises:
        FarstepError: `path` exists and `overwrite` is off, there is not the space for it, or what
            is left of another data set lies beside it.
    """
    path = path.resolve()
    if path.exists():
        if not overwrite:
            raise FarstepError(
                f"{path} already exists. Choose another name, or ask to overwrite it."
            )
        check_replaceable(path, dataset_files(path))
    family = FAMILIES[spec.family]
    layout, about = described(family, spec.name, recipe)
    packing = Packing(layout, recipe.steps)
    maze = spec.maze_map
    provenance = {
        "recipe": {"name": f"{spec.family}-{recipe.behaviour}", **dataclasses.asdict(recipe)},
        **({} if maze is None else {"maze": {"name": maze.name, "text": maze.to_text()}}),
        **about,
        "seed": seed,
        "versions": _versions(),
    }
    streams = [
        (seed, f"collect/{split}", number)
        for split, count in _sizes(recipe).items()
        for number in range(count)
    ]
    plan = {"environment": spec.name, **provenance}
    with Records(unfinished(path), plan, overwrite=overwrite) as records:
        # The episodes stay beside the tables until these are whole.
        check_free_space(path, (2 * len(streams) - records.count) * packing.size)
        todo = streams[records.count :]
        count = processes or machine.processes()
        with closing(packed_episodes(family, spec.name, recipe, todo, count)) as episodes:
            for number in itertools.count(records.count):
                if progress is not None:
                    progress(number, len(streams))
                if number == len(streams):
                    break
                records.append(next(episodes))
        counts = _totals(records, packing, layout)
        provenance |= {"counts": counts} if counts else {}
        provenance["command"] = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        environment, files = spec.name, {}
        family_name, colon, _ = environment.partition(":")
        if colon and maze is not None:
            environment = f"{family_name}:{path / 'maze.txt'}"
            files = {"maze.txt": maze.to_text() + "\n"}
        import_episodes(
            path,
            _splits(records, packing, layout, recipe, provenance),
            _spaces(layout),
            name=name,
            environment=environment,
            files=files,
            overwrite=overwrite,
        )
        records.remove()


def _splits(
    records: Records,
    packing: Packing,
    layout: Layout,
    recipe: Recipe,
    provenance: Mapping[str, Any],
) -> dict[str, Split]:
    """The tables, of the records in their order; those of `train` come first."""
    contents = iter(records)

    def episodes(count: int) -> Iterator[Episode]:
        for content in itertools.islice(contents, count):
            arrays = {n: a for n, a in packing.unpack(content).items() if n in layout.arrays}
            yield Episode(arrays.pop("observations"), arrays.pop("actions"), arrays)

    return {
        split: Split(episodes(count), count * recipe.steps, {**provenance, "split": split})
        for split, count in _sizes(recipe).items()
    }


def _totals(records: Records, packing: Packing, layout: Layout) -> dict[str, int]:
    """Each count, over all episodes."""
    totals = dict.fromkeys(layout.counts, 0)
    for content in records if totals else ():
        episode = packing.unpack(content)
        totals = {name: total + int(episode[name]) for name, total in totals.items()}
    return totals


def _sizes(recipe: Recipe) -> dict[str, int]:
    return {"train": recipe.episodes, "val": recipe.validation_episodes}


def _spaces(layout: Layout) -> Spaces:
    shape, dtype = layout.arrays["observations"]
    if layout.num_actions is None:
        actions = Actions(layout.arrays["actions"][0][0])
    else:
        actions = Actions(layout.num_actions, discrete=True)
    return Spaces.from_observation(
        Space(shape, dtype, "image" if layout.images else "vector"), actions
    )


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("farstep", "mujoco", "ogbench", "numpy")}
