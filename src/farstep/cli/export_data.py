"""`farstep data export`: a dataset as files for other tools."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from farstep.core.files import format_bytes
from farstep.data.export import export_npz
from farstep.data.table import open_dataset


@dataclass(frozen=True)
class DataExport:
    """Write a dataset as the .npz files that OGBench's own loader reads.

    `farstep data export antmaze-giant-stitch --npz antmaze-giant-stitch-v0.npz`

    A validation table goes to a file ending in -val.npz beside it.

    Attributes:
        dataset: a dataset's name, or its directory.
        npz: the file to write.
        overwrite: replace files that are there.
    """

    dataset: tyro.conf.Positional[str]
    npz: Path
    overwrite: bool = False

    def run(self) -> None:
        """Export, and say what was written.

        Raises:
            FarstepError: no such dataset, or a file that is there or has another ending.
        """
        for file in export_npz(open_dataset(self.dataset), self.npz, overwrite=self.overwrite):
            print(f"{file}  {format_bytes(file.stat().st_size)}")
