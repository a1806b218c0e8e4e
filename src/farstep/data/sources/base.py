"""The contract of a source of episodes: a format, and the episodes at a path."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import numpy as np

from farstep.core.arrays import record
from farstep.core.errors import FarstepError, nearest
from farstep.data.episodes import Episode, Split


@dataclass(frozen=True)
class ImportOptions:
    """Options for data that do not describe themselves.

    Attributes:
        val: a validation file or directory that lies elsewhere.
        observations: vector (of any shape, then flattened), or images, channels last (hwc) or
            first (chw); auto tells them by their shape.
        out_of_range: actions outside [-1, 1] are scaled from their bounds in training, kept as
            they are, clipped, or refused; by default scaled, but kept in published files.
        one_step_episodes: treatment of episodes of a single observation.
        ends: a key that is 1 on the last observation of each episode, in place of terminals and
            its kin; repeatable.
        close_last_episode: the end of each file ends its last episode, where no key marks it.
        extra: a further array to keep, besides qpos, qvel and button_states; repeatable.
        num_actions: actions are integers from 0 up to this number, exclusive; the environment's,
            if it has discrete actions.
        observation_key: the array that becomes the observations, such as observation/state;
            repeatable. Several vectors are joined in that order, and arrays stay apart by name if
            one holds images.
        action_key: the array that becomes the actions.
        image_size: scale pictures to squares of this many pixels, by Lanczos' filter.
        missing_files: treatment of episodes whose files are missing.
        relabel: take as Bridge's actions the motions that the arm made.
        only: import the episodes whose task or name contains this text; * stands for anything.
        leave_out: number of an episode of the training table to leave out, from 0, as --check tells
            it; repeatable.
    """

    val: Path | None = None
    observations: Literal["auto", "vector", "hwc", "chw"] = "auto"
    out_of_range: Literal["scale", "keep", "clip", "error"] | None = None
    one_step_episodes: Literal["error", "drop"] = "error"
    ends: tuple[str, ...] = ()
    close_last_episode: bool = False
    extra: tuple[str, ...] = ()
    num_actions: int | None = None
    observation_key: tuple[str, ...] = ()
    action_key: str | None = None
    image_size: int | None = None
    missing_files: Literal["error", "drop"] = "error"
    relabel: Literal["none", "reached"] = "none"
    only: str | None = None
    leave_out: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.image_size is not None and self.image_size < 1:
            raise FarstepError(f"images need at least 1 pixel a side, not {self.image_size}.")
        if self.num_actions is not None and self.num_actions < 1:
            raise FarstepError(f"--num-actions must be at least 1, not {self.num_actions}.")

    def wants(self, *labels: str) -> bool:
        """Whether an episode of this task and name is to be imported."""
        pattern = f"*{self.only or ''}*".lower()
        return self.only is None or any(fnmatchcase(label.lower(), pattern) for label in labels)

    def fields(
        self,
        observations: tuple[str, ...],
        actions: str,
        known: Iterable[str],
        where: str,
        extras: tuple[str, ...] = (),
    ) -> FieldMap:
        """The map from a step's arrays to the table's; all must be known.

        Args:
            observations: the format's usual keys of the observations.
            actions: the same of the actions.
            known: the arrays that a step has.
            where: name of the place in messages.
            extras: further arrays that the format keeps unasked.

        Raises:
            FarstepError: one of them is not known.
        """
        fields = FieldMap(
            self.observation_key or observations,
            self.action_key or actions,
            tuple(dict.fromkeys((*extras, *self.extra))),
        )
        names = list(known)
        for key in fields.keys:
            if key not in names:
                raise FarstepError(
                    f"{where} has no '{key}'.{nearest(key, names)} It has: {', '.join(names)}."
                )
        return fields


@dataclass(frozen=True)
class FieldMap:
    """A map from the arrays of a step to those of a table.

    Attributes:
        observations: joined in this order if they are several vectors, and apart by name if one
            holds images.
        actions: the array of actions.
        extras: kept beside them.
    """

    observations: tuple[str, ...]
    actions: str
    extras: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """All arrays that are read, each once."""
        return tuple(dict.fromkeys((*self.observations, self.actions, *self.extras)))

    def episode(
        self,
        arrays: Mapping[str, np.ndarray],
        where: str,
        *,
        ends: bool = True,
        task: str | None = None,
    ) -> Episode:
        """The episode of these arrays, of L rows each.

        Several arrays of observations are joined if all are vectors, and else stay apart by name.
        """
        parts = {key: np.asarray(arrays[key]) for key in self.observations}
        if len(parts) == 1:
            (observations,) = parts.values()
        elif any(part.ndim > 2 for part in parts.values()):
            # A number of its own is a vector of one.
            rows = {key: p[:, None] if p.ndim == 1 else p for key, p in parts.items()}
            observations = record({n: rows[k] for k, n in array_names(self.observations).items()})
        else:
            flat = [part.reshape(len(part), -1) for part in parts.values()]
            observations = np.concatenate(flat, axis=1)
        extras = {extra_name(key): arrays[key] for key in self.extras}
        return Episode(observations, arrays[self.actions], extras, ends, where, task)


@dataclass(frozen=True, eq=False)
class Source:
    """The episodes at one path, inspected but not yet read.

    Attributes:
        splits: contents of the `train` table and, if there is more, the `val` table. Rows come
            as they lie there: the import makes pixels, vectors and indices of them.
        notes: notes for the user.
        num_actions: number of discrete actions, if the files hold it.
    """

    splits: Mapping[str, Split]
    notes: tuple[str, ...] = ()
    num_actions: int | None = None


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


def array_names(keys: Sequence[str]) -> dict[str, str]:
    """The names of an observation's arrays: the last words of the keys where these tell them apart.

    `observation/image_0` is `image_0`, and `observation.images.top` is `top`.
    """
    short = {key: re.split(r"\W", key)[-1] for key in keys}
    names = short if len(set(short.values())) == len(short) else {k: extra_name(k) for k in keys}
    return {key: name if name[:1].isalpha() else f"array_{name}" for key, name in names.items()}


def extra_name(key: str) -> str:
    """The name under which a table keeps an array: `observation/state` as `observation_state`."""
    return re.sub(r"\W", "_", key)
