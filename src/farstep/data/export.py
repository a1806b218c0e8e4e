"""A dataset as OGBench's own `.npz` files, for tools that read those."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from farstep.core.errors import FarstepError
from farstep.core.files import check_free_space, whole_file
from farstep.data.table import Dataset


def export_npz(dataset: Dataset, path: Path, *, overwrite: bool = False) -> list[Path]:
    """Write the training table to `path` and the validation table, if any, beside it.

    The files have the published ones' keys (`observations`, `actions`, `terminals` and the extras),
    dtypes and names, so that `ogbench.make_env_and_datasets(..., dataset_path=path)` reads them.

    Args:
        path: ends in `.npz`; the validation file ends in `-val.npz` in its place.
        overwrite: replace files that are there.

    Returns:
        the files written.

    Raises:
        FarstepError: `path` is no name for such a file, a file is there, or it will not fit.
    """
    if path.suffix != ".npz" or path.stem.endswith("-val"):
        raise FarstepError(f"'{path}' must end in .npz, and not in -val.npz.")
    tables = {path: dataset.train}
    if dataset.val is not None:
        tables[path.with_name(f"{path.stem}-val.npz")] = dataset.val
    for file in tables:
        if file.exists() and not overwrite:
            raise FarstepError(f"{file} already exists. Choose another name, or ask to overwrite.")
    # They are compressed, and may not become smaller.
    check_free_space(path, sum(table.num_bytes for table in tables.values()))
    for file, table in tables.items():
        terminals = np.zeros(table.num_steps, bool)
        terminals[table.episode_ends] = True
        with whole_file(file) as unfinished:
            np.savez_compressed(
                unfinished,
                allow_pickle=False,
                **table.arrays,
                terminals=terminals,
            )
    return list(tables)
