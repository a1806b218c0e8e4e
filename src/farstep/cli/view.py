"""`farstep view`: runs and data on a page."""

from __future__ import annotations

import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from farstep.core.errors import FarstepError
from farstep.core.files import check_writable, format_bytes, write_text
from farstep.core.inputs import expanded_path
from farstep.data.table import dataset_names, is_dataset
from farstep.serving.policy import DESCRIPTION
from farstep.training.run import CONFIG, run_paths
from farstep.viewing.maps import MapOptions

EXPORT_BYTES = 2_400_000
"""Most bytes of embeddings in a file, which then stays below 5 MB."""


@dataclass(frozen=True, kw_only=True)
class View:
    """Open a page where goals are clicked: distances, plans, ways, data and runs.

    The page is served at an address of this machine alone, or written into one file that anybody
    can open from disk.
    """

    paths: Annotated[
        tuple[str, ...], tyro.conf.arg(name="RUN", metavar="RUN… [DATASET]"), tyro.conf.Positional
    ]
    """Runs, exported policies or directories of runs, and at the end the data to show them on; the
    first policy's own by default."""
    export: Path | None = None
    """Write the page into this file instead."""
    checkpoint: str = "last"
    """Of runs: `last`, `best`, or a number of updates."""
    coordinates: str | None = None
    """Two columns of the observations to draw states at, such as `0,1`; by default the position in
    a maze, or a map of the embeddings."""
    environment: str | None = None
    """The environment; that of the policy's data by default."""
    landmarks: int = 1000
    """States of the data to plan over, 0 for none. An export keeps those that it came with."""
    episodes: int = 1
    """Episodes of each task that are recorded in an exported page; 0 for none."""
    port: int = 8766
    """Port to listen at; 0 takes a free one."""
    browser: bool = True
    """Open the page in a browser."""

    def run(self) -> None:
        try:
            from farstep.viewing.documents import Documents
            from farstep.viewing.server import serve
        except ImportError as error:
            raise FarstepError(
                f"The viewer needs {error.name}, which is not installed: install farstep with its"
                " extra 'view'."
            ) from error
        for name in ("landmarks", "episodes", "port"):
            if getattr(self, name) < 0:
                raise FarstepError(f"--{name} must be at least 0, not {getattr(self, name)}.")
        if self.export is not None:
            check_writable(self.export)
        runs, data = self._sorted()
        options = MapOptions(
            environment=self.environment,
            coordinates=self._coordinates(),
            landmarks=self.landmarks,
            **({} if self.export is None else {"most_bytes": EXPORT_BYTES}),
        )
        documents = Documents(runs, data, self.checkpoint, options)
        if self.export is None:
            serve(documents, self.port, self._started)
        else:
            text = documents.exported(self.episodes)
            write_text(self.export, text)
            print(f"Page written to {self.export} ({format_bytes(len(text.encode()))})")

    def _started(self, address: str) -> None:
        print(f"Open {address} (Ctrl-C ends it)", flush=True)
        if self.browser:
            webbrowser.open(address)

    def _coordinates(self) -> tuple[int, int] | None:
        if self.coordinates is None:
            return None
        try:
            first, second = (int(word) for word in self.coordinates.split(","))
        except ValueError:
            raise FarstepError(
                f"--coordinates {self.coordinates}: name two columns, such as 0,1."
            ) from None
        return first, second

    def _sorted(self) -> tuple[list[tuple[str, Path]], str | None]:
        """Runs by the names that they are shown by, and the data."""
        runs: list[Path] = []
        data = None
        for word in self.paths:
            path = expanded_path(word)
            found = _runs_below(path)
            if found:
                runs += found
            elif is_dataset(path) or word in dataset_names() or f"{word}-v0" in dataset_names():
                if data is not None:
                    raise FarstepError(f"{data} and {word} are both data: name one dataset.")
                data = word
            else:
                raise FarstepError(
                    f"{word} is neither a run (no {CONFIG}), nor an exported policy (no "
                    f"{DESCRIPTION}), nor a directory of runs, nor a dataset."
                )
        return _named(runs), data


def _runs_below(path: Path) -> list[Path]:
    """The run or exported policy at `path`, or those in it, seeds together."""
    found = _run_or_seeds(path)
    if found or not path.is_dir() or is_dataset(path):
        return found
    return [
        run for child in sorted(path.iterdir()) if child.is_dir() for run in _run_or_seeds(child)
    ]


def _run_or_seeds(path: Path) -> list[Path]:
    if (path / DESCRIPTION).exists():
        return [path]
    try:
        return run_paths(path)
    except FarstepError:
        return []


def _named(runs: list[Path]) -> list[tuple[str, Path]]:
    """Paths by their shortest endings that differ."""
    whole = [run.resolve() for run in runs]
    depth = 1
    while depth < 8 and len({path.parts[-depth:] for path in whole}) < len(set(whole)):
        depth += 1
    return [("/".join(path.parts[-depth:]), run) for path, run in zip(whole, runs, strict=True)]
