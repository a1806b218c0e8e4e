"""Episodes that sources and collectors yield, to be written into a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from farstep.core.arrays import by_name
from farstep.core.errors import FarstepError
from farstep.core.files import staged_directory, write_text
from farstep.core.types import Spaces
from farstep.data.table import TableWriter, dataset_files

LANGUAGE = "language"
"""The array of each step's task, by its number in the manifest's texts."""


@dataclass(frozen=True, eq=False)
class Episode:
    """The steps of one episode, or the next steps of one that is too long to hold.

    Attributes:
        observations: (L, *observation shape); of several arrays one structured array (L,).
        actions: (L, A), or (L,) integers; the action of an episode's last step leads nowhere.
        extras: further arrays of L rows by name, the same names in every episode.
        ends: whether the last row ends the episode. An episode in pieces ends with its last one.
        where: origin of the steps, for messages.
        task: task in words; `None` where the source has no tasks at all.
    """

    observations: np.ndarray
    actions: np.ndarray
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)
    ends: bool = True
    where: str = ""
    task: str | None = None

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name, those of the observations each by itself."""
        return by_name(self.observations, self.actions, self.extras)


@dataclass(frozen=True, eq=False)
class Split:
    """The episodes of one table.

    Attributes:
        episodes: consumed once, in order.
        steps: how many rows they have in all, if known or to be guessed: an import that cannot fit
            on the disk is then not begun.
        provenance: origin of the episodes; JSON values.
        resume: the same episodes from the one of that number on, without the work of those before.
            It makes an import go on where it was cut off.
    """

    episodes: Iterable[Episode]
    steps: int | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    resume: Callable[[int], Iterable[Episode]] | None = None


def import_episodes(
    path: Path,
    splits: Mapping[str, Split],
    spaces: Spaces,
    *,
    name: str | None = None,
    environment: str | None = None,
    files: Mapping[str, str] | None = None,
    scale_actions: bool = True,
    overwrite: bool = False,
    check: Callable[[], None] | None = None,
) -> tuple[str, ...]:
    """Write a dataset, a table for each of `splits`; it appears whole or not at all.

    Where episodes have tasks, the array `language` holds each step's as a number, and the manifest
    the texts.

    Args:
        path: the dataset's directory.
        splits: episodes of `train` and, if there are any, of `val`.
        spaces: shapes and types of observations and actions.
        name: the dataset's name, which presets are looked up by.
        environment: name of the environment that the episodes come from.
        files: texts to keep beside the tables, by name.
        scale_actions: as for `TableWriter`.
        overwrite: replace a dataset at `path`.
        check: called once all is written; if it raises, no dataset appears.

    Returns:
        what the reader should know about the data.

    Raises:
        FarstepError: an episode that a table cannot hold, no space, or `path` exists.
    """
    notes: list[str] = []
    tasks: dict[str, int] = {}
    owned = dataset_files(path)
    with staged_directory(path, overwrite=overwrite, owned=owned) as staging:
        for file, text in (files or {}).items():
            write_text(staging / file, text)
        for part, split in splits.items():
            with TableWriter(
                staging / part,
                spaces.observation,
                "",
                spaces.action.size,
                spaces.action.discrete,
                environment,
                split.provenance,
                name=name,
                scale_actions=scale_actions,
                expected_steps=split.steps,
            ) as writer:
                for episode in split.episodes:
                    extras = dict(episode.extras)
                    if episode.task is not None:
                        number = tasks.setdefault(episode.task, len(tasks))
                        steps = len(episode.observations)
                        extras.setdefault(LANGUAGE, np.full(steps, number, np.int32))
                    with located(episode.where):
                        writer.extend(episode.observations, episode.actions, **extras)
                        if episode.ends:
                            writer.end_episode()
                writer.tasks = tuple(tasks)
            notes += [f"{part}: {note}" for note in writer.notes]
        if check is not None:
            check()
    return tuple(notes)


@contextmanager
def located(where: str) -> Iterator[None]:
    """Begin messages of errors with `where`."""
    try:
        yield
    except FarstepError as error:
        raise FarstepError(f"{where}: {error}" if where else str(error)) from error
