"""Minari's datasets (minari.farama.org) in their HDF5 form, read without Minari.

NAME/data/main_data.hdf5    a group `episode_N` with `observations` of T + 1 rows, `actions` of T
NAME/data/metadata.json     the spaces, as Gymnasium writes them
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from farstep.core.errors import FarstepError
from farstep.data.sources.base import Format, ImportOptions, Source
from farstep.data.sources.grouped import Group, GroupLayout, grouped_split
from farstep.data.sources.hdf5_file import arrays_in, groups_in, opened

MAIN, METADATA = "main_data.hdf5", "metadata.json"


def _data(path: Path) -> Path | None:
    """The directory of the data: `path`, `data` in it, or that of the file `path`."""
    if path.is_file():
        return path.parent if path.name == MAIN else None
    for place in (path, path / "data"):
        if (place / MAIN).is_file() or (place / METADATA).is_file():
            return place
    return None


def _open(path: Path, options: ImportOptions) -> Source:
    """Inspect a dataset; see `Format`."""
    place = _data(path)
    if place is None:
        raise FarstepError(f"{path} holds no {MAIN}, which a Minari dataset has.")
    about = _metadata(place / METADATA)
    if not (place / MAIN).is_file():
        raise FarstepError(
            f"{path} is a Minari dataset in the form '{about.get('data_format')}', and the form"
            " 'hdf5' is read: write it again with data_format='hdf5'."
        )
    main = place / MAIN
    with opened(main) as file:
        groups = [Group(main, name) for name in groups_in(file) if name.startswith("episode_")]
        if not groups:
            raise FarstepError(f"{main} holds no group episode_N: there are no episodes in it.")
        known = arrays_in(file[groups[0].name])
    usual = "observations"
    if usual not in known and f"{usual}/observation" in known:
        usual = f"{usual}/observation"
    if usual not in known and not options.observation_key:
        inner = [name for name in known if name.startswith("observations/")]
        raise FarstepError(
            f"Observations in {main} are several arrays: choose by --observation-key, which may be"
            f" given several times. There are {', '.join(inner) or 'none'}."
        )
    fields = options.fields((usual,), "actions", known, str(groups[0]))
    split = grouped_split(groups, GroupLayout(fields, {}), options, "minari")
    notes = []
    other = [name for name in known if name.startswith("observations/") and name not in fields.keys]
    if other:
        notes.append(f"Not imported: {', '.join(other)}; keep one with --extra.")
    return Source({"train": split}, tuple(notes), _discrete(about))


def _metadata(path: Path) -> dict[str, Any]:
    """The dataset's metadata; empty for datasets older than the metadata file."""
    if not path.is_file():
        return {}
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FarstepError(f"{path} is damaged: {error}.") from error
    return about if isinstance(about, dict) else {}


def _discrete(about: dict[str, Any]) -> int | None:
    """How many discrete actions there are, if they are discrete."""
    try:
        space = json.loads(about["action_space"])
        return int(space["n"]) if space["type"] == "Discrete" else None
    except (KeyError, TypeError, ValueError):
        return None


MINARI = Format("minari", lambda path: _data(path) is not None, _open)
