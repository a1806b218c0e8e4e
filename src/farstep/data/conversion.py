"""Conversion of logged rows to rows of a table: vectors, images, actions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain

import numpy as np

from farstep.core.arrays import arrays_of, part, record
from farstep.core.errors import FarstepError
from farstep.core.types import Actions, Space, Spaces
from farstep.data.episodes import Episode, Split, located
from farstep.data.sources.base import ImportOptions


class Conversion:
    """Turns a source's episodes into a table's. Build one with `from_split`.

    Attributes:
        spaces: spaces of the table.
        row_bytes: bytes of a step in the table.
        logged_bytes: bytes of a step as it was logged.
    """

    def __init__(self, first: Episode, options: ImportOptions) -> None:
        with located(first.where):
            self._options = options
            actions = first.actions
            self._arrays = {
                key: _Rows(array, options.observations, part("observations", key))
                for key, array in arrays_of(first.observations).items()
            }
            discrete = options.num_actions is not None
            size = options.num_actions or self._action_size(actions)
            if discrete:
                _check_index_shape(actions)
            found = {key: rows.space for key, rows in self._arrays.items()}
            space = found[""] if "" in found else Space.several(found)
            self.spaces = Spaces.from_observation(space, Actions(size, discrete))
        logged = [first.observations, actions, *first.extras.values()]
        self.logged_bytes = -(-sum(array.nbytes for array in logged) // len(actions))
        extras = sum(array[:1].nbytes for array in first.extras.values())
        self.row_bytes = space.row.itemsize + (4 if discrete else 4 * size) + extras + 4
        self._outside = self._steps = self._dropped = 0
        self._low = self._high = 0.0

    @classmethod
    def from_split(cls, split: Split, options: ImportOptions) -> tuple[Conversion, Split]:
        """The conversion for episodes like the first of `split`, and the split again.

        Raises:
            FarstepError: there is none, or it has the shape of no observation or no action.
        """
        episodes = iter(split.episodes)
        first = next(episodes, None)
        if first is None:
            named = f" whose task or name is like '{options.only}'" if options.only else ""
            raise FarstepError(f"There is no episode to import{named}.")
        return cls(first, options), replace(split, episodes=chain([first], episodes))

    def __call__(self, episodes: Iterable[Episode]) -> Iterator[Episode]:
        """The episodes, converted lazily.

        Raises:
            FarstepError: pixels or indices out of range; says where.
        """
        inside = False
        for episode in episodes:
            single = len(episode.observations) == 1 and episode.ends and not inside
            inside = not episode.ends
            if single and self._options.one_step_episodes == "drop":
                self._dropped += 1
                continue
            with located(episode.where):
                given = arrays_of(np.asarray(episode.observations))
                arrays = {key: rows(given[key]) for key, rows in self._arrays.items()}
                observations = record(arrays) if self.spaces.observation.keys else arrays[""]
                actions = self._actions(np.asarray(episode.actions))
            yield replace(episode, observations=observations, actions=actions)

    def check(self) -> None:
        """Refuse, once all is read, actions out of range if they are to be refused.

        Raises:
            FarstepError: some are.
        """
        if self._outside and self._options.out_of_range == "error":
            raise FarstepError(f"{self._seen()}. Import with --out-of-range scale, clip or keep.")

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user."""
        notes = [note for rows in self._arrays.values() for note in rows.notes]
        if self._dropped:
            notes.append(f"{self._dropped} episodes of one step were left out.")
        if self._outside:
            done = {
                "clip": "were clipped",
                "scale": "are scaled from their bounds, and policies act in these units",
            }.get(self._options.out_of_range or "scale", "are kept as they are")
            notes.append(f"{self._seen()}; they {done}.")
        return tuple(notes)

    def _seen(self) -> str:
        return (
            f"{self._outside} of {self._steps} actions lie outside [-1, 1]"
            f" (range {self._low:.4g} to {self._high:.4g})"
        )

    def _action_size(self, rows: np.ndarray) -> int:
        if rows.dtype.kind in "biu" and (rows.ndim == 1 or rows.shape[1:] == (1,)):
            raise FarstepError(
                "actions are integers, one a step. If they are indices, say how many different ones"
                " there are (--num-actions), since the data cannot tell; if they are amounts, save"
                " them as floats."
            )
        if rows.ndim != 2:
            raise FarstepError(f"actions have rows {rows.shape[1:]}; (N, A) is needed.")
        return rows.shape[1]

    def _actions(self, rows: np.ndarray) -> np.ndarray:
        self._steps += len(rows)
        if self.spaces.action.discrete:
            return _indices(rows)
        if rows.size and rows.dtype.kind in "biuf":
            low, high = float(rows.min()), float(rows.max())
            if not (low >= -1 and high <= 1):
                self._outside += int(np.count_nonzero(((rows < -1) | (rows > 1)).any(axis=-1)))
                self._low, self._high = min(self._low, low), max(self._high, high)
                if self._options.out_of_range == "clip":
                    # NaN stays, and is refused by the table.
                    return np.clip(rows, -1, 1)
        return rows


def _check_index_shape(rows: np.ndarray) -> None:
    if rows.shape[1:] not in ((), (1,)):
        raise FarstepError(
            f"actions have rows {rows.shape[1:]}, and discrete ones need (N,): an index a step."
            " Of one-hot rows, numpy.argmax(actions, axis=1) gives it."
        )


def _indices(rows: np.ndarray) -> np.ndarray:
    """Rows of one number each as integers, if they are whole."""
    _check_index_shape(rows)
    rows = rows.reshape(len(rows))
    if rows.dtype.kind != "f":
        return rows
    broken = rows[rows != np.rint(rows)]
    if broken.size:
        raise FarstepError(f"action {broken[0]:.4g} is no index: discrete actions are integers.")
    return rows.astype(np.int64)


class _Rows:
    """Turns the rows of one array of observations into vectors or images.

    Args:
        first: the first rows, whose shape all others have.
        declared: the layout that the user declares, or `auto`.
        name: name of the array in messages.

    Attributes:
        space: space of the result.
        notes: notes for the user.
    """

    def __init__(self, first: np.ndarray, declared: str, name: str) -> None:
        self.notes: list[str] = []
        self._name = name
        self._unit_pixels: bool | None = None
        self._layout = self._layout_of(first, declared)
        # One row tells the shape; its pixels tell nothing yet.
        shape = self._arranged(first[:1]).shape[1:]
        self.space = Space(shape) if self._layout == "vector" else Space(shape, "uint8", "image")

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """The rows, converted.

        Raises:
            FarstepError: pixels out of range.
        """
        arranged = self._arranged(rows)
        return arranged if self._layout == "vector" else self._pixels(arranged)

    def _layout_of(self, rows: np.ndarray, declared: str) -> str:
        """`vector`, `hwc`, `chw`, or `hw` of a greyscale image."""
        shape, name = rows.shape[1:], self._name
        if not shape:
            raise FarstepError(
                f"{name} have shape (N,); a row of numbers is needed for each step, so (N, 1)"
                " for a single number."
            )
        if declared == "vector" or len(shape) == 1:
            if declared in ("hwc", "chw"):
                raise FarstepError(f"{name} have rows {shape}, which are no images.")
            if rows.dtype == np.uint8 and declared == "auto":
                self.notes.append("Vectors of uint8 are stored as float32.")
            return "vector"
        if len(shape) > 3:
            raise FarstepError(
                f"{name} have rows {shape}: stacked frames, it seems. Store one frame"
                " (H, W, C) a step, or the frames as channels of one; or lay the rows flat with"
                " --observations vector."
            )
        if len(shape) == 2 and (declared == "hwc" or rows.dtype == np.uint8):
            self.notes.append(f"Rows {shape} are taken for greyscale images, of one channel.")
            return "hw"
        if len(shape) == 2:
            raise FarstepError(
                f"{name} have rows {shape}, neither vectors nor images: lay them flat with"
                " --observations vector, or say --observations hwc of greyscale images."
            )
        if declared != "auto":
            return declared
        first, middle, last = rows.shape[1:]
        if not (first < min(middle, last) or last < min(first, middle)):
            raise FarstepError(
                f"{name} have rows {shape}, and nothing tells which axis the channels are:"
                " say --observations hwc or chw, or lay the rows flat with --observations vector."
            )
        if first < last:
            self.notes.append(
                f"Rows {shape} are taken for images with channels first, and stored with channels"
                " last; --observations hwc denies it."
            )
            return "chw"
        return "hwc"

    def _arranged(self, rows: np.ndarray) -> np.ndarray:
        """Rows as vectors (N, D), or as images (N, H, W, C)."""
        match self._layout:
            case "vector":
                return rows.reshape(len(rows), -1)
            case "chw":
                return rows.transpose(0, 2, 3, 1)
            case "hw":
                return rows[..., None]
            case _:
                return rows

    def _pixels(self, images: np.ndarray) -> np.ndarray:
        """Images as bytes. What the first rows hold tells whether floats reach from 0 to 1."""
        if images.dtype == np.uint8 or images.dtype.kind not in "biuf":
            return images
        low, high = float(images.min()), float(images.max())
        floats = images.dtype.kind == "f"
        if self._unit_pixels is None:
            self._unit_pixels = images.dtype.kind == "b" or (floats and high <= 1)
            if floats:
                scale = "[0, 1]" if self._unit_pixels else "[0, 255]"
                self.notes.append(f"Images of {images.dtype} in {scale} are stored as uint8.")
        most = 1 if self._unit_pixels else 255
        if not (low >= 0 and high <= most):
            raise FarstepError(
                f"pixels reach from {low:.4g} to {high:.4g}, outside [0, {most}]. Images are uint8"
                " in [0, 255], or floats in [0, 1] throughout: scale them in the file."
            )
        scaled = images * 255.0 if self._unit_pixels else images
        whole = np.rint(scaled)
        if not self._unit_pixels and not np.array_equal(whole, scaled):
            raise FarstepError(
                f"pixels reach from {low:.4g} to {high:.4g} and are no whole numbers. Images are"
                " uint8 in [0, 255], or floats in [0, 1]: scale them in the file."
            )
        return whole.astype(np.uint8)
