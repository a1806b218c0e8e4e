"""`.npz` files of flat arrays: OGBench's published ones, and anybody's own."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from farstep.data.sources.base import Format
from farstep.data.sources.flat import FlatFiles, open_flat
from farstep.data.sources.npz_file import NpzFile


def _recognises(path: Path) -> bool:
    if path.is_dir():
        return any(path.glob("*.npz"))
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


NPZ = Format("npz", _recognises, partial(open_flat, kind=FlatFiles((".npz",), NpzFile)))
