"""D4RL's HDF5 files (arXiv 2004.07219): flat `observations`, `actions`, `terminals`, `timeouts`.

`infos/qpos` and `infos/qvel` are kept as `qpos` and `qvel`. `next_observations` is not needed: the
step that ends an episode has no transition here, as in OGBench's files.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from farstep.data.sources.base import Format
from farstep.data.sources.flat import open_flat
from farstep.data.sources.hdf5_file import FLAT, hdf5_files, is_hdf5, opened


def _recognises(path: Path) -> bool:
    if not is_hdf5(path):
        return False
    import h5py

    with opened(hdf5_files(path)[0]) as file:
        return all(
            file.get(name, getclass=True) is h5py.Dataset for name in ("observations", "actions")
        )


D4RL = Format("d4rl", _recognises, partial(open_flat, kind=FLAT))
