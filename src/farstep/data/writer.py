"""Writing a table, episode by episode."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np

from farstep.core.arrays import arrays_of, part, record
from farstep.core.errors import FarstepError, nearest
from farstep.core.files import NO_SPACE, check_free_space, format_bytes, staged_directory
from farstep.core.types import Space
from farstep.data.columns import Column, Rounding
from farstep.data.manifest import (
    MANIFEST_NAME,
    RESERVED,
    Manifest,
    Statistics,
    stored_space,
    table_files,
)

Observed = np.ndarray | Mapping[str, np.ndarray]
"""Observations of L steps: one array, plain or structured, or several by name."""

NARROW = 0.25
"""Part of [-1, 1] below which a dimension of the actions is scaled. A policy of unit variance
hardly sees a robot's steps in metres beside its gripper, and may leave them by far."""


class TableWriter:
    """Writes a table episode by episode, without ever holding it.

    A context manager. The table appears at `path` when the block ends cleanly; on an exception
    nothing is left behind. An episode that is refused leaves the writer as it was, so a caller
    may skip it.

        with TableWriter(path, (29,), "float32", 8, environment="antmaze-large-v0") as writer:
            for observations, actions in episodes:
                writer.append(observations, actions)

    Args:
        path: the table's directory, which must not exist yet.
        observation_shape: shape of one observation, (D,) or (H, W, C); or its space, where it has
            several arrays.
        observation_dtype: `float32`, or `uint8` for pixels; of no matter beside a space.
        action_size: dimensions of an action, or how many discrete actions there are.
        discrete: whether actions are integers in [0, action_size).
        environment: name of the environment that the episodes come from.
        provenance: origin of the data; JSON values, stored as they are.
        name: the dataset's name, as published or by its recipe; presets are looked up by it.
        scale_actions: where actions leave [-1, 1], or some dimension of them varies over less than
            `NARROW` of it, store their bounds, from which they are scaled in training and to which
            policies act. Otherwise they are used as they are.
        overwrite: replace a table at `path`.
        expected_steps: refuse to begin where this many steps will not fit on the disk.

    Attributes:
        tasks: texts that the numbers in an array `language` stand for; stored in the manifest.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        observation_shape: tuple[int, ...] | Space,
        observation_dtype: str,
        action_size: int,
        discrete: bool = False,
        environment: str | None = None,
        provenance: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        scale_actions: bool = True,
        overwrite: bool = False,
        expected_steps: int | None = None,
    ) -> None:
        if isinstance(observation_shape, Space):
            self._space = observation_shape
        else:
            self._space = stored_space(observation_shape, observation_dtype)
        for key in self._space.keys:
            if not re.fullmatch(r"[A-Za-z]\w*", key, re.ASCII):
                raise FarstepError(f"'{key}' cannot name an array of observations.")
        for space in self._space.arrays.values():
            if space.dtype not in ("float32", "uint8"):
                raise FarstepError(
                    f"Observations are stored as float32 or uint8, not {space.dtype}."
                )
            if min(space.shape) < 1 or action_size < 1:
                raise FarstepError(
                    "A table needs observations of at least one number and at least one action;"
                    f" got observation shape {space.shape} and action size {action_size}."
                )
        self._path = Path(path)
        self._name = name
        self._scale_actions = scale_actions
        self._action_size = action_size
        self._discrete = discrete
        self._environment = environment
        self._provenance = dict(provenance or {})
        self.tasks: tuple[str, ...] = ()
        self._overwrite = overwrite
        self._expected_steps = expected_steps
        self._stack = ExitStack()
        self._columns: dict[str, Column] = {}
        self._rounding: dict[str, Rounding] = {}
        self._staging: Path | None = None
        self._ends: list[int] = []
        self._num_steps = 0
        self._out_of_range = 0

    @property
    def num_steps(self) -> int:
        """Steps written so far."""
        return self._num_steps

    @property
    def num_episodes(self) -> int:
        """Episodes completed so far."""
        return len(self._ends)

    @property
    def notes(self) -> list[str]:
        """Notes for the user on the numbers written so far."""
        return [
            f"Column {column} of {name} reaches from {low:.4g} to {high:.4g} and changes by at most"
            f" {change:.4g} within an episode: float32 rounds it by up to {error:.4g}. If it"
            " matters, subtract an offset from it before the import."
            for name, rounding in self._rounding.items()
            for column, low, high, change, error in rounding.lossy()
        ]

    def __enter__(self) -> Self:
        if self._expected_steps is not None:
            row = self._space.row.itemsize
            row += 4 if self._discrete else 4 * self._action_size
            check_free_space(self._path, self._expected_steps * row)
        self._staging = self._stack.enter_context(
            staged_directory(self._path, overwrite=self._overwrite, owned=table_files(self._path))
        )
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                self._finish()
        except BaseException as failure:
            explained = self._explain(failure)
            self._abandon(explained)
            raise explained from failure
        if error is not None:
            explained = self._explain(error)
            self._abandon(explained)
            if explained is not error:
                raise explained from error
            return
        self._stack.close()

    def append(self, observations: Observed, actions: np.ndarray, **extras: np.ndarray) -> None:
        """Write one episode.

        Args:
            observations: (L, *observation shape), L ≥ 2; converted to the table's dtype. Of several
                arrays a dict, or a structured array.
            actions: (L, A), or (L,) integers; the last one is stored but leads nowhere.
            extras: further arrays of L rows, the same names in every episode.

        Raises:
            FarstepError: fewer than two steps, wrong shapes, or a number that is not finite.
        """
        length = len(actions)
        if self._open_rows == 0 and length < 2:
            raise FarstepError(
                f"Episode {self.num_episodes} has {length} step{'s' * (length != 1)}; a transition"
                " needs two. Leave the episode out."
            )
        self.extend(observations, actions, **extras)
        self.end_episode()

    def extend(self, observations: Observed, actions: np.ndarray, **extras: np.ndarray) -> None:
        """Write the next steps of the current episode, which `end_episode` completes.

        For episodes too long to hold; the arguments and errors are those of `append`, but any
        number of steps will do.
        """
        given = self._arrays(observations)
        stored = {key: self._convert_observations(key, array) for key, array in given.items()}
        converted = {
            "observations": record(stored) if self._space.keys else stored[""],
            "actions": self._convert_actions(np.asarray(actions)),
        }
        self._check_names(extras)
        converted |= {name: self._convert_extra(name, np.asarray(a)) for name, a in extras.items()}
        rows = len(converted["observations"])
        for name, block in converted.items():
            if len(block) != rows:
                raise FarstepError(
                    f"Episode {self.num_episodes}: observations have {rows} steps and {name}"
                    f" {len(block)}. Every array has one row per observation; the last step's"
                    " action is unused, so repeat one or write zeros there."
                )
        if not self._columns:
            self._open_columns(converted)
        for key, array in given.items():
            self._watch_rounding(part("observations", key), array, stored[key])
        self._watch_rounding("actions", np.asarray(actions), converted["actions"])
        for name, block in converted.items():
            self._columns[name].write(block)
        self._num_steps += rows
        if not self._discrete:
            outside = np.abs(converted["actions"]).max(axis=1, initial=0.0) > 1.0
            self._out_of_range += int(np.count_nonzero(outside))

    def end_episode(self) -> None:
        """Make the last step written the last of its episode.

        Raises:
            FarstepError: the episode would have fewer than two steps.
        """
        if self._open_rows < 2:
            raise FarstepError(
                f"Episode {self.num_episodes} has {self._open_rows} step"
                f"{'s' * (self._open_rows != 1)}; a transition needs two."
            )
        self._ends.append(self._num_steps - 1)
        for rounding in self._rounding.values():
            rounding.end_episode()

    @property
    def _open_rows(self) -> int:
        return self._num_steps - (self._ends[-1] + 1 if self._ends else 0)

    def _arrays(self, observations: Observed) -> dict[str, np.ndarray]:
        """The arrays of some observations by name, in the table's order."""
        if isinstance(observations, Mapping):
            arrays = {name: np.asarray(array) for name, array in observations.items()}
        else:
            arrays = arrays_of(np.asarray(observations))
        expected = self._space.arrays
        if arrays.keys() != expected.keys():
            raise FarstepError(
                f"Episode {self.num_episodes}: observations are"
                f" {', '.join(arrays) or 'one array'}, and the table's are"
                f" {', '.join(expected) or 'one array'}."
            )
        return {name: arrays[name] for name in expected}

    def _convert_observations(self, key: str, block: np.ndarray) -> np.ndarray:
        space, name = self._space.arrays[key], part("observations", key)
        self._check_numeric(name, block)
        if block.shape[1:] != space.shape:
            raise FarstepError(
                f"Episode {self.num_episodes}: {name} have shape {block.shape[1:]} a step,"
                f" and the table {space.shape}."
            )
        if space.dtype == "uint8":
            if block.dtype != np.uint8:
                raise FarstepError(
                    f"Episode {self.num_episodes}: {name} are {block.dtype}, and the table"
                    " is of uint8 pixels."
                )
            return np.ascontiguousarray(block)
        return self._finite(name, block, np.dtype(np.float32))

    def _convert_actions(self, block: np.ndarray) -> np.ndarray:
        self._check_numeric("actions", block)
        shape = () if self._discrete else (self._action_size,)
        if block.shape[1:] != shape:
            raise FarstepError(
                f"Episode {self.num_episodes}: actions have shape {block.shape[1:]} a step, and"
                f" the table {shape}."
            )
        if not self._discrete:
            return self._finite("actions", block, np.dtype(np.float32))
        if block.dtype.kind not in "iu":
            raise FarstepError(
                f"Episode {self.num_episodes}: actions are {block.dtype}, and the table's actions"
                " are discrete: integers."
            )
        wrong = np.flatnonzero((block < 0) | (block >= self._action_size))
        if wrong.size:
            raise FarstepError(
                f"Episode {self.num_episodes}, step {self._open_rows + wrong[0]}: action"
                f" {block[wrong[0]]} is not in [0, {self._action_size})."
            )
        return np.ascontiguousarray(block, dtype="<i4")

    def _convert_extra(self, name: str, block: np.ndarray) -> np.ndarray:
        self._check_numeric(name, block)
        dtype = block.dtype.newbyteorder("<")
        column = self._columns.get(name)
        if column is not None and (block.shape[1:], dtype) != (column.shape, column.dtype):
            raise FarstepError(
                f"Episode {self.num_episodes}: {name} is {block.dtype} {block.shape[1:]} a step,"
                f" and in the episodes before {column.dtype} {column.shape}."
            )
        return self._finite(name, block, dtype)

    def _check_numeric(self, name: str, block: np.ndarray) -> None:
        if block.ndim < 1 or block.dtype.kind not in "biuf":
            raise FarstepError(
                f"Episode {self.num_episodes}: {name} is {block.dtype} of shape {block.shape}; a"
                " table holds rows of numbers."
            )

    def _finite(self, name: str, block: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        # Checked after the conversion, which may overflow.
        with np.errstate(over="ignore"):
            converted = np.ascontiguousarray(block, dtype=dtype)
        if dtype.kind == "f" and not np.isfinite(converted).all():
            where = np.argwhere(~np.isfinite(converted))[0]
            raise FarstepError(
                f"{name} holds {block[tuple(where)]} in episode {self.num_episodes}, step"
                f" {self._open_rows + where[0]}"
                + (f", coordinate {', '.join(map(str, where[1:]))}" if where.size > 1 else "")
                + (
                    f", which {dtype} cannot hold. Scale the numbers."
                    if np.isfinite(block[tuple(where)])
                    else ". Every number must be finite; repair the episode or leave it out."
                )
            )
        return converted

    def _watch_rounding(self, name: str, block: np.ndarray, stored: np.ndarray) -> None:
        if stored.dtype != np.float32 or np.can_cast(block.dtype, np.float32) or not block.size:
            return
        rounding = self._rounding.setdefault(name, Rounding(stored.shape[-1]))
        rounding.update(block.astype(np.float64, copy=False), stored)

    def _check_names(self, extras: Mapping[str, np.ndarray]) -> None:
        if self._staging is None:
            raise RuntimeError("a TableWriter writes inside its `with` block")
        if not self._columns:
            for name in extras:
                if name in RESERVED or not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
                    raise FarstepError(f"'{name}' cannot name an extra array.")
            return
        known = set(self._columns) - {"observations", "actions"}
        for name in sorted(known - set(extras)):
            raise FarstepError(
                f"Episode {self.num_episodes} lacks '{name}', which the episodes before have."
            )
        for name in sorted(set(extras) - known):
            raise FarstepError(
                f"Episode {self.num_episodes} has '{name}', which the episodes before have not."
                + nearest(name, known)
            )

    def _open_columns(self, blocks: Mapping[str, np.ndarray]) -> None:
        assert self._staging is not None
        for name, block in blocks.items():
            self._columns[name] = Column(
                self._staging / f"{name}.npy",
                block.dtype,
                block.shape[1:],
                moments=name in ("observations", "actions"),
            )

    def _finish(self) -> None:
        assert self._staging is not None
        if self._open_rows:
            raise FarstepError(
                f"The last episode was not ended: {self._open_rows} steps are left over."
            )
        if not self._ends:
            raise FarstepError(f"No episode was written, so there is no table at {self._path}.")
        ends = Column(self._staging / "episode_ends.npy", np.dtype("<i8"), (), moments=False)
        self._columns["episode_ends"] = ends
        ends.write(np.array(self._ends, dtype="<i8"))
        arrays = {name: column.finish() for name, column in self._columns.items()}
        statistics = {
            part(name, key): moments.statistics()
            for name, column in self._columns.items()
            for key, moments in column.moments.items()
        }
        manifest = Manifest(
            name=self._name,
            environment=self._environment,
            provenance=self._provenance,
            num_steps=self._num_steps,
            num_episodes=len(self._ends),
            action_size=self._action_size,
            discrete=self._discrete,
            actions_out_of_range=self._out_of_range,
            action_bounds=self._action_bounds(statistics["actions"]),
            arrays=arrays,
            observation=self._space,
            statistics=statistics,
            tasks=self.tasks,
        )
        (self._staging / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")

    def _action_bounds(
        self, actions: Statistics
    ) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        if self._discrete or not self._scale_actions:
            return None
        spans = np.subtract(actions.max, actions.min)
        if not self._out_of_range and not ((spans > 0) & (spans < 2 * NARROW)).any():
            return None
        return actions.min, actions.max

    def _abandon(self, error: BaseException) -> None:
        for column in self._columns.values():
            column.abandon()
        # The staging directory's own block sees the error, and so removes it.
        self._stack.__exit__(type(error), error, error.__traceback__)

    def _explain(self, error: BaseException) -> BaseException:
        if not (isinstance(error, OSError) and error.errno in NO_SPACE):
            return error
        written = sum(column.num_bytes for column in self._columns.values())
        needed = f"more than {format_bytes(written)}"
        if self._expected_steps and self._num_steps:
            needed = format_bytes(written / self._num_steps * self._expected_steps)
        return FarstepError(
            f"No space left to write {self._path} ({error.strerror}): it needs {needed}. Nothing"
            " was left behind. Free some space, or set FARSTEP_DATA to a larger disk."
        )
