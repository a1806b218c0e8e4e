"""robomimic's HDF5 files (robomimic.github.io), which LIBERO and MimicGen write too.

data/demo_N/actions       (T, A)
data/demo_N/obs/…         (T, …), an array for each sensor
data/demo_N/next_obs/…    the same one step later, where it was stored
mask/train, mask/valid    names of demonstrations
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from farstep.core.errors import FarstepError
from farstep.data.sources.base import Format, ImportOptions, Source
from farstep.data.sources.grouped import Group, GroupLayout, grouped_split
from farstep.data.sources.hdf5_file import arrays_in, groups_in, hdf5_files, is_hdf5, opened

USUAL = re.compile(r"obs/(robot\d+_eef_pos|robot\d+_eef_quat|robot\d+_gripper_qpos|object)")
"""The sensors that robomimic's own low-dimensional policies see."""


def _recognises(path: Path) -> bool:
    if not is_hdf5(path):
        return False
    with opened(hdf5_files(path)[0]) as file:
        names = _demonstrations(file)
        return bool(names) and "actions" in file[names[0]]


def _demonstrations(file: Any) -> list[str]:
    if "data" not in groups_in(file):
        return []
    return [f"data/{name}" for name in groups_in(file["data"])]


def _open(path: Path, options: ImportOptions) -> Source:
    """Inspect a file or a directory of them; see `Format`."""
    train, val = [], []
    known: dict[str, Any] = {}
    for one in hdf5_files(path):
        with opened(one) as file:
            names = _demonstrations(file)
            if not names:
                raise FarstepError(f"{one} holds no group data/demo_N.")
            if not known:
                known = {name: array.shape for name, array in arrays_in(file[names[0]]).items()}
            held_out = _mask(file, "valid")
            train += [Group(one, name) for name in names if name not in held_out]
            val += [Group(one, name) for name in names if name in held_out]
    if not train:
        raise FarstepError(f"{path}: every demonstration is in its mask 'valid'; none is left.")
    vectors = [name for name, shape in known.items() if name.startswith("obs/") and len(shape) < 3]
    seen = [name for name in vectors if USUAL.fullmatch(name)] or vectors or ["states"]
    notes = []
    if not options.observation_key:
        images = [name for name, shape in known.items() if name[:4] == "obs/" and len(shape) > 2]
        rest = [name for name in (*vectors, *images) if name not in seen]
        also = f"; there are {', '.join(rest)} besides" if rest else ""
        notes.append(f"Observations are {', '.join(seen)}{also}. --observation-key chooses.")
    fields = options.fields(tuple(seen), "actions", known, str(train[0]))
    following = {key: f"next_{key}" for key in fields.keys if f"next_{key}" in known}
    if not following.keys() >= {*fields.observations}:
        following = {}
    layout = GroupLayout(fields, following)
    splits = {"train": grouped_split(train, layout, options, "robomimic")}
    if val:
        splits["val"] = grouped_split(val, layout, options, "robomimic")
    return Source(splits, tuple(notes))


def _mask(file: Any, name: str) -> set[str]:
    """The demonstrations of a filter."""
    mask = file.get(f"mask/{name}")
    if mask is None:
        return set()
    names = (n.decode() if isinstance(n, bytes) else str(n) for n in mask[()].tolist())
    return {f"data/{one}" for one in names}


ROBOMIMIC = Format("robomimic", _recognises, _open)
