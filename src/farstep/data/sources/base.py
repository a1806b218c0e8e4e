"""What a source of episodes is: a format, and the episodes that it finds at a path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from farstep.data.episodes import Split


@dataclass(frozen=True)
class ImportOptions:
    """What the reader says of data that do not speak for themselves.

    Attributes:
        val: a validation file or directory that lies elsewhere.
        observations: `vector` (of any shape, then flattened), or images with their channels last
            (`hwc`) or first (`chw`); `auto` tells them by their shape.
        out_of_range: actions with a coordinate outside [-1, 1] are kept and reported, clipped and
            reported, or refused.
        one_step_episodes: refuse or leave out episodes of a single observation.
        ends: keys that are 1 on the last observation of an episode; by default the usual ones.
        close_last_episode: take the end of each file for the end of its last episode, where no
            key marks it.
        extras: further keys to store.
        num_actions: actions are integers in [0, num_actions).
    """

    val: Path | None = None
    observations: Literal["auto", "vector", "hwc", "chw"] = "auto"
    out_of_range: Literal["keep", "clip", "error"] = "keep"
    one_step_episodes: Literal["error", "drop"] = "error"
    ends: tuple[str, ...] = ()
    close_last_episode: bool = False
    extras: tuple[str, ...] = ()
    num_actions: int | None = None


@dataclass(frozen=True, eq=False)
class Source:
    """The episodes at one path, inspected but not yet read.

    Attributes:
        splits: what becomes the `train` table and, if there is more, the `val` table. Rows come
            as they lie there: the import makes pixels, vectors and indices of them.
        notes: what the reader should know.
    """

    splits: Mapping[str, Split]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """A kind of files that hold episodes.

    Attributes:
        name: for `--format`.
        recognises: whether the file or directory is of this kind, by its first bytes or by what
            lies in it; it is asked of existing paths only.
        open: inspects a path. It refuses with a `FarstepError` what it can see to be wrong
            before it reads a step, and takes from the options what concerns it.
    """

    name: str
    recognises: Callable[[Path], bool]
    open: Callable[[Path, ImportOptions], Source]
