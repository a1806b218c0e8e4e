"""The pictures of a data set of states: the same episodes, row by row, as a camera sees them.

Simulators draw stored states in parallel. Rows are drawn in blocks, and finished blocks are kept
beside the data set until all are there, so that the same call goes on where it was cut off.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from farstep.collect.generate import Progress
from farstep.core import machine
from farstep.core.errors import FarstepError
from farstep.core.files import check_free_space, check_replaceable
from farstep.core.types import Space, Spaces
from farstep.data.episodes import Episode, Split, import_episodes
from farstep.data.records import Records, unfinished
from farstep.data.table import Dataset, Table, dataset_files
from farstep.envs.catalog import environment
from farstep.envs.opengl import require_drawing
from farstep.envs.processes import in_order
from farstep.envs.specs import EnvironmentSpec

SERVICE = "farstep.collect.render:service"

BLOCK = 32
"""Rows that a process draws at a time: a few seconds of work where OpenGL runs on the CPU."""

STATES = ("qpos", "qvel", "button_states")
"""Arrays that a simulator's state is made of; the last where there are buttons."""


class Renderer:
    """Draws states of one environment.

    Args:
        spec: an environment of pictures.
    """

    def __init__(self, spec: EnvironmentSpec):
        self._maze = spec.maze_map is not None
        # OGBench's arms need the mode of data collection to be set to a state.
        if self._maze or spec.family == "widowx":
            from farstep.envs.catalog import make

            self._env: Any = make(spec.name).unwrapped
        else:
            from farstep.envs.isolation import make_quietly

            self._env = make_quietly(spec.name, mode="data_collection").unwrapped
        self._env.reset(seed=0)

    def frame(self, observation: np.ndarray, states: Mapping[str, np.ndarray]) -> np.ndarray:
        """The picture of one stored step, (64, 64, 3) bytes."""
        if hasattr(self._env, "draw"):
            return self._env.draw(states["qpos"])
        if not self._maze:
            self._env.set_state(*(np.array(values) for values in states.values()))
            return self._env.get_pixel_observation()
        import mujoco

        simulated: Any = self._env.data
        simulated.qpos[:], simulated.qvel[:] = states["qpos"], states["qvel"]
        # Where a teleporter took the body, `qpos` is ahead of what was observed.
        simulated.qpos[:2] = observation[:2]
        forward: Any = mujoco
        forward.mj_forward(self._env.model, simulated)
        return self._env.render()


def service(config: Mapping[str, Any]) -> Callable[[bytes], bytes]:
    """What a drawing process does: from a first row to the frames of a block, filled up to it."""
    renderer = Renderer(environment(config["environment"]))
    tables = {name: Table.open(path) for name, path in config["tables"].items()}

    def answer(request: bytes) -> bytes:
        split, first = json.loads(request)
        table = tables[split]
        rows = range(first, min(first + BLOCK, table.num_steps))
        names = [name for name in STATES if name in table.extras]
        frames = [
            renderer.frame(table.observations[row], {n: table.extras[n][row] for n in names})
            for row in rows
        ]
        missing = BLOCK - len(frames)
        return np.stack([*frames, *[frames[-1]] * missing]).tobytes()

    return answer


def render(
    path: Path,
    source: Dataset,
    spec: EnvironmentSpec,
    *,
    name: str | None = None,
    processes: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write the pictures of `source` as a data set of the environment `spec`.

    Row i of a table of pictures is row i of the table of states, with the same action and extras.

    Args:
        path: the new data set's directory.
        source: a data set with the extras `qpos` and `qvel`.
        spec: the environment of pictures.
        name: the new data set's.
        processes: drawing processes; by default one a core. The pictures do not depend on it.
        overwrite: replace a data set at `path`, and what is left of another that was begun.
        progress: told of rows drawn, and rows in all.

    Raises:
        FarstepError: the source has no simulator states, `path` exists, there is not the space, or
            MuJoCo cannot draw.
    """
    path = path.resolve()
    tables = {"train": source.train} | ({} if source.val is None else {"val": source.val})
    for table in tables.values():
        if not {"qpos", "qvel"} <= table.extras.keys():
            raise FarstepError(
                f"{table.path} has no qpos and qvel, which pictures are drawn from. Make the data"
                " anew, or import them with --extra qpos --extra qvel."
            )
    if path.exists():
        if not overwrite:
            raise FarstepError(f"{path} already exists. Choose another name, or --overwrite it.")
        check_replaceable(path, dataset_files(path))
    if spec.drawn:
        require_drawing()  # It chooses the OpenGL of the drawing processes too.
    shape = (64, 64, 3)
    size = BLOCK * int(np.prod(shape))
    blocks = [(split, n) for split, t in tables.items() for n in range(0, t.num_steps, BLOCK)]
    total = sum(table.num_steps for table in tables.values())
    plan = {"environment": spec.name, "sources": {n: t.digest for n, t in tables.items()}}
    config = {
        "environment": spec.name,
        "tables": {split: str(table.path) for split, table in tables.items()},
    }
    with Records(unfinished(path), plan, overwrite=overwrite) as records:
        check_free_space(path, (2 * len(blocks) - records.count) * size)
        requests = [json.dumps(block).encode() for block in blocks[records.count :]]
        count = min(processes or machine.processes(), max(1, len(requests)))
        with closing(in_order(SERVICE, [config] * count, requests)) as drawn:
            for content in drawn:
                records.append(content)
                if progress is not None:
                    progress(min(records.count * BLOCK, total), total)
        contents = iter(records)
        import_episodes(
            path,
            {
                split: Split(
                    _episodes(table, contents, shape),
                    table.num_steps,
                    {"rendered": source.name, **table.manifest.provenance},
                )
                for split, table in tables.items()
            },
            Spaces.from_observation(Space(shape, "uint8", "image"), source.train.spaces.action),
            name=name,
            environment=spec.name,
            overwrite=overwrite,
        )
        records.remove()


def _episodes(table: Table, contents: Iterator[bytes], shape: tuple[int, ...]) -> Iterator[Episode]:
    """The table's episodes with frames in place of observations, in pieces of a block at most."""
    for first in range(0, table.num_steps, BLOCK):
        frames: UInt8[np.ndarray, "rows height width 3"] = np.frombuffer(
            next(contents), np.uint8
        ).reshape(-1, *shape)
        stop = min(first + BLOCK, table.num_steps)
        inside = table.episode_ends[(table.episode_ends >= first) & (table.episode_ends < stop)]
        cuts = np.unique([first, *(inside + 1), stop])
        for begin, end in itertools.pairwise(cuts.tolist()):
            yield Episode(
                frames[begin - first : end - first],
                np.asarray(table.actions[begin:end]),
                {name: np.asarray(array[begin:end]) for name, array in table.extras.items()},
                ends=bool(np.isin(end - 1, inside)),
            )
