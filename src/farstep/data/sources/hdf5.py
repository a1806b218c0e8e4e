"""HDF5 files of any other layout: read by a field map, and explained where there is none.

Either each episode is a group, such as `demo_0/action`; or arrays are flat, all episodes of a file
one after another.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farstep.core.errors import FarstepError
from farstep.data.sources.base import Format, ImportOptions, Source
from farstep.data.sources.flat import END_KEYS, open_flat
from farstep.data.sources.grouped import Group, GroupLayout, grouped_split
from farstep.data.sources.hdf5_file import (
    FLAT,
    arrays_in,
    groups_in,
    hdf5_files,
    in_order,
    is_hdf5,
    opened,
)

OBSERVATIONS = ("observations", "observation", "obs", "states", "state", "qpos")
ACTIONS = ("actions", "action")
"""Common names, in the order in which they are proposed."""

DEPTH = 3
"""Levels of nested groups that are searched for episodes."""

LISTED = 24
"""Arrays that an explanation lists."""


def _open(path: Path, options: ImportOptions) -> Source:
    """Inspect a file or a directory of them; see `Format`."""
    files = hdf5_files(path)
    with opened(files[0]) as file:
        names = episode_groups(file)
        arrays = arrays_in(file[names[0]] if names else file)
        shapes = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
    if not options.observation_key or options.action_key is None:
        raise FarstepError(_explanation(path, files, names, shapes))
    if not names:
        return open_flat(path, options, FLAT)
    groups = []
    for one in files:
        with opened(one) as file:
            groups += [Group(one, name) for name in episode_groups(file)]
    fields = options.fields((), "", shapes, str(groups[0]))
    time_last = _time_last(shapes)
    split = grouped_split(groups, GroupLayout(fields, {}, time_last), options, "hdf5")
    note = "Arrays are (numbers, steps), it seems: steps are taken along the last axis."
    return Source({"train": split}, (note,) if time_last else ())


def episode_groups(file: Any) -> list[str]:
    """The groups that are episodes: the outermost ones that are numbered and hold arrays."""
    level = [("", file)]
    for _ in range(DEPTH):
        for prefix, group in level:
            names = groups_in(group)
            patterns = {re.sub(r"\d+", "#", name) for name in names}
            if len(patterns) == 1 and "#" in patterns.pop() and arrays_in(group[names[0]]):
                return [prefix + name for name in names]
        level = [
            (f"{prefix}{name}/", group[name])
            for prefix, group in level
            for name in groups_in(group)[:LISTED]
        ]
    return []


def _time_last(shapes: Mapping[str, tuple[tuple[int, ...], str]]) -> bool:
    """Whether an episode's matrices agree in their last axis and not in their first."""
    matrices = [shape for shape, _ in shapes.values() if len(shape) == 2]
    firsts, lasts = {m[0] for m in matrices}, {m[-1] for m in matrices}
    return len(firsts) > 1 and max(firsts) - min(firsts) > 1 and max(lasts) - min(lasts) <= 1


def _explanation(
    path: Path,
    files: list[Path],
    names: list[str],
    shapes: Mapping[str, tuple[tuple[int, ...], str]],
) -> str:
    """A message with the arrays that were found and the command to import them."""
    if not shapes:
        return f"{files[0]} is an HDF5 file that holds no arrays of numbers."
    wide = max(map(len, shapes))
    listed = [
        f"  {name:<{wide}}  {shape} {dtype}" for name, (shape, dtype) in [*shapes.items()][:LISTED]
    ]
    if len(shapes) > LISTED:
        listed.append(f"  … {len(shapes)} in all")
    count = f"{len(files)} files" if path.is_dir() else str(path)
    if names:
        found = (
            f"{len(names)} groups like {names[0]}, which are taken for episodes, each of the arrays"
        )
    else:
        found = "the arrays"
    lines = [f"{count}: an HDF5 layout that is not known. There are {found}", *listed]
    seen, done = _proposed(OBSERVATIONS, shapes), _proposed(ACTIONS, shapes)
    command = ["farstep", "data", "import", str(path)]
    command += ["--observation-key", seen or "ARRAY", "--action-key", done or "ARRAY"]
    if not names and not any(name in END_KEYS for name in shapes):
        command += ["--ends", "ARRAY"]
    if _time_last(shapes):
        lines.append("where steps run along the last axis, it seems.")
    if done is None:
        lines.append(
            "None is called like actions, and without actions there is nothing to learn a policy"
            " from."
        )
    lines.append("Say which are the observations (several may be joined) and the actions:")
    lines.append(f"  {shlex.join(command)}")
    if "--ends" in command:
        lines.append(
            "where --ends names the array that is 1 on an episode's last step; if each file is one"
            " episode, say --close-last-episode instead."
        )
    return "\n".join(lines)


def _proposed(names: tuple[str, ...], known: Mapping[str, Any]) -> str | None:
    """The array that is called like one of `names`, the outermost first."""
    for name in names:
        for key in sorted(known, key=lambda one: (one.count("/"), in_order(one))):
            if key.rpartition("/")[2] == name:
                return key
    return None


HDF5 = Format("hdf5", is_hdf5, _open)
