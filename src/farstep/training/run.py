"""The run directory: everything about one run, written so that a crash loses nothing.

config.json     what was asked for
env.json        versions, device, commit
metrics.jsonl   a line every `log_every` updates
eval.jsonl      a line an evaluation
checkpoints/    the latest and the best
plots/          pictures
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax

from farstep.core.errors import FarstepError
from farstep.core.files import write_text
from farstep.training.config import RunConfig

Journal = Literal["metrics", "eval"]

CONFIG = "config.json"


@dataclass(frozen=True)
class Run:
    """An existing run directory. Build one with `create` or `open`."""

    path: Path
    config: RunConfig

    @classmethod
    def create(cls, path: Path, config: RunConfig, *, overwrite: bool = False) -> Run:
        """Make the directory and write what is known before training.

        Raises:
            FarstepError: the directory exists and is not to be overwritten, or is not a run.
        """
        if not overwrite:
            cls.check_absent(path)
        if path.exists():
            if any(path.iterdir()) and not (path / CONFIG).exists():
                raise FarstepError(f"{path} is not a run directory; it is left untouched.")
            shutil.rmtree(path)
        path.mkdir(parents=True)
        write_text(path / "env.json", json.dumps(_environment(), indent=2) + "\n")
        write_text(path / CONFIG, config.to_json())
        return cls(path, config)

    @staticmethod
    def check_absent(path: Path) -> None:
        """Raises FarstepError if something stands at `path` already."""
        if path.exists():
            raise FarstepError(
                f"{path} exists already. Continue it with --resume, replace it with "
                "--overwrite, or choose another place with --out."
            )

    @classmethod
    def open(cls, path: Path) -> Run:
        """A run made earlier.

        Raises:
            FarstepError: there is no run at `path`, or its configuration is damaged.
        """
        source = path / CONFIG
        try:
            text = source.read_text()
        except OSError as error:
            raise FarstepError(f"{path} is not a run directory: it has no {CONFIG}.") from error
        return cls(path, RunConfig.from_json(text, where=str(source)))

    def with_config(self, config: RunConfig) -> Run:
        """The same directory continued under `config`, which is written to it."""
        write_text(self.path / CONFIG, config.to_json())
        return Run(self.path, config)

    def append(self, journal: Journal, record: Mapping[str, Any]) -> None:
        """Add one line to `metrics.jsonl` or `eval.jsonl`, on disk before this returns."""
        with (self.path / f"{journal}.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def records(self, journal: Journal) -> list[dict[str, Any]]:
        """The lines of a journal; a last line cut short by a crash is left out."""
        source = self.path / f"{journal}.jsonl"
        if not source.exists():
            return []
        *lines, _unfinished = source.read_text().split("\n")
        return [json.loads(line) for line in lines]

    def rewind(self, step: int) -> None:
        """Forget journal lines after `step`, where a resumed run continues."""
        for journal in ("metrics", "eval"):
            kept = [record for record in self.records(journal) if record["step"] <= step]
            if (self.path / f"{journal}.jsonl").exists():
                text = "".join(json.dumps(record) + "\n" for record in kept)
                write_text(self.path / f"{journal}.jsonl", text)


def _environment() -> dict[str, Any]:
    distributions = ("farstep", "jax", "jaxlib", "equinox", "optax", "numpy", "ogbench", "mujoco")
    installed = {d.metadata["Name"].lower() for d in importlib.metadata.distributions()}
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": [str(device) for device in jax.devices()],
        "versions": {
            name: importlib.metadata.version(name) for name in distributions if name in installed
        },
        "commit": _commit(),
    }


def _commit() -> str | None:
    """The commit of the checkout that this package runs from, if it is one."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()
