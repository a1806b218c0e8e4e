"""`farstep data export`: a dataset as files for other tools."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from farstep.core.errors import FarstepError
from farstep.core.files import format_bytes
from farstep.data.export import export_npz
from farstep.data.rlds_export import export_rlds
from farstep.data.table import open_dataset


@dataclass(frozen=True)
class DataExport:
    """Write a dataset as OGBench's .npz files, or as RLDS.

    `farstep data export antmaze-giant-stitch --npz antmaze-giant-stitch-v0.npz`

    `farstep data export my-robot --rlds my_robot`

    A validation table goes to a file ending in -val.npz beside the first, or becomes the split val.

    Attributes:
        dataset: a dataset's name, or its directory.
        npz: the file to write, which OGBench's own loader reads.
        rlds: the directory to write, which tensorflow_datasets reads.
        overwrite: replace files that are there.
    """

    dataset: tyro.conf.Positional[str]
    npz: Path | None = None
    rlds: Path | None = None
    overwrite: bool = False

    def run(self) -> None:
        if (self.npz is None) == (self.rlds is None):
            raise FarstepError("Say either --npz FILE.npz or --rlds DIRECTORY.")
        dataset = open_dataset(self.dataset)
        if self.npz is not None:
            files = export_npz(dataset, self.npz, overwrite=self.overwrite)
        else:
            assert self.rlds is not None
            files = export_rlds(dataset, self.rlds, overwrite=self.overwrite)
        for file in files:
            print(f"{file}  {format_bytes(file.stat().st_size)}")
