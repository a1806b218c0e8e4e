"""The manifest of a table, `manifest.json`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from farstep.core.errors import FarstepError
from farstep.core.fields import dataclass_from_dict
from farstep.core.types import Actions, Space, Spaces

FORMAT = "farstep-table"
VERSION = 4
MANIFEST_NAME = "manifest.json"

RESERVED = ("observations", "actions", "episode_ends")
"""Names of the arrays that every table has."""


def stored_space(shape: tuple[int, ...], dtype: str) -> Space:
    """The space of a table's observations: an image of three axes, or a vector.

    Raises:
        FarstepError: neither, or images that are not of bytes.
    """
    return Space(tuple(shape), dtype, "image" if len(shape) == 3 else "vector")


@dataclass(frozen=True)
class ArrayEntry:
    """One `.npy` file: its shape, its dtype, and the SHA-256 of its elements in C order.

    The checksum leaves out the file's header, so that it can be computed while rows are written,
    before their number is known.
    """

    shape: tuple[int, ...]
    dtype: str
    sha256: str


@dataclass(frozen=True)
class Statistics:
    """Moments and range per coordinate of the last axis, over all steps and all other axes.

    For vectors that is per dimension, for pixels per channel, for discrete actions one number.
    `std` is the population's (divided by the count).
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    min: tuple[float, ...]
    max: tuple[float, ...]


@dataclass(frozen=True)
class Manifest:
    """The declaration of one table.

    Attributes:
        name: the dataset's, as published or by its recipe; it stays when the directory is renamed.
        environment: name of the environment that the episodes come from, if known.
        provenance: origin of the data, as given to the writer; JSON values.
        num_steps: N.
        num_episodes: M.
        action_size: dimensions of an action, or how many discrete actions there are.
        discrete: whether actions are integers.
        actions_out_of_range: number of actions with a coordinate outside [-1, 1]
            (0 for discrete actions, which are refused instead).
        action_bounds: what −1 and 1 stand for in each dimension, low and high; `None` where actions
            are used as they are.
        arrays: the files, by name without `.npy`.
        observation: space of a step's observation.
        statistics: statistics of `observations` and `actions`; where observations are several
            arrays, of each as `observations/NAME`.
        tasks: texts that the numbers in the array `language` stand for, if there is one.
    """

    name: str | None
    environment: str | None
    provenance: Mapping[str, Any]
    num_steps: int
    num_episodes: int
    action_size: int
    discrete: bool
    actions_out_of_range: int
    action_bounds: tuple[tuple[float, ...], tuple[float, ...]] | None
    arrays: Mapping[str, ArrayEntry]
    observation: Space
    statistics: Mapping[str, Statistics] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content: equal for equal data, whatever its path or provenance."""
        content = {
            "action_size": self.action_size,
            "discrete": self.discrete,
            "arrays": {name: asdict(entry) for name, entry in self.arrays.items()},
        }
        if self.observation.keys:
            content["observation"] = asdict(self.observation)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def spaces(self) -> Spaces:
        """The shapes and types that networks are built for."""
        return Spaces.from_observation(self.observation, Actions(self.action_size, self.discrete))

    def to_json(self) -> str:
        """The text of `manifest.json`."""
        content = {"format": FORMAT, "version": VERSION, **asdict(self)}
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Manifest:
        """Read `to_json`'s text; `where` names the file in errors.

        Raises:
            FarstepError: not JSON, not a table, of another version, or lacking a field.
        """
        try:
            content = json.loads(text)
            if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
                raise FarstepError(f"{where} is not the manifest of a farstep table.")
            version = content.pop("version")
            if version != VERSION:
                raise FarstepError(
                    f"{where} has format version {version}; this farstep reads version"
                    f" {VERSION}. Import the data again, or install the version that wrote it."
                )
            bounds = content["action_bounds"]
            content["action_bounds"] = bounds and tuple(map(tuple, bounds))
            manifest = dataclass_from_dict(cls, content, where=where)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise FarstepError(
                f"{where} is damaged ({type(error).__name__}: {error}). Import the data again."
            ) from error
        for name in RESERVED:
            if name not in manifest.arrays:
                raise FarstepError(f"{where} lists no '{name}'. Import the data again.")
        return manifest


def table_files(directory: Path) -> list[str]:
    """Names of the files of the table in `directory`; none where it holds no table.

    A manifest that cannot be read, or is of another version, still shows what it lists.
    """
    try:
        names = json.loads((directory / MANIFEST_NAME).read_text(encoding="utf-8"))["arrays"]
    except OSError:
        return []
    except (ValueError, KeyError, TypeError):
        names = ()
    return [MANIFEST_NAME, *(f"{name}.npy" for name in {*RESERVED, *names})]
